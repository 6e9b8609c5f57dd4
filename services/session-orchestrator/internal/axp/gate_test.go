package axp_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// health is an AXP that takes delay to answer status, for every call but that
// for a token.
type health struct {
	mu     sync.Mutex
	delay  time.Duration
	status int
	header http.Header
	calls  int
	now    int // under way
	most   int
}

func (h *health) set(change func(h *health)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

func (h *health) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls
}

func (h *health) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == tokenPath {
		return reply(200, `{"access_token":"x","expires_in":86400}`), nil
	}
	h.mu.Lock()
	h.calls++
	h.now++
	h.most = max(h.most, h.now)
	delay, status, header := h.delay, h.status, h.header
	h.mu.Unlock()
	defer h.set(func(h *health) { h.now-- })
	if err := (axp.SystemClock{}).Sleep(r.Context(), delay); err != nil {
		return nil, err
	}
	body := ""
	if status < 300 {
		body = sessionJSON
	}
	answer := reply(status, body)
	if header != nil {
		answer.Header = header
	}
	return answer, nil
}

// once has no call repeated, so that a test counts what it makes.
func once(p *axp.Params) { p.Clock, p.Config.MaxAttempts = axp.SystemClock{}, 1 }

func reasonOf(t *testing.T, err error) *errs.Error {
	t.Helper()
	var e *errs.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error of the catalogue", err)
	}
	return e
}

func get(ctx context.Context, c *axp.Client) error {
	_, err := c.GetSession(ctx, id1)
	return err
}

func TestBreakerOpensTriesOneCallAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := &health{status: 500}
		c := newClient(t, "https://axp.example", once, func(p *axp.Params) {
			p.Transport, p.Log = h, slog.New(slog.NewTextHandler(&log, nil))
			p.Config.Breaker = axp.BreakerConfig{Failures: 4, Open: 5 * time.Second}
		})
		for range 4 {
			if err := get(t.Context(), c); errors.Is(err, axp.ErrHeldBack) {
				t.Fatal("held back too early")
			}
		}
		for range 1000 {
			err := get(t.Context(), c)
			if e := reasonOf(t, err); !errors.Is(err, axp.ErrHeldBack) || e.Reason != axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE ||
				e.RetryAfter <= 0 || e.RetryAfter > 5*time.Second || axp.OutcomeOf(err) != axp.NotApplied || !axp.Temporary(err) {
				t.Fatalf("got %v, advice %v; want AXP_UNAVAILABLE at once, not applied, with advice", err, e.RetryAfter)
			}
		}
		if got := h.count(); got != 4 {
			t.Errorf("AXP got %d calls, want none while the breaker is open", got-4)
		}
		// Half open: of many calls one goes through, and its failure opens again.
		h.set(func(h *health) { h.delay = time.Second })
		wait(t, 5100*time.Millisecond)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { _ = get(t.Context(), c) })
		}
		wg.Wait()
		if got := h.count(); got != 5 {
			t.Errorf("AXP got %d calls while half open, want 1", got-4)
		}
		if err := get(t.Context(), c); !errors.Is(err, axp.ErrHeldBack) {
			t.Errorf("got %v after the trial failed, want to be held back", err)
		}
		h.set(func(h *health) { h.status, h.delay = 200, 0 })
		wait(t, 5100*time.Millisecond)
		for range 20 {
			if err := get(t.Context(), c); err != nil {
				t.Errorf("after AXP is well again: %v", err)
			}
		}
		if failing, well := strings.Count(log.String(), "keeps failing"), strings.Count(log.String(), "well again"); failing != 1 || well != 1 {
			t.Errorf("logged %d times that it fails and %d times that it is well, want once each:\n%s", failing, well, log.String())
		}
	})
}

func TestBreakerCountsWhatSaysAXPFails(t *testing.T) {
	for name, tc := range map[string]struct {
		health *health
		opens  bool
	}{
		"500":                 {&health{status: 500}, true},
		"no answer in time":   {&health{status: 200, delay: time.Minute}, true},
		"404":                 {&health{status: 404}, false},
		"429":                 {&health{status: 429}, false},
		"the caller has gone": {&health{status: 200, delay: 3 * time.Second}, false},
		"403":                 {&health{status: 403}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := tc.health
				c := newClient(t, "https://axp.example", once, func(p *axp.Params) {
					p.Transport, p.Config.Breaker.Failures = h, 3
				})
				for range 3 {
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
					if h.delay > 10*time.Second {
						ctx = t.Context()
					}
					_ = get(ctx, c)
					cancel()
				}
				_, err := c.ListSubscriptions(t.Context(), "")
				if got := errors.Is(err, axp.ErrHeldBack); got != tc.opens {
					t.Errorf("held back: %v (%v), want %v", got, err, tc.opens)
				}
			})
		})
	}
}

func TestBreakerOpensAtAnErrorRatio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{}
		c := newClient(t, "https://axp.example", once, func(p *axp.Params) {
			p.Transport = h
			p.Config.Breaker = axp.BreakerConfig{Failures: 1000, Ratio: 0.5, MinCalls: 10}
		})
		n := 0
		for ; n < 100; n++ {
			h.set(func(h *health) { h.status = []int{500, 200, 500}[n%3] })
			if err := get(t.Context(), c); errors.Is(err, axp.ErrHeldBack) {
				break
			}
		}
		if n != 10 {
			t.Errorf("opened after %d calls, want 10", n)
		}
	})
}

func TestTurnsComeOneByOneAndAllWhenAXPIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{status: 500}
		c := newClient(t, "https://axp.example", once, func(p *axp.Params) {
			p.Transport = h
			p.Config.Breaker = axp.BreakerConfig{Failures: 1, Open: 5 * time.Second}
		})
		_ = get(t.Context(), c)
		var mu sync.Mutex
		released := 0
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for {
					ready, off := c.Turn()
					<-ready
					off()
					mu.Lock()
					released++
					mu.Unlock()
					if get(t.Context(), c) == nil {
						return
					}
				}
			})
		}
		wait(t, 62*time.Second)
		mu.Lock()
		if calls := h.count() - 1; calls != 12 || released != 12 {
			t.Errorf("within a minute %d of 50 were let go and %d calls made, want one each 5 s", released, calls)
		}
		mu.Unlock()
		h.set(func(h *health) { h.status = 200 })
		began := time.Now()
		wg.Wait()
		if took := time.Since(began); took > 5*time.Second+100*time.Millisecond {
			t.Errorf("all were through %v after AXP was well again, want 5 s", took)
		}
	})
}

func TestTurnThatIsNotUsedGoesToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{status: 500}
		c := newClient(t, "https://axp.example", once, func(p *axp.Params) {
			p.Transport = h
			p.Config.Breaker = axp.BreakerConfig{Failures: 1, Open: 5 * time.Second}
		})
		_ = get(t.Context(), c)
		gone, _ := c.Turn()
		_, left := c.Turn()
		left() // gave its place up
		next, off := c.Turn()
		defer off()
		began := time.Now()
		<-gone
		<-next
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("the next turn came after %v, want within two times 5 s", took)
		}
	})
}

func TestRetryAfterHoldsTheWholeAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{status: 429, header: http.Header{"Retry-After": {"7"}}}
		c := newClient(t, "https://axp.example", once, func(p *axp.Params) { p.Transport = h })
		_ = get(t.Context(), c)
		h.set(func(h *health) { h.status, h.header = 200, nil })
		began := time.Now()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := get(t.Context(), c); err != nil || time.Since(began) != 7*time.Second {
					t.Errorf("got %v after %v, want success after 7 s", err, time.Since(began))
				}
			})
		}
		// Who can't wait so long is told so at once.
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := get(ctx, c)
		if e := reasonOf(t, err); e.Reason != axpchatv1.ErrorReason_ERROR_REASON_AXP_RATE_LIMITED || e.RetryAfter != 7*time.Second ||
			time.Since(began) != 0 || axp.OutcomeOf(err) != axp.NotApplied || !axp.Temporary(err) {
			t.Errorf("got %v after %v, want AXP_RATE_LIMITED at once with 7 s", err, time.Since(began))
		}
		wg.Wait()
	})
}

func TestConcurrencyFollowsWhatAXPTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{status: 200, delay: 100 * time.Millisecond}
		c := newClient(t, "https://axp.example", once, func(p *axp.Params) {
			p.Transport, p.Config.Limit.Start, p.Config.Limit.Max = h, 8, 20
		})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 60 {
			wg.Go(func() {
				for ctx.Err() == nil {
					_ = get(ctx, c)
				}
			})
		}
		most := func(d time.Duration) int {
			h.set(func(h *health) { h.most = h.now })
			wait(t, d)
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.most
		}
		if got := most(50 * time.Millisecond); got != 8 {
			t.Errorf("%d calls at once at the start, want 8", got)
		}
		if got := most(3 * time.Second); got != 20 {
			t.Errorf("%d calls at once when all goes well, want 20", got)
		}
		h.set(func(h *health) { h.status = 429 })
		wait(t, 3*time.Second)
		if got := most(time.Second); got != 1 {
			t.Errorf("%d calls at once while AXP refuses, want 1", got)
		}
		h.set(func(h *health) { h.status = 200 })
		wait(t, 5*time.Second)
		if got := most(time.Second); got != 20 {
			t.Errorf("%d calls at once after AXP takes them again, want 20", got)
		}
		cancel()
		wg.Wait()
	})
}

func TestMessagesGoBeforeEverythingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{status: 200, delay: 100 * time.Millisecond}
		c := newClient(t, "https://axp.example", once, func(p *axp.Params) {
			p.Transport, p.Config.Limit.Start, p.Config.Limit.Max = h, 1, 1
		})
		var (
			mu    sync.Mutex
			order []string
			wg    sync.WaitGroup
		)
		call := func(name string, f func(ctx context.Context) error) {
			wg.Go(func() {
				_ = f(t.Context())
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
			})
			synctest.Wait()
		}
		list := func(ctx context.Context) error { _, err := c.ListMessages(ctx, id2, id3, id1, 1, 50); return err }
		call("first", func(ctx context.Context) error { return get(ctx, c) })
		call("list", list)
		call("subscription", func(ctx context.Context) error { _, err := c.GetSubscription(ctx, id1); return err })
		call("life cycle", func(ctx context.Context) error { return get(ctx, c) })
		call("list for a message", func(ctx context.Context) error { return list(axp.AsMessages(ctx)) })
		call("message", func(ctx context.Context) error { _, err := c.SendMessage(ctx, id2, soundMessage()); return err })
		wg.Wait()
		if got, want := strings.Join(order, ", "), "first, list for a message, message, life cycle, list, subscription"; got != want {
			t.Errorf("calls were made in the order\n%s, want\n%s", got, want)
		}
	})
}

func TestOutageOfOneAccountSlowsNoOther(t *testing.T) {
	for name, sick := range map[string]*health{
		"never answers": {status: 200, delay: time.Hour},
		"fails":         {status: 503},
		"refuses":       {status: 429, header: http.Header{"Retry-After": {"3600"}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				well := &health{status: 200, delay: 50 * time.Millisecond}
				bad := newClient(t, "https://bad.example", once, func(p *axp.Params) { p.Transport, p.Account.AccountID = sick, "ZZZZZZ" })
				good := newClient(t, "https://good.example", once, func(p *axp.Params) { p.Transport = well })
				_ = good.CheckCredentials(t.Context())
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for range 500 {
					wg.Go(func() {
						for ctx.Err() == nil {
							_ = get(ctx, bad)
							_ = axp.SystemClock{}.Sleep(ctx, time.Second)
						}
					})
				}
				for range 100 {
					began := time.Now()
					if err := get(t.Context(), good); err != nil || time.Since(began) != 50*time.Millisecond {
						t.Errorf("the other account: %v after %v, want 50 ms", err, time.Since(began))
					}
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

func TestWhatIsHeldBackIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdkmetric.NewManualReader()
		h := &health{status: 500, delay: time.Second}
		c := newClient(t, "https://axp.example", once, func(p *axp.Params) {
			p.Transport = h
			p.Providers = &telemetry.Providers{Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}
			p.Config.Limit.Start, p.Config.Limit.Max, p.Config.Breaker.Failures = 1, 1, 2
		})
		measure := func() map[string]int64 {
			var data metricdata.ResourceMetrics
			if err := reader.Collect(t.Context(), &data); err != nil {
				t.Fatal(err)
			}
			got := map[string]int64{}
			for _, scope := range data.ScopeMetrics {
				for _, m := range scope.Metrics {
					switch points := m.Data.(type) {
					case metricdata.Gauge[int64]:
						for _, p := range points.DataPoints {
							got[m.Name+" "+p.Attributes.Encoded(labels{})] = p.Value
						}
					case metricdata.Sum[int64]:
						for _, p := range points.DataPoints {
							got[m.Name+" "+p.Attributes.Encoded(labels{})] = p.Value
						}
					}
				}
			}
			return got
		}
		expect := func(when string, want map[string]int64) {
			t.Helper()
			got := measure()
			for name, n := range want {
				if have, ok := got[name]; !ok || have != n {
					t.Errorf("%s: %s is %d (there: %v), want %d", when, name, have, ok, n)
				}
			}
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _ = get(t.Context(), c) })
		}
		wait(t, time.Second/2)
		expect("with calls waiting", map[string]int64{
			"axpchat_axp_concurrency_limit ABCDEF": 1, "axpchat_axp_in_flight ABCDEF": 1,
			"axpchat_axp_waiting ABCDEF messages": 0, "axpchat_axp_waiting ABCDEF lifecycle": 2, "axpchat_axp_waiting ABCDEF background": 0,
			"axpchat_axp_breaker_state ABCDEF": 0, "axpchat_axp_credentials_refused ABCDEF": 0,
		})
		wg.Wait()
		expect("after two failures", map[string]int64{
			"axpchat_axp_in_flight ABCDEF": 0, "axpchat_axp_waiting ABCDEF lifecycle": 0,
			"axpchat_axp_breaker_state ABCDEF": 2, "axpchat_axp_throttled_total ABCDEF breaker": 1,
		})
		wait(t, 6*time.Second)
		expect("half open", map[string]int64{"axpchat_axp_breaker_state ABCDEF": 1})
	})
}
