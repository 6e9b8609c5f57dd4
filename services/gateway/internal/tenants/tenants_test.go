package tenants_test

import (
	"strings"
	"sync"
	"testing"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/tenants"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

const (
	everybodys = "https://help.example.com"
	fjords     = "https://fjord.example.com"
	alps       = "https://alps.example.com"
)

func both() tenants.Config {
	return tenants.Config{
		AllowedOrigins: []string{everybodys},
		Tenants: []tenants.Tenant{
			{AccountID: "FJORDS", AllowedOrigins: []string{fjords}},
			{AccountID: "ALPINE", AllowedOrigins: []string{alps}},
		},
	}
}

func TestOriginsAreOfTheirTenantAlone(t *testing.T) {
	b := tenants.NewBook(both())
	for _, tc := range []struct {
		account, origin string
		want            bool
	}{
		{"FJORDS", fjords, true},
		{"FJORDS", strings.ToUpper(fjords), true},
		{"FJORDS", alps, false},
		{"FJORDS", everybodys, true},
		{"ALPINE", alps, true},
		{"ALPINE", fjords, false},
		{"NOBODY", fjords, false},
		{"FJORDS", "https://fjord.example.com.evil.example", false},
		{"FJORDS", "http://fjord.example.com", false},
		{"FJORDS", "null", false},
		{"FJORDS", "", false},
	} {
		if got := b.Allows(tc.account, tc.origin); got != tc.want {
			t.Errorf("%s with a token of %s: %v", tc.origin, tc.account, got)
		}
	}
	if !b.AllowsAny(fjords) || !b.AllowsAny(alps) || !b.AllowsAny(everybodys) || b.AllowsAny("https://evil.example") {
		t.Error("before the account is known, those of every tenant are allowed and no others")
	}
}

func TestAnAccountThatIsNotListedIsRefused(t *testing.T) {
	b := tenants.NewBook(tenants.Config{})
	if err := b.Admit("ANYONE"); err != nil || b.Listed() {
		t.Errorf("without a list everybody is served: %v", err)
	}
	b.Set(both())
	if err := b.Admit("FJORDS"); err != nil || !b.Listed() {
		t.Error(err)
	}
	for _, account := range []string{"ANYONE", "fjords", ""} {
		if err := b.Admit(account); errs.From(err).Reason != axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN {
			t.Errorf("%q: %v", account, err)
		}
	}
}

// TestTheBookIsReplacedWhole has readers that see one configuration or the
// other, never something between.
func TestTheBookIsReplacedWhole(t *testing.T) {
	b := tenants.NewBook(both())
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 2000 {
				if tenant, ok := b.Tenant("FJORDS"); ok && len(tenant.AllowedOrigins) != 1 {
					t.Errorf("half of a tenant: %+v", tenant)
				}
				b.Allows("FJORDS", fjords)
			}
		})
	}
	for range 500 {
		b.Set(tenants.Config{Tenants: []tenants.Tenant{{AccountID: "ALPINE"}}})
		b.Set(both())
	}
	group.Wait()
}

func TestMistakesNameTheirTenant(t *testing.T) {
	c := both()
	c.AllowedOrigins = []string{"*"}
	c.Tenants = append(c.Tenants,
		tenants.Tenant{AccountID: "FJORDS"},
		tenants.Tenant{AccountID: "FJORD1"},
		tenants.Tenant{AccountID: "GLADES", AllowedOrigins: []string{"https://a.example/path"}},
	)
	got := config.Errors(c.Validate()).Error()
	for _, want := range []string{"HTTP_ALLOWED_ORIGINS", "tenants[2].account_id: is there twice", "tenants[3].account_id: must be six letters", "tenants[4].allowed_origins"} {
		if !strings.Contains(got, want) {
			t.Errorf("no word of %s in %s", want, got)
		}
	}
	c = both()
	if ms := c.Validate(); len(ms) > 0 {
		t.Error(ms)
	}
}
