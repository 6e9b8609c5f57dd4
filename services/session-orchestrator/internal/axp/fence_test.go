package axp_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
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

// TestACallThatLosesItsRightWhileItConnectsIsNotMade: a connection may take
// seconds to be made, and by then somebody else may have made the call.
func TestACallThatLosesItsRightWhileItConnectsIsNotMade(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			f := &fakeAXP{tb: t, handler: func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusAccepted, "{}") }}
			f.server = httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
			f.server.EnableHTTP2 = http2
			f.server.StartTLS()
			t.Cleanup(f.server.Close)
			transport := f.server.Client().Transport.(*http.Transport).Clone()
			var slow atomic.Bool
			connecting, on := make(chan struct{}), make(chan struct{})
			transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if slow.Load() {
					close(connecting)
					<-on
				}
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}
			c := f.client(once, func(p *axp.Params) { p.Transport = transport })
			if err := c.CheckCredentials(t.Context()); err != nil {
				t.Fatal(err)
			}
			transport.CloseIdleConnections()
			slow.Store(true)
			may := &atomic.Bool{}
			may.Store(true)
			got := make(chan error, 1)
			go func() {
				_, err := c.SendMessage(axp.WithFence(t.Context(), may.Load), id2, soundMessage())
				got <- err
			}()
			<-connecting
			may.Store(false)
			slow.Store(false)
			close(on)
			if err := <-got; !errors.Is(err, axp.ErrFenced) || axp.OutcomeOf(err) != axp.NotApplied {
				t.Errorf("got %v with outcome %v", err, axp.OutcomeOf(err))
			}
			if n := len(f.calls()); n != 0 {
				t.Errorf("%d calls were made, want none", n)
			}
			if _, err := c.SendMessage(axp.WithFence(t.Context(), func() bool { return true }), id2, soundMessage()); err != nil || len(f.calls()) != 1 {
				t.Errorf("with the right: %v, %d calls", err, len(f.calls()))
			}
		})
	}
}
