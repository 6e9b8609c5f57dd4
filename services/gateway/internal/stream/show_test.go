package stream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/unshown"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

// picky is a client over a transport that fails for events that are named poison.
type picky struct {
	*fakeClient
	fail  func() error
	tries int
}

func (p *picky) Send(ctx context.Context, f *axpchatv1.ConnectResponse) error {
	if f.GetEvent().GetEventId() == "poison" {
		p.tries++
		if err := p.fail(); err != nil {
			return err
		}
	}
	return p.fakeClient.Send(ctx, f)
}

// follow serves a stream of one session that gets these events.
func (r *rig) follow(out Sender, ids ...string) End {
	sub := newSubscription()
	sub.add(ids...)
	for i, ev := range sub.events {
		ev.Sequence = uint64(i + 1)
	}
	sub.finish(axpchatv1.CloseCode_CLOSE_CODE_IDLE)
	st := r.server.newStream(Request{
		Transport: "test", Principal: &auth.Principal{ExpireTime: time.Now().Add(time.Hour)}, Session: "s2", Heartbeat: time.Minute, Heard: &Heard{},
	}, sub, &axpchatv1.Welcome{}, nil)
	return st.Serve(r.t.Context(), out)
}

// TestAnEventThatCannotBeEncodedIsToldOf: after some tries, on the same stream.
func TestAnEventThatCannotBeEncodedIsToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		encode := func(err error) func() error {
			return func() error {
				_, err := r.server.Encode(t.Context(), func(proto.Message) ([]byte, error) {
					if err == nil {
						panic("a fault")
					}
					return nil, err
				}, nil)
				return err
			}
		}
		careful := r.server.Careful(t.Context(), func(*axpchatv1.ConnectResponse) error { panic("a fault") })
		for name, fail := range map[string]func() error{
			"an error": encode(errors.New("no such time")), "a panic": encode(nil), "a panic beside": func() error { return careful(nil) },
		} {
			r.server.suspects = suspects{}
			out := &picky{fakeClient: newClient(), fail: fail}
			end := r.follow(out, "a", "poison", "b")
			frames := out.frames
			if got := out.kinds(); got != "welcome a  b close:after-b" || end.Close.GetCode() != axpchatv1.CloseCode_CLOSE_CODE_IDLE {
				t.Fatalf("%s: frames %q, ended with %v", name, got, end.Close)
			}
			if ev := frames[2].GetEvent(); ev.GetUnshown() == nil || ev.GetCursor() != "after-poison" || ev.GetSequence() != 2 {
				t.Errorf("%s: it is told as %v", name, ev)
			}
			if out.tries != unshown.Tries {
				t.Errorf("%s: %d tries, want %d", name, out.tries, unshown.Tries)
			}
			// Who comes back before it, or with another device, is told at once.
			again := &picky{fakeClient: newClient(), fail: fail}
			r.follow(again, "a", "poison", "b")
			if got := again.kinds(); got != "welcome a  b close:after-b" || again.tries > 0 {
				t.Errorf("%s: again frames %q after %d tries", name, got, again.tries)
			}
		}
	})
}

// TestAnEventThatBreaksItsStreamIsToldOfAtLast: where a panic leaves nobody knowing
// what has gone out the stream ends; but the client does not come back for ever.
func TestAnEventThatBreaksItsStreamIsToldOfAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		for n := range unshown.Tries {
			out := &picky{fakeClient: newClient(), fail: func() error { panic("a fault") }}
			if end := r.follow(out, "a", "poison", "b"); end.Close.GetCode() != axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE || out.tries != 1 {
				t.Fatalf("stream %d ended with %v after %d tries", n, end.Close, out.tries)
			}
		}
		out := &picky{fakeClient: newClient(), fail: func() error { panic("a fault") }}
		r.follow(out, "a", "poison", "b")
		if got := out.kinds(); got != "welcome a  b close:after-b" {
			t.Errorf("frames %q", got)
		}
	})
}

// TestAnEventThatFailsOnceIsShown: a passing fault costs nobody an event.
func TestAnEventThatFailsOnceIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		out := &picky{fakeClient: newClient()}
		out.fail = func() error {
			if out.tries == 1 {
				return panics.Err
			}
			return nil
		}
		r.follow(out, "a", "poison", "b")
		if got := out.kinds(); got != "welcome a poison b close:after-b" {
			t.Errorf("frames %q", got)
		}
	})
}

func TestSoManySuspectsAndNoMore(t *testing.T) {
	t.Parallel()
	var s suspects
	for i := range 2 * mostSuspects {
		for range unshown.Tries {
			s.note(suspect{transport: fmt.Sprint(i)})
		}
	}
	if len(s.failed) != mostSuspects || len(s.order) != mostSuspects {
		t.Errorf("%d are remembered, in an order of %d", len(s.failed), len(s.order))
	}
	if s.given(suspect{transport: "0"}) || !s.given(suspect{transport: fmt.Sprint(2*mostSuspects - 1)}) {
		t.Error("it is not the oldest that went")
	}
}
