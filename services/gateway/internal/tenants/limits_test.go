package tenants_test

import (
	"log/slog"
	"testing"

	"go.opentelemetry.io/otel/metric/noop"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/limits"
	"github.com/axpchat/connector/services/gateway/internal/tenants"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// loaded is a configuration of a file over some settings.
func loaded(t *testing.T, file string) (tenants.Config, limits.Config, error) {
	t.Helper()
	var cfg struct {
		Tenants tenants.Config
		Limits  limits.Config
	}
	env := map[string]string{"CONFIG_FILE": "f.yaml", "LIMIT_ACCOUNT_MESSAGES": "2/24h", "LIMIT_ACCOUNT_STREAMS": "1"}
	err := config.Load(&cfg, config.Sources{
		Lookup:   func(key string) (string, bool) { v, ok := env[key]; return v, ok },
		ReadFile: func(string) ([]byte, error) { return []byte(file), nil },
	})
	return cfg.Tenants, cfg.Limits, err
}

// TestATenantsLimits take the place of the deployment's, one by one, and change
// while the gateway runs.
func TestATenantsLimits(t *testing.T) {
	list, deployment, err := loaded(t, "tenants:\n- account_id: FJORDS\n  limit_messages: 5/24h\n- account_id: ALPINE\n- account_id: MARINE\n  limit_messages: off\n  limit_streams: 3\n")
	if err != nil {
		t.Fatal(err)
	}
	book := tenants.NewBook(list)
	l, err := limits.New(limits.Params{Config: deployment, Log: slog.New(slog.DiscardHandler), Meter: noop.NewMeterProvider(), Account: book.Limits})
	if err != nil {
		t.Fatal(err)
	}
	given := func(account string) (messages, streams int) {
		t.Helper()
		who := limits.Who{Account: account, Subject: "ada"}
		var err error
		for ; messages < 20 && err == nil; messages++ {
			err = l.Call(t.Context(), who, limits.Cost{limits.Messages: 1})
		}
		if err != nil {
			messages--
		}
		var open []*limits.Stream
		for len(open) < 20 {
			s, err := l.Hold(t.Context(), who)
			if !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED) && err != nil {
				t.Fatal(err)
			}
			if err != nil {
				break
			}
			open = append(open, s)
		}
		for _, s := range open {
			s.Close()
		}
		return messages, len(open)
	}
	for account, want := range map[string][2]int{"FJORDS": {5, 1}, "ALPINE": {2, 1}, "MARINE": {20, 3}} {
		if messages, streams := given(account); messages != want[0] || streams != want[1] {
			t.Errorf("%s: %d messages and %d streams, want %v", account, messages, streams, want)
		}
	}
	if list, _, err = loaded(t, "tenants:\n- account_id: ALPINE\n  limit_messages: 9/24h\n  limit_streams: 4\n"); err != nil {
		t.Fatal(err)
	}
	book.Set(list)
	// A bucket that was empty is: it is the time that counts.
	if messages, streams := given("ALPINE"); messages != 0 || streams != 4 {
		t.Errorf("after the change: %d messages and %d streams", messages, streams)
	}
}

func TestATenantsLimitsAreChecked(t *testing.T) {
	for _, text := range []string{"limit_messages: many", "limit_messages: 5", "limit_streams: -1", "limit_words: 5/1m"} {
		if _, _, err := loaded(t, "tenants:\n- account_id: FJORDS\n  "+text+"\n"); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}
