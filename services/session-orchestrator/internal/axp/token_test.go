package axp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// wire answers requests without a network, so that a test can own time.
type wire func(r *http.Request) (*http.Response, error)

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) { return w(r) }

func reply(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// tokenWire grants tokens that live life seconds, each after taking delay, and
// accepts every call.
type tokenWire struct {
	mu       sync.Mutex
	delay    time.Duration
	life     string
	fail     *http.Response // instead of a token
	asked    []time.Time
	used     []string
	inFlight int
	most     int
}

func (w *tokenWire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.URL.Path != tokenPath {
		w.used = append(w.used, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		return reply(200, sessionJSON), nil
	}
	w.asked = append(w.asked, time.Now())
	n := len(w.asked)
	w.inFlight++
	w.most = max(w.most, w.inFlight)
	if w.delay > 0 {
		w.mu.Unlock()
		err := axp.SystemClock{}.Sleep(r.Context(), w.delay)
		w.mu.Lock()
		if err != nil {
			w.inFlight--
			return nil, err
		}
	}
	w.inFlight--
	if w.fail != nil {
		return reply(w.fail.StatusCode, `{"error":"invalid_client"}`), nil
	}
	return reply(200, fmt.Sprintf(`{"access_token":"token-%d","expires_in":%s}`, n, w.life)), nil
}

func (w *tokenWire) set(change func(w *tokenWire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *tokenWire) counts() (asked, most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked), w.most
}

func (w *tokenWire) lastUsed() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.used[len(w.used)-1]
}

func wiredClient(t *testing.T, w http.RoundTripper) *axp.Client {
	t.Helper()
	return newClient(t, "https://axp.example", func(p *axp.Params) {
		p.Transport = w
		p.Clock = axp.SystemClock{}
	})
}

func TestOneRenewalServesAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWire{delay: time.Second, life: "900"}
		c := wiredClient(t, w)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := c.GetSession(t.Context(), id1); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if asked, _ := w.counts(); asked != 1 {
			t.Errorf("asked for %d tokens, want 1", asked)
		}
	})
}

func TestRenewalAheadOfExpiryMakesNobodyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWire{life: "900"}
		c := wiredClient(t, w)
		call := func() time.Duration {
			began := time.Now()
			if _, err := c.GetSession(t.Context(), id1); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		call()
		wait(t, 719*time.Second)
		call()
		if asked, _ := w.counts(); asked != 1 {
			t.Fatalf("asked for %d tokens before 80%% of the life, want 1", asked)
		}
		w.set(func(w *tokenWire) { w.delay = 30 * time.Second / 4 })
		wait(t, 2*time.Second)
		for range 20 {
			if took := call(); took != 0 || w.lastUsed() != "token-1" {
				t.Fatalf("a call waited %v with %s, want the old token at once", took, w.lastUsed())
			}
		}
		wait(t, 10*time.Second)
		call()
		asked, most := w.counts()
		if asked != 2 || most != 1 || w.lastUsed() != "token-2" {
			t.Errorf("asked for %d tokens, %d at a time, used %s; want 2, 1, token-2", asked, most, w.lastUsed())
		}
	})
}

func TestExpiredTokenIsNotUsed(t *testing.T) {
	for life, lives := range map[string]time.Duration{
		"900":     900 * time.Second,
		`"900"`:   900 * time.Second, // a string
		"900.0":   900 * time.Second,
		"null":    time.Minute, // none: a short life is assumed
		"-1":      time.Minute,
		"2":       2 * time.Second,
		"9999999": 24 * time.Hour, // not believed beyond a day
	} {
		t.Run(life, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &tokenWire{life: life}
				c := wiredClient(t, w)
				for range 2 {
					if _, err := c.GetSession(t.Context(), id1); err != nil {
						t.Fatal(err)
					}
					wait(t, lives)
				}
				if w.lastUsed() != "token-2" {
					t.Errorf("used %s after its life, want token-2", w.lastUsed())
				}
			})
		})
	}
}

func TestCallerWhoLeavesDoesNotEndTheRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWire{delay: 2 * time.Second, life: "900"}
		c := wiredClient(t, w)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := c.GetSession(ctx, id1)
			if !errors.Is(err, context.DeadlineExceeded) || axp.OutcomeOf(err) != axp.NotApplied {
				t.Errorf("got %v, want the deadline, not applied", err)
			}
			var e *errs.Error
			if !errors.As(err, &e) || e.Reason != axpchatv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED {
				t.Errorf("got %+v, want DEADLINE_EXCEEDED", e)
			}
		})
		wait(t, time.Second/2)
		wg.Go(func() {
			if _, err := c.GetSession(t.Context(), id1); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if asked, _ := w.counts(); asked != 1 {
			t.Errorf("asked for %d tokens, want 1", asked)
		}
	})
}

func TestWrongSecretBringsNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWire{life: "900", fail: reply(401, "")}
		c := wiredClient(t, w)
		if c.CredentialsStatus() != nil {
			t.Error("a client that was never used tells of a failure")
		}
		for range 1000 { // a hundred seconds of ten calls each
			_, err := c.GetSession(t.Context(), id1)
			var e *errs.Error
			if !axp.IsCredentials(err) || !errors.As(err, &e) || e.Reason != axpchatv1.ErrorReason_ERROR_REASON_AXP_CREDENTIALS {
				t.Fatalf("got %v, want AXP_CREDENTIALS", err)
			}
			wait(t, 100*time.Millisecond)
		}
		// With jitter at its longest: after 0, 5, 15, 35, 75 s.
		if asked, _ := w.counts(); asked < 3 || asked > 8 {
			t.Errorf("asked for %d tokens in 100 s, want a handful", asked)
		}
		if err := c.CredentialsStatus(); !axp.IsCredentials(err) {
			t.Errorf("status is %v, want the refusal", err)
		}
		w.set(func(w *tokenWire) { w.fail = nil })
		wait(t, time.Minute)
		if _, err := c.GetSession(t.Context(), id1); err != nil {
			t.Errorf("after the secret was mended: %v", err)
		}
		if err := c.CredentialsStatus(); err != nil {
			t.Errorf("status is %v after the secret was mended", err)
		}
	})
}

func TestTokenEndpointThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWire{life: "900", fail: reply(503, "")}
		c := wiredClient(t, w)
		for range 100 {
			_, err := c.GetSession(t.Context(), id1)
			var e *errs.Error
			if axp.IsCredentials(err) || !axp.Temporary(err) || !errors.As(err, &e) || e.Reason != axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE {
				t.Fatalf("got %v, want AXP_UNAVAILABLE", err)
			}
			wait(t, 10*time.Millisecond)
		}
		// Three attempts, then silence for about a second.
		if asked, _ := w.counts(); asked > 6 {
			t.Errorf("asked %d times within a second, want at most 6", asked)
		}
	})
}

func TestFailureToRenewAheadLeavesTheOldTokenInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWire{life: "900"}
		c := wiredClient(t, w)
		if err := c.CheckCredentials(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.set(func(w *tokenWire) { w.fail = reply(500, "") })
		wait(t, 800*time.Second)
		for range 80 {
			if _, err := c.GetSession(t.Context(), id1); err != nil {
				t.Fatalf("with a token that is still valid: %v", err)
			}
			wait(t, time.Second)
		}
		if err := c.CredentialsStatus(); err != nil {
			t.Errorf("status is %v while the token is valid", err)
		}
		wait(t, 20*time.Second)
		if _, err := c.GetSession(t.Context(), id1); err == nil {
			t.Error("a call without a valid token succeeded")
		}
	})
}

func TestRevocationIsSharedByConcurrentCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		tokens, calls := 0, 0
		c := wiredClient(t, wire(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			if r.URL.Path == tokenPath {
				tokens++
				return reply(200, fmt.Sprintf(`{"access_token":"token-%d","expires_in":900}`, tokens)), nil
			}
			calls++
			if r.Header.Get("Authorization") == "Bearer token-1" {
				return reply(401, `{"detail":"expired [Access-Token]"}`), nil
			}
			return reply(200, sessionJSON), nil
		}))
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				if _, err := c.GetSession(t.Context(), id1); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if tokens != 2 {
			t.Errorf("asked for %d tokens, want 2", tokens)
		}
	})
}

func TestTokenWithoutText(t *testing.T) {
	f := newFakeAXP(t, always(200, "{}"))
	f.token = always(200, `{"expires_in":900}`)
	err := f.client().CheckCredentials(t.Context())
	if e := wantError(t, err); e.Operation != axp.OpGenerateToken || !strings.Contains(err.Error(), "access_token") {
		t.Errorf("got %v", err)
	}
}

func TestCallWithoutATokenIsNotApplied(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{"500": always(500, ""), "a lost answer": dropped(t), "401": always(401, "")} {
		f := newFakeAXP(t, always(202, messageJSON))
		f.token = fault
		client := f.client()
		for _, when := range []string{"at first", "while the failure is remembered"} {
			_, err := client.SendMessage(t.Context(), id2, soundMessage())
			if e := wantError(t, err); e.Outcome != axp.NotApplied || e.Operation != axp.OpGenerateToken {
				t.Errorf("%s %s: got %v of %s, want not applied", name, when, e.Outcome, e.Operation)
			}
		}
	}
	t.Run("unless an attempt with a token came before", func(t *testing.T) {
		f := newFakeAXP(t, inTurn(always(500, ""), always(401, "")))
		f.token = inTurn(always(200, `{"access_token":"x"}`), always(403, ""))
		_, err := f.client().UpdateSessionParameters(t.Context(), id1, nil)
		if e := wantError(t, err); e.Outcome != axp.Unknown || e.Operation != axp.OpGenerateToken {
			t.Errorf("got %v of %s, want unknown of the token", e.Outcome, e.Operation)
		}
	})
}

func TestTokenRequestIsOneFormAndNothingElse(t *testing.T) {
	f := newFakeAXP(t, always(200, "{}"))
	got := make(chan seen, 1)
	f.token = func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{method: r.Method, body: string(body), header: r.Header}
		answer(w, 200, `{"access_token":"x","expires_in":900}`)
	}
	if err := f.client().CheckCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if want := "client_id=client&client_secret=" + testSecret + "&grant_type=client_credentials"; r.body != want || r.method != "POST" {
		t.Errorf("got %s %s", r.method, r.body)
	}
	if r.header.Get("appkey") != testAppKey || r.header.Get("Authorization") != "" ||
		r.header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("headers are %v", r.header)
	}
}

func TestCloseEndsARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &tokenWire{delay: time.Hour, life: "900"}
		c := newClient(t, "https://axp.example", func(p *axp.Params) {
			p.Transport, p.Clock, p.Config.CallTimeout = w, axp.SystemClock{}, 2*time.Hour
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.GetSession(t.Context(), id1); !errors.Is(err, axp.ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		})
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := c.CheckCredentials(t.Context()); !errors.Is(err, axp.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

// wait lets the bubble's time pass.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	synctest.Wait()
	if err := (axp.SystemClock{}).Sleep(t.Context(), d); err != nil {
		t.Error(err)
	}
	synctest.Wait()
}
