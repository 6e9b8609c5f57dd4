package axp_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// guard is an AXP that looks at credentials: it answers bad where it is not 0,
// for tokens or for all other calls.
type guard struct {
	mu            sync.Mutex
	badToken      int
	badCall       string // body of a 401; empty: accepted
	tokens, calls int
	asked         []time.Time
	only          string // the part of a path that badCall concerns
}

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.URL.Path == tokenPath {
		g.tokens++
		g.asked = append(g.asked, time.Now())
		if g.badToken != 0 {
			return reply(g.badToken, `{"error":"unauthorized_client"}`), nil
		}
		return reply(200, fmt.Sprintf(`{"access_token":"token-%d","expires_in":900}`, g.tokens)), nil
	}
	g.calls++
	if g.badCall != "" && strings.Contains(r.URL.Path, g.only) {
		return reply(401, g.badCall), nil
	}
	if strings.Contains(r.URL.Path, "subscriptions") {
		return reply(200, "[]"), nil
	}
	return reply(200, sessionJSON), nil
}

func (g *guard) set(change func(g *guard)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(g)
}

func (g *guard) counts() (tokens, calls int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tokens, g.calls
}

// insist makes ten calls a second, all at the same moment, for d.
func insist(t *testing.T, c *axp.Client, d time.Duration) {
	t.Helper()
	for range int(d / time.Second) {
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				began := time.Now()
				err := get(t.Context(), c)
				if e := reasonOf(t, err); e.Reason != axpchatv1.ErrorReason_ERROR_REASON_AXP_CREDENTIALS || time.Since(began) != 0 {
					t.Errorf("got %v after %v, want AXP_CREDENTIALS at once", err, time.Since(began))
				}
			})
		}
		wg.Wait()
		wait(t, time.Second)
	}
}

func TestRefusedCredentialsBringNoStorm(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("SEED=%d", seed)
	for name, tc := range map[string]struct {
		bad           func(g *guard)
		tokens, calls int // at most, within ten minutes of a thousand calls each
	}{
		"the secret is wrong (400)":    {func(g *guard) { g.badToken = 400 }, 25, 0},
		"the secret is wrong (401)":    {func(g *guard) { g.badToken = 401 }, 25, 0},
		"the client is not let (403)":  {func(g *guard) { g.badToken = 403 }, 25, 0},
		"no token is accepted":         {func(g *guard) { g.badCall = `{"detail":"[Access-Token]"}` }, 30, 60},
		"the application key is wrong": {func(g *guard) { g.badCall = `{"detail":"[Appkey]"}` }, 1, 40},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				var mu sync.Mutex
				random := rand.New(rand.NewPCG(seed, seed))
				g := &guard{}
				tc.bad(g)
				c := newClient(t, "https://axp.example", func(p *axp.Params) {
					p.Transport, p.Clock = g, axp.SystemClock{}
					p.Log = slog.New(slog.NewTextHandler(&log, nil))
					p.Jitter = func() float64 {
						mu.Lock()
						defer mu.Unlock()
						return random.Float64()
					}
				})
				insist(t, c, 10*time.Minute)
				if tokens, calls := g.counts(); tokens > tc.tokens || calls > tc.calls {
					t.Errorf("asked for %d tokens and made %d calls, want at most %d and %d", tokens, calls, tc.tokens, tc.calls)
				}
				if err := c.CredentialsStatus(); !axp.IsCredentials(err) {
					t.Errorf("status is %v, want the refusal", err)
				}
				g.set(func(g *guard) { g.badToken, g.badCall = 0, "" })
				wait(t, time.Minute)
				for range 10 {
					if err := get(t.Context(), c); err != nil {
						t.Errorf("a minute after it was mended: %v", err)
					}
				}
				if err := c.CredentialsStatus(); err != nil {
					t.Errorf("status is %v after it was mended", err)
				}
				if lines := strings.Count(log.String(), "level="); lines != 2 || strings.Count(log.String(), "level=ERROR") != 1 {
					t.Errorf("want one line for the refusal and one for its end, got:\n%s", log.String())
				}
			})
		})
	}
}

func TestRenewalsAfterARefusalAreSpread(t *testing.T) {
	gaps := func(jitter float64) (out []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			g := &guard{badToken: 401}
			c := newClient(t, "https://axp.example", func(p *axp.Params) {
				p.Transport, p.Clock, p.Jitter = g, axp.SystemClock{}, func() float64 { return jitter }
			})
			insist(t, c, 5*time.Minute)
			for i := 1; i < len(g.asked); i++ {
				out = append(out, g.asked[i].Sub(g.asked[i-1]))
			}
		})
		return out
	}
	longest, shortest := gaps(1), gaps(0)
	if got := longest[len(longest)-1]; got < 59*time.Second || got > 61*time.Second {
		t.Errorf("at most %v between two renewals, want a minute", got)
	}
	if got := shortest[len(shortest)-1]; got < 29*time.Second || got > 31*time.Second {
		t.Errorf("at least %v between two renewals, want half a minute: else all replicas ask together", got)
	}
}

func TestRightThatOnlyOneInterfaceLacksStopsNoChat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guard{badCall: `{"detail":"[Access-Token]"}`, only: "subscriptions"}
		c := newClient(t, "https://axp.example", once, func(p *axp.Params) { p.Transport = g })
		for range 20 {
			if _, err := c.ListSubscriptions(t.Context(), ""); !axp.IsCredentials(err) {
				t.Errorf("got %v, want the refusal", err)
			}
			wait(t, time.Second)
		}
		if err := get(t.Context(), c); err != nil {
			t.Errorf("a chat's call: %v", err)
		}
	})
}

func TestTokensRevokedEarlyAreSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		tokens, revoked := 0, 0
		c := newClient(t, "https://axp.example", once, func(p *axp.Params) {
			p.Transport = wire(func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				defer mu.Unlock()
				if r.URL.Path == tokenPath {
					tokens++
					return reply(200, fmt.Sprintf(`{"access_token":"token-%d","expires_in":900}`, tokens)), nil
				}
				var n int
				if _, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer token-%d", &n); err != nil || n <= revoked {
					return reply(401, `{"detail":"[Access-Token]"}`), nil
				}
				return reply(200, sessionJSON), nil
			})
		})
		for range 50 {
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					if err := get(t.Context(), c); err != nil {
						t.Errorf("after an early revocation: %v", err)
					}
				})
			}
			wg.Wait()
			mu.Lock()
			revoked = tokens
			mu.Unlock()
			wait(t, time.Second)
		}
		if tokens != 50 {
			t.Errorf("asked for %d tokens, want 50: one after each revocation", tokens)
		}
	})
}
