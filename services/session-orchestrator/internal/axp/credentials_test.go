package axp_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// rotation is an AXP whose secret is changed: it grants tokens for the secret
// that is right at the moment, each after a while, and accepts those that it has
// granted unless they were revoked.
type rotation struct {
	mu      sync.Mutex
	right   string
	delay   time.Duration
	asked   []string // secrets, in the order of their requests
	revoked string   // prefix of tokens that are not accepted
	used    []string
	keys    []string
}

func (r *rotation) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path == tokenPath {
		body, _ := io.ReadAll(req.Body)
		form, _ := url.ParseQuery(string(body))
		secret := form.Get("client_secret")
		r.mu.Lock()
		r.asked = append(r.asked, secret)
		n, delay := len(r.asked), r.delay
		r.mu.Unlock()
		if err := (axp.SystemClock{}).Sleep(req.Context(), delay); err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if secret != r.right {
			return reply(401, `{"error":"invalid_client"}`), nil
		}
		return reply(200, fmt.Sprintf(`{"access_token":"%s-%d","expires_in":900}`, secret, n)), nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	token := req.Header.Get("Authorization")[len("Bearer "):]
	if r.revoked != "" && len(token) > len(r.revoked) && token[:len(r.revoked)] == r.revoked {
		return reply(401, `{}`), nil
	}
	r.used, r.keys = append(r.used, token), append(r.keys, req.Header.Get("Appkey"))
	return reply(200, sessionJSON), nil
}

func (r *rotation) set(change func(*rotation)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *rotation) last() (token, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used[len(r.used)-1], r.keys[len(r.keys)-1]
}

func with(secret, key string) axp.Account {
	a := testAccountAt("https://axp.example")
	a.ClientSecret, a.AppKey = config.Secret(secret), config.Secret(key)
	return a
}

func TestANewSecretCostsNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &rotation{right: "old", delay: time.Second}
		c := wiredClient(t, w)
		c.SetCredentials(with("old", "key-1"))
		call := func() time.Duration {
			t.Helper()
			began := time.Now()
			if _, err := c.GetSession(t.Context(), id1); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		call()
		w.set(func(r *rotation) { r.right = "new" })
		c.SetCredentials(with("new", "key-2"))
		for range 3 { // while the new token is asked for
			if took := call(); took != 0 {
				t.Errorf("a call waited %v", took)
			}
			if token, key := w.last(); token != "old-1" || key != "key-2" {
				t.Errorf("called with %s and %s", token, key)
			}
		}
		wait(t, 2*time.Second)
		call()
		if token, _ := w.last(); token != "new-2" {
			t.Errorf("called with %s", token)
		}
	})
}

// TestAnOldTokenThatIsRevokedIsReplaced: AXP may end what the old secret got.
func TestAnOldTokenThatIsRevokedIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &rotation{right: "old"}
		c := wiredClient(t, w)
		c.SetCredentials(with("old", "key"))
		if _, err := c.GetSession(t.Context(), id1); err != nil {
			t.Fatal(err)
		}
		w.set(func(r *rotation) { r.right, r.revoked = "new", "old" })
		c.SetCredentials(with("new", "key"))
		if _, err := c.GetSession(t.Context(), id1); err != nil {
			t.Error(err)
		}
	})
}

// TestASecretThatIsMendedHelpsAtOnce: neither the pause after a refusal nor a
// request that is under way with the wrong secret keeps a call from succeeding.
func TestASecretThatIsMendedHelpsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &rotation{right: "new"}
		c := wiredClient(t, w)
		c.SetCredentials(with("old", "key"))
		if err := c.CheckCredentials(t.Context()); !axp.IsCredentials(err) {
			t.Fatalf("got %v", err)
		}
		c.SetCredentials(with("new", "key"))
		if _, err := c.GetSession(t.Context(), id1); err != nil {
			t.Errorf("after the refusal: %v", err)
		}

		w = &rotation{right: "new", delay: time.Second}
		c = wiredClient(t, w)
		c.SetCredentials(with("old", "key"))
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() {
				if _, err := c.GetSession(t.Context(), id1); err != nil {
					t.Errorf("a call that waits for a token: %v", err)
				}
			})
		}
		synctest.Wait()
		c.SetCredentials(with("new", "key"))
		group.Wait()
	})
}

func TestWhatAnAccountIsComparedBy(t *testing.T) {
	t.Parallel()
	a := with("s", "k")
	same := func(change func(*axp.Account)) bool {
		b := a
		change(&b)
		return a.SameBut(b) && b.SameBut(a)
	}
	for name, tc := range map[string]struct {
		change func(*axp.Account)
		want   bool
	}{
		"nothing":           {func(*axp.Account) {}, true},
		"secret":            {func(a *axp.Account) { a.ClientSecret = "other" }, true},
		"client":            {func(a *axp.Account) { a.ClientID = "other" }, true},
		"application key":   {func(a *axp.Account) { a.AppKey = "other" }, true},
		"the usual channel": {func(a *axp.Account) { a.ChannelID = axp.DefaultChannelID }, true},
		"an empty list":     {func(a *axp.Account) { a.MediaHosts = []string{} }, true},
		"origin":            {func(a *axp.Account) { a.BaseURL = "https://other.example" }, false},
		"provider":          {func(a *axp.Account) { a.ChannelProviderID = "other" }, false},
		"media hosts":       {func(a *axp.Account) { a.MediaHosts = []string{"media.example"} }, false},
		"limit":             {func(a *axp.Account) { a.ConcurrencyMax = 3 }, false},
	} {
		if got := same(tc.change); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
