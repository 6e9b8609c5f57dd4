package timers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/session-orchestrator/internal/timers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	broken = "BROKEN"
	well   = "ISWELL"
)

// calls counts the timers that were heard, by session.
type calls struct {
	mu sync.Mutex
	of map[string]int
}

func (c *calls) note(session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[session]++
}

func (c *calls) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.of)
}

func (c *calls) heard(session string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[session]
}

// hear starts a worker that calls f for timers of the kind "idle".
func hear(t *testing.T, f func(ctx context.Context, account, session string) error) *bus.Bus {
	t.Helper()
	b := bustest.Connect(t, bustest.Server(t), bustest.Config())
	w, err := timers.New(timers.Params{Bus: b, Handlers: map[string]timers.Handler{"idle": f}, Log: slog.New(slog.DiscardHandler), Meter: metricnoop.Meter{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// due has the timers of n sessions of an account come due.
func due(t *testing.T, b *bus.Bus, account string, n int) {
	t.Helper()
	for i := range n {
		if _, err := b.JS.PublishAsync(fmt.Sprintf("timer.due.idle.%s.s%d", account, i), nil); err != nil {
			t.Fatal(err)
		}
	}
	<-b.JS.PublishAsyncComplete()
}

// TestTimersThatFailKeepNobodyElsesWaiting: AXP is down for an account with more
// sessions than NATS hands out at a time. The timers of the others are heard.
func TestTimersThatFailKeepNobodyElsesWaiting(t *testing.T) {
	heard := &calls{of: map[string]int{}}
	b := hear(t, func(_ context.Context, account, session string) error {
		if account == well {
			heard.note("well." + session)
			return nil
		}
		heard.note(session)
		return errors.New("AXP is down")
	})
	const many = 1500
	due(t, b, broken, many)
	due(t, b, well, 3)
	await.Until(t, "the timers of the other account", func() bool { return heard.heard("well.s0")+heard.heard("well.s1")+heard.heard("well.s2") == 3 })
	await.Until(t, "every timer that failed comes again", func() bool {
		again := 0
		for i := range many {
			if heard.heard(fmt.Sprintf("s%d", i)) > 1 {
				again++
			}
		}
		return again == many
	})
}

// TestTimersThatTakeLongLeaveRoomForOthers: every call of an account's AXP takes
// as long as it may.
func TestTimersThatTakeLongLeaveRoomForOthers(t *testing.T) {
	heard, stuck := &calls{of: map[string]int{}}, make(chan struct{})
	b := hear(t, func(ctx context.Context, account, session string) error {
		if account == well {
			heard.note("well." + session)
			return nil
		}
		select {
		case <-stuck:
			heard.note(session)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	due(t, b, broken, 300)
	due(t, b, well, 3)
	began := time.Now()
	await.Until(t, "the timers of the other account", func() bool { return heard.count() == 3 })
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("they came after %v, want at once", took)
	}
	close(stuck)
	await.Until(t, "those that had to wait", func() bool { return heard.count() == 303 })
}
