package stream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// breaking panics for frames that are named so.
type breaking struct{ *executor }

func (e breaking) Execute(ctx context.Context, session string, f *axpchatv1.ConnectRequest) *axpchatv1.Reply {
	if f.GetFrameId() == "breaks" {
		panic("a fault")
	}
	return e.executor.Execute(ctx, session, f)
}

// breakingVerifier panics.
type breakingVerifier struct{}

func (breakingVerifier) Verify(context.Context, string) (*auth.Principal, error) { panic("a fault") }

// TestACommandThatPanicsIsAnsweredAndTheStreamGoesOn: with its frame's id, and what
// came behind it in its turn.
func TestACommandThatPanicsIsAnsweredAndTheStreamGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		r.server.p.Executor = breaking{r.executor}
		close(r.executor.release)
		r.say(send("breaks"))
		synctest.Wait()
		r.client.mu.Lock()
		problem := r.client.frames[0].GetReply().GetProblem()
		r.client.mu.Unlock()
		if problem.GetReason() != axpchatv1.ErrorReason_ERROR_REASON_INTERNAL {
			t.Errorf("answered %v", problem)
		}
		r.expect("reply:breaks")
		for _, id := range []string{"1", "breaks", "2"} {
			r.say(send(id))
		}
		r.expect("reply:1 reply:breaks reply:2")
		r.sub.add("a")
		r.expect("a")
	})
}

// TestATokenWhoseCheckPanicsIsRefused: the stream does not wait for it any longer.
func TestATokenWhoseCheckPanicsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, 10*time.Second)
		r.server.p.Verifier = breakingVerifier{}
		r.say(&axpchatv1.ConnectRequest{FrameId: "1", Payload: &axpchatv1.ConnectRequest_RefreshToken{RefreshToken: &axpchatv1.RefreshToken{Token: "t"}}})
		r.expect("reply:1")
		time.Sleep(11 * time.Second) //nolint:forbidigo // the bubble's clock
		r.expect("reminder close:start")
		r.expectEnd(axpchatv1.CloseCode_CLOSE_CODE_TOKEN_EXPIRED)
	})
}

// breakingReceiver panics at what it reads.
type breakingReceiver struct{}

func (breakingReceiver) Receive(context.Context) (*axpchatv1.ConnectRequest, error) { panic("a fault") }

// TestAFrameWhoseReadingPanicsEndsItsStreamAlone: the client is told to come back.
func TestAFrameWhoseReadingPanicsEndsItsStreamAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		f := r.server.receive(t.Context(), breakingReceiver{})
		r.client.in <- <-f.next
		r.expect("close:start")
		r.expectEnd(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE)
		out := newClient()
		end := r.server.Accept(t.Context(), &Request{}, out, breakingReceiver{}) // as the first frame
		if end.Close.GetCode() != axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE || out.kinds() != "close:" {
			t.Errorf("ended with %v", end.Close)
		}
	})
}

// breakingSubscription panics at its first event.
type breakingSubscription struct{ *fakeSubscription }

func (s breakingSubscription) Take() (*axpchatv1.Event, bool) { panic("a fault") }

// TestAStreamThatPanicsSaysGoodbye, gives back what it holds, and is not waited for.
func TestAStreamThatPanicsSaysGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		sub := breakingSubscription{newSubscription()}
		st := r.server.newStream(Request{Transport: "test", Principal: &auth.Principal{ExpireTime: time.Now().Add(time.Hour)}, Session: "s2", Heartbeat: time.Minute, Heard: &Heard{}},
			sub, &axpchatv1.Welcome{}, nil)
		out := newClient()
		end := st.Serve(t.Context(), out)
		if end.Close.GetCode() != axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE || !sub.closed || !errs.HasReason(end.Err(), axpchatv1.ErrorReason_ERROR_REASON_INTERNAL) {
			t.Errorf("ended with %v, closed %v, %v", end.Close, sub.closed, end.Err())
		}
		if got := out.kinds(); got != "welcome close:start" {
			t.Errorf("frames %q", got)
		}
		r.cancel()
		if end := <-r.ended; !end.Gone() {
			t.Errorf("the other stream ended with %v", end.Close)
		}
		if err := r.server.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestASendThatPanicsEndsItsStreamAlone: it may run on a goroutine of its own.
func TestASendThatPanicsEndsItsStreamAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		send := r.server.Careful(t.Context(), func(*axpchatv1.ConnectResponse) error { panic("a fault") })
		r.client.mu.Lock()
		r.client.err = send(nil)
		r.client.mu.Unlock()
		r.sub.add("a")
		r.expectEnd(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE)
	})
}
