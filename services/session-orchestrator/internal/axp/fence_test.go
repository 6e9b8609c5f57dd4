package axp_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// TestACallThatLosesItsRightWhileItWaitsIsNotMade: for its turn, and between two
// attempts.
func TestACallThatLosesItsRightWhileItWaitsIsNotMade(t *testing.T) {
	t.Run("for its turn", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &health{status: 200, delay: 100 * time.Millisecond}
			c := newClient(t, "https://axp.example", once, func(p *axp.Params) {
				p.Transport, p.Config.Limit.Start, p.Config.Limit.Max = h, 1, 1
			})
			go func() { _ = get(t.Context(), c) }()
			synctest.Wait()
			may := &atomic.Bool{}
			may.Store(true)
			got := make(chan error, 1)
			go func() {
				_, err := c.SendMessage(axp.WithFence(t.Context(), may.Load), id2, soundMessage())
				got <- err
			}()
			synctest.Wait()
			may.Store(false)
			if err := <-got; !errors.Is(err, axp.ErrFenced) || axp.OutcomeOf(err) != axp.NotApplied {
				t.Errorf("got %v with outcome %v", err, axp.OutcomeOf(err))
			}
			if n := h.count(); n != 1 {
				t.Errorf("%d calls were made, want that before it alone", n)
			}
			if _, err := c.SendMessage(axp.WithFence(t.Context(), func() bool { return true }), id2, soundMessage()); err != nil {
				t.Errorf("with the right: %v", err)
			}
		})
	})
	t.Run("between two attempts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &health{status: 429}
			c := newClient(t, "https://axp.example", func(p *axp.Params) { p.Transport, p.Clock, p.Config.MaxAttempts = h, axp.SystemClock{}, 5 })
			ctx := axp.WithFence(context.WithoutCancel(t.Context()), func() bool { return h.count() < 1 })
			if _, err := c.SendMessage(ctx, id2, soundMessage()); !errors.Is(err, axp.ErrFenced) {
				t.Errorf("got %v", err)
			}
			if n := h.count(); n != 1 {
				t.Errorf("%d calls were made, want 1", n)
			}
		})
	})
}
