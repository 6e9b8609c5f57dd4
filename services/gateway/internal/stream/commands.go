package stream

import (
	"context"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

// maxFrameID is the longest frame id, as the protocol says.
const maxFrameID = 128

// result is the outcome of a command.
type result struct {
	reply     *axpchatv1.Reply
	refresh   bool            // it is the answer to a fresh token
	principal *auth.Principal // of that token, where it was taken
}

func isFrameFault(err error) bool {
	var fault *errs.Error
	return errors.As(err, &fault)
}

// handle takes the next thing that the client sent.
func (st *Stream) handle(ctx context.Context, r received) (End, bool) {
	switch {
	case errors.Is(r.err, io.EOF):
		st.in = nil // it only listens from now on; silence still ends the stream
		return End{}, false
	case errors.Is(r.err, panics.Err):
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE, r.err)
	case r.err != nil && isFrameFault(r.err):
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR, r.err)
	case r.err != nil:
		return st.gone()
	}
	st.r.Heard.Touch()
	f := r.frame
	if utf8.RuneCountInString(f.GetFrameId()) > maxFrameID {
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR, frameInvalid("a frame_id has more than 128 characters"))
	}
	if st.expired() && f.GetRefreshToken() == nil {
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_TOKEN_EXPIRED, nil)
	}
	if enough, err := st.place.Frame(ctx, f.GetSendMessage() != nil, proto.Size(f)); err != nil {
		return st.refuse(ctx, f, err, enough)
	}
	switch f.GetPayload().(type) {
	case *axpchatv1.ConnectRequest_Hello:
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR, frameInvalid("hello must be the first frame, and only the first"))
	case *axpchatv1.ConnectRequest_Ping:
		return st.send(ctx, pongFrame(f.GetFrameId()))
	case *axpchatv1.ConnectRequest_RefreshToken:
		st.takeToken(ctx, f)
	case *axpchatv1.ConnectRequest_SendMessage:
		// Messages and their answers keep their order, so each waits for the one
		// before it.
		before, done := st.lastSend, make(chan struct{})
		st.lastSend = done
		st.start(ctx, f, done, st.behind(before, f))
	case *axpchatv1.ConnectRequest_EndEngagement, *axpchatv1.ConnectRequest_DeleteSession:
		// What was written before it is sent before it, or it would fail.
		st.start(ctx, f, nil, st.behind(st.lastSend, f))
	default:
		st.start(ctx, f, nil, func(ctx context.Context) result { return st.execute(ctx, f) })
	}
	return End{}, false
}

// behind carries a command out when the message before it has its answer; nil: at
// once.
func (st *Stream) behind(before <-chan struct{}, f *axpchatv1.ConnectRequest) func(context.Context) result {
	return func(ctx context.Context) result {
		if before != nil {
			select {
			case <-before:
			case <-ctx.Done():
			}
		}
		return st.execute(ctx, f)
	}
}

// refuse answers a frame that is over a limit; a client that does not listen to
// that is sent away.
func (st *Stream) refuse(ctx context.Context, f *axpchatv1.ConnectRequest, err error, enough bool) (End, bool) {
	if enough {
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_RATE_LIMITED, err)
	}
	return st.send(ctx, replyFrame(problem(ctx, f, err)))
}

// start works a command beside the stream and closes done, where there is one,
// when its answer is in line. There are never more commands than results has
// room for, so none waits to be read.
func (st *Stream) start(ctx context.Context, f *axpchatv1.ConnectRequest, done chan<- struct{}, work func(context.Context) result) {
	if st.results == nil {
		st.results = make(chan result, st.server.p.Config.InFlight)
		st.workCtx, st.endWork = context.WithCancel(ctx)
	}
	st.inFlight++
	st.commands++
	ctx = auth.WithPrincipal(st.workCtx, st.principal) //nolint:contextcheck // workCtx is a child of the first command's ctx, which all share
	ctx = grpcx.WithRequestID(ctx, grpcx.RequestID(ctx)+"-"+strconv.Itoa(st.commands))
	st.work.Go(func() {
		if done != nil {
			defer close(done)
		}
		st.results <- st.outcome(ctx, f, work)
	})
}

// outcome is what work makes of a frame. Where it panics that is a fault like any
// other, which its client is told; the stream goes on.
func (st *Stream) outcome(ctx context.Context, f *axpchatv1.ConnectRequest, work func(context.Context) result) (r result) {
	err := st.server.panics.Do(ctx, "command", func() error {
		r = work(ctx)
		return nil
	}, "request_id", grpcx.RequestID(ctx))
	if err != nil {
		return result{refresh: f.GetRefreshToken() != nil, reply: problem(ctx, f, err)}
	}
	return r
}

// problem is the answer to a frame that led to an error.
func problem(ctx context.Context, f *axpchatv1.ConnectRequest, err error) *axpchatv1.Reply {
	return &axpchatv1.Reply{
		FrameId: f.GetFrameId(), Result: &axpchatv1.Reply_Problem{Problem: errs.ToProblem(err, grpcx.RequestID(ctx))},
	}
}

func (st *Stream) execute(ctx context.Context, f *axpchatv1.ConnectRequest) result {
	return result{reply: st.server.p.Executor.Execute(ctx, st.r.Session, f)}
}

// takeToken has a fresh token checked. That of an anonymous customer may hand the
// session over: what was asked before must be through by then, and what comes
// after is asked by the new customer.
func (st *Stream) takeToken(ctx context.Context, f *axpchatv1.ConnectRequest) {
	who := st.r.Principal
	st.barrier = who.Anonymous
	if st.barrier && st.inFlight > 0 {
		st.held = f
		return
	}
	st.refreshes++
	st.start(ctx, f, nil, func(ctx context.Context) result { return st.refresh(ctx, who, f) })
}

// refresh checks a fresh token, which must be of the same customer.
func (st *Stream) refresh(ctx context.Context, who *auth.Principal, f *axpchatv1.ConnectRequest) result {
	p, err := st.server.p.Verifier.Verify(ctx, f.GetRefreshToken().GetToken())
	if err == nil && !p.Same(who) {
		err = st.stepUp(ctx, who, p)
	}
	if err != nil {
		return result{reply: problem(ctx, f, err), refresh: true}
	}
	reply := &axpchatv1.Reply{FrameId: f.GetFrameId()}
	reply.Result = &axpchatv1.Reply_RefreshToken{RefreshToken: &axpchatv1.TokenRefreshed{ExpireTime: timestamppb.New(p.ExpireTime)}}
	return result{reply: reply, refresh: true, principal: p}
}

// stepUp makes the session that of the customer who has signed in.
func (st *Stream) stepUp(ctx context.Context, who, p *auth.Principal) error {
	if !p.StepsUp(who) {
		return errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "the token is of another customer")
	}
	_, err := st.server.p.Executor.StepUp(auth.WithPrincipal(ctx, p), &axpchatv1.StepUpRequest{SessionId: st.r.Session})
	return err
}

// answer sends the outcome of a command.
func (st *Stream) answer(ctx context.Context, r result) (End, bool) {
	st.inFlight--
	if r.refresh {
		return st.renewed(ctx, r)
	}
	if st.held != nil && st.inFlight == 0 {
		f := st.held
		st.held = nil
		st.takeToken(ctx, f)
	}
	return st.send(ctx, replyFrame(r.reply))
}

// renewed goes on with a fresh token, if it was taken.
func (st *Stream) renewed(ctx context.Context, r result) (End, bool) {
	st.refreshes--
	looked := !st.barrier
	st.barrier = false
	if r.principal != nil {
		st.principal, st.r.Principal = r.principal, r.principal
		st.timers.token(r.principal.ExpireTime, st.server.p.Config.ExpiryReminder)
	}
	end, over := st.send(ctx, replyFrame(r.reply))
	switch {
	case over:
		return end, over
	case st.expired():
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_TOKEN_EXPIRED, nil)
	case looked:
		return End{}, false
	}
	return st.follow(ctx) // the record may have changed behind the barrier
}
