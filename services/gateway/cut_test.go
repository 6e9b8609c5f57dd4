package gateway_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// TestAWebSocketThatIsCutHasGone: however its connection ends, the client is not
// taken for one that still listens, and comes back where it was.
func TestAWebSocketThatIsCutHasGone(t *testing.T) {
	s := start(t, nil)
	tok := token(t, subject, nil)
	for session, cut := range map[string]func(*wsFollower, *net.TCPConn) error{
		"without-a-word": func(_ *wsFollower, c *net.TCPConn) error { return c.Close() },
		"reset": func(_ *wsFollower, c *net.TCPConn) error {
			return errors.Join(c.SetLinger(0), c.Close())
		},
		"in-one-direction": func(_ *wsFollower, c *net.TCPConn) error { return c.CloseWrite() },
		"in-a-frame": func(_ *wsFollower, c *net.TCPConn) error {
			_, err := c.Write([]byte{0x81, 0xfe, 0x01, 0x00, 1, 2, 3, 4, 'x'})
			return errors.Join(err, c.Close())
		},
		"in-the-head-of-a-frame": func(_ *wsFollower, c *net.TCPConn) error {
			_, err := c.Write([]byte{0x81})
			return errors.Join(err, c.Close())
		},
		"by-a-close-frame": func(f *wsFollower, _ *net.TCPConn) error { return f.conn.Close(ws.StatusNormalClosure, "") },
	} {
		t.Run(session, func(t *testing.T) {
			s.session(session)
			s.say(session, session+"-1", "before")
			ctx, cancel := context.WithTimeout(t.Context(), patience/2)
			defer cancel()
			before := s.bus.NC.NumSubscriptions()
			f, conn := openCuttable(ctx, t, s, tok, session, "")
			want(t, f, "welcome", func(r *axpchatv1.ConnectResponse) (any, bool) { return nil, r.GetWelcome() != nil })
			cursor := wantEvent(t, f, session+"-1").GetCursor()
			if err := cut(f, conn); err != nil {
				t.Fatal(err)
			}
			waitLeft(t, s, before)
			s.say(session, session+"-2", "while nobody was there")
			again, _ := openCuttable(ctx, t, s, tok, session, cursor)
			wantEvent(t, again, session+"-2")
			again.leave()
			waitLeft(t, s, before)
		})
	}
}

// openCuttable opens a WebSocket whose connection is at hand.
func openCuttable(ctx context.Context, t *testing.T, s *suite, token, session, cursor string) (*wsFollower, *net.TCPConn) {
	t.Helper()
	var tcp *net.TCPConn
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			tcp = c.(*net.TCPConn)
		}
		return c, err
	}}
	conn, _, err := ws.Dial(ctx, s.url(session, ":connect"), &ws.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"axpchat.v1+json"}, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	f := &wsFollower{ctx: ctx, conn: conn}
	if err := f.say(hello("", cursor)); err != nil {
		t.Fatal(err)
	}
	return f, tcp
}

// waitLeft waits until nobody follows a session but those who did before.
func waitLeft(t *testing.T, s *suite, before int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.bus.NC.NumSubscriptions() > before {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the client still counts as one that listens")
		}
	}
}
