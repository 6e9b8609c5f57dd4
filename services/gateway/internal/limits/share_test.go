package limits

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

// air carries reports between gateways inside a process, and loses them on demand.
type air struct {
	mu   sync.Mutex
	hear map[int]func(*busv1.UsageReport)
	next int
	lose bool
	told int
}

func (a *air) TellUsage(r *busv1.UsageReport) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told++
	if a.lose {
		return nil
	}
	for _, f := range a.hear {
		f(r)
	}
	return nil
}

func (a *air) HearUsage(f func(*busv1.UsageReport)) (func(), error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := a.next
	a.hear[id], a.next = f, id+1
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.hear, id)
	}, nil
}

// fleet runs gateways that share accounts.
func fleet(t *testing.T, n int, wire Wire, env map[string]string) []*Limiter {
	t.Helper()
	var all []*Limiter
	var runs sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range n {
		l, err := New(Params{Config: loaded(t, env), Log: slog.New(slog.DiscardHandler), Meter: noop.NewMeterProvider(), Wire: wire})
		if err != nil {
			t.Fatal(err)
		}
		runs.Go(func() {
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		all = append(all, l)
	}
	t.Cleanup(func() { cancel(); runs.Wait() })
	return all
}

// TestAccountsLimitsHoldAcrossGateways: four gateways, each asked for three times
// what the account may have in all. Over a minute the account gets its rate and no
// more than one full bucket of each gateway on top, and no less than its rate.
func TestAccountsLimitsHoldAcrossGateways(t *testing.T) {
	const gateways, burst, seconds = 4, 100, 60 // 10 messages a second
	for _, tt := range []struct {
		name  string
		share []int // of what is asked, by gateway: a second
	}{
		{"asked evenly", []int{30, 30, 30, 30}},
		{"asked at one alone", []int{120, 0, 0, 0}},
		{"asked at one for the most part", []int{100, 5, 5, 10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := fleet(t, gateways, &air{hear: map[int]func(*busv1.UsageReport){}}, map[string]string{
					"LIMIT_ACCOUNT_MESSAGES": "100/10s", "LIMIT_CUSTOMER_MESSAGES": "off", "LIMIT_CUSTOMER_FRAMES": "off",
				})
				w := Who{Account: "ABCDEF", Subject: "ada"}
				for _, l := range all { // they know of each other, and of the account
					if err := l.Call(t.Context(), w, Cost{Frames: 1}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(3 * time.Second) //nolint:forbidigo // the bubble's clock
				given := 0
				for range seconds * 10 {
					for i, l := range all {
						for range tt.share[i] / 10 {
							if l.Call(t.Context(), w, message) == nil {
								given++
							}
						}
					}
					time.Sleep(100 * time.Millisecond) //nolint:forbidigo // the bubble's clock
				}
				fair := burst + seconds*burst/10
				t.Logf("given %d, where one gateway alone would give %d", given, fair)
				if given > fair+(gateways-1)*burst || given < fair-burst/10 {
					t.Errorf("given %d, want %d to %d", given, fair-burst/10, fair+(gateways-1)*burst)
				}
			})
		})
	}
}

// TestReportsThatGetLostAreMadeGood by the next one, and gateways that are gone
// count no more.
func TestReportsThatGetLostAreMadeGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &air{hear: map[int]func(*busv1.UsageReport){}}
		all := fleet(t, 2, a, map[string]string{"LIMIT_ACCOUNT_MESSAGES": "10/1h", "LIMIT_ACCOUNT_STREAMS": "3"})
		w := Who{Account: "ABCDEF", Subject: "ada"}
		if err := all[0].Call(t.Context(), w, Cost{Frames: 1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) //nolint:forbidigo // the bubble's clock
		a.mu.Lock()
		a.lose = true
		a.mu.Unlock()
		for range 9 {
			if err := all[0].Call(t.Context(), w, message); err != nil {
				t.Fatal(err)
			}
		}
		var open []*Stream
		for range 2 {
			s, err := all[0].Open(t.Context(), w)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, s)
		}
		time.Sleep(3 * time.Second) //nolint:forbidigo // the bubble's clock
		a.mu.Lock()
		a.lose = false
		a.mu.Unlock()
		time.Sleep(2 * time.Second) //nolint:forbidigo // the bubble's clock
		if err := all[1].Call(t.Context(), w, message); err != nil {
			t.Fatal(err)
		}
		wantLimited(t, all[1].Call(t.Context(), w, message))
		third, err := all[1].Open(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		_, err = all[1].Open(t.Context(), w)
		wantLimited(t, err)
		third.Close()
		for _, s := range open {
			s.Close()
		}
		time.Sleep(2 * time.Second) //nolint:forbidigo // the bubble's clock
		if third, err = all[1].Open(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		third.Close()
		// Without anything to tell nobody tells anything, and nobody is remembered.
		time.Sleep(rememberPods + 2*idleAfter) //nolint:forbidigo // the bubble's clock
		a.mu.Lock()
		before := a.told
		a.mu.Unlock()
		time.Sleep(2 * idleAfter) //nolint:forbidigo // the bubble's clock
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, l := range all {
			l.shared.mu.Lock()
			if len(l.shared.pods)+len(l.shared.all) > 0 || a.told != before {
				t.Errorf("remembered: %v %v; told %d times", l.shared.pods, l.shared.all, a.told-before)
			}
			l.shared.mu.Unlock()
		}
	})
}

// TestAnotherGatewaysPast: all that a new one has taken counts, what was taken
// while this one was not there does not.
func TestAnotherGatewaysPast(t *testing.T) {
	report := func(n uint64) *busv1.UsageReport {
		return &busv1.UsageReport{Pod: "other", Accounts: []*busv1.AccountUsage{{Account: "ABCDEF", Messages: n}}}
	}
	for _, tt := range []struct {
		name string
		tell func(l *Limiter)
		left int
	}{
		{"this one has just begun", func(l *Limiter) { l.shared.hear(l.now(), report(8)) }, 10},
		{"the other one has", func(l *Limiter) {
			time.Sleep(2 * goneAfter) //nolint:forbidigo // the bubble's clock
			l.shared.hear(l.now(), report(8))
		}, 2},
		{"they go on side by side", func(l *Limiter) {
			l.shared.hear(l.now(), report(8))
			time.Sleep(tellEvery) //nolint:forbidigo // the bubble's clock
			l.shared.hear(l.now(), report(11))
		}, 7},
		{"the other one has forgotten the account", func(l *Limiter) {
			l.shared.hear(l.now(), report(8))
			l.shared.hear(l.now(), report(4))
		}, 6},
		{"they were apart", func(l *Limiter) {
			l.shared.hear(l.now(), report(8))
			time.Sleep(2 * goneAfter) //nolint:forbidigo // the bubble's clock
			l.shared.hear(l.now(), report(1000))
			l.shared.hear(l.now(), report(1001))
		}, 9},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := limiter(t, map[string]string{"LIMIT_ACCOUNT_MESSAGES": "10/24h"})
				tt.tell(l)
				given := 0
				for l.Call(t.Context(), Who{Account: "ABCDEF", Subject: "ada"}, message) == nil {
					given++
				}
				if given != tt.left {
					t.Errorf("%d are left, want %d", given, tt.left)
				}
			})
		})
	}
}

// TestAReportCantDoMuchHarm: one that is forged holds an account up for a while,
// and makes no memory grow.
func TestAReportCantDoMuchHarm(t *testing.T) {
	l := limiter(t, map[string]string{"LIMIT_ACCOUNT_MESSAGES": "10/10s"})
	forged := &busv1.UsageReport{Pod: "x", Accounts: []*busv1.AccountUsage{{Account: "ABCDEF"}}}
	l.shared.hear(0, forged)
	forged = &busv1.UsageReport{Pod: "x", Accounts: []*busv1.AccountUsage{{Account: "ABCDEF", Messages: 1 << 63, Bytes: 1<<64 - 1}}}
	l.shared.hear(0, forged)
	if wait := wantLimited(t, l.Call(t.Context(), Who{Account: "ABCDEF", Subject: "ada"}, message)); wait > 25*time.Second {
		t.Errorf("the account is held up for %s", wait)
	}
	many := &busv1.UsageReport{}
	for range 3 * maxAccounts {
		many.Accounts = append(many.Accounts, &busv1.AccountUsage{Account: rnd(), Messages: 1})
	}
	for range 3 * maxPods {
		l.shared.hear(0, &busv1.UsageReport{Pod: rnd()})
	}
	l.shared.hear(0, &busv1.UsageReport{Pod: "x"})
	many.Pod = "x"
	l.shared.hear(0, many)
	if len(l.shared.pods) > maxPods || len(l.shared.all) > maxAccounts || len(l.shared.pods["x"].told) > maxAccounts {
		t.Errorf("%d gateways and %d accounts are remembered", len(l.shared.pods), len(l.shared.all))
	}
}

// TestAccountsLimitsHoldOverNATS: the wire of production carries it.
func TestAccountsLimitsHoldOverNATS(t *testing.T) {
	server := bustest.Server(t)
	all := make([]*Limiter, 0, 3)
	for range 3 {
		b := bustest.Connect(t, server, bustest.Config())
		all = append(all, fleet(t, 1, b, map[string]string{"LIMIT_ACCOUNT_MESSAGES": "30/1h"})...)
	}
	w := Who{Account: "ABCDEF", Subject: "ada"}
	ctx := t.Context()
	for _, l := range all {
		if err := l.Call(ctx, w, Cost{Frames: 1}); err != nil {
			t.Fatal(err)
		}
	}
	known := func(l *Limiter) int {
		l.shared.mu.Lock()
		defer l.shared.mu.Unlock()
		return len(l.shared.pods)
	}
	await.Until(t, "gateways that hear each other", func() bool { return known(all[0])+known(all[1])+known(all[2]) >= 6 })
	for range 30 {
		if err := all[0].Call(ctx, w, message); err != nil {
			t.Fatal(err)
		}
	}
	await.Until(t, "the others to give no more than is left, in a second or two", func() bool {
		return all[1].Call(ctx, w, message) != nil && all[2].Call(ctx, w, message) != nil
	})
}

func BenchmarkReport(b *testing.B) {
	l, other := limiter(b, nil), limiter(b, nil)
	for range 100 {
		if err := l.Call(b.Context(), Who{Account: rnd(), Subject: "ada"}, message); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		other.shared.hear(0, l.shared.report(0))
	}
}

// rnd is a name that nobody else has.
func rnd() string { return rand.Text() }
