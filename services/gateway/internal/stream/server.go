package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/delivery"
	"github.com/axpchat/connector/services/gateway/internal/limits"
	"github.com/axpchat/connector/services/gateway/internal/presence"
	"github.com/axpchat/connector/services/gateway/internal/sessions"
	"github.com/axpchat/connector/services/gateway/internal/unshown"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

// Sender sends frames to the client. It is called by one goroutine at a time
// and must return within the write timeout of the configuration. An error that is
// ErrUnencodable or panics.Err means that nothing of the frame was sent and another
// one may be.
type Sender interface {
	Send(ctx context.Context, f *axpchatv1.ConnectResponse) error
}

// Receiver receives frames from the client. It is called by one goroutine. It
// returns io.EOF when the client will send no more, and an errs.Error for a
// frame that can't be read. It must return with an error when the transport has
// ended the connection, which is after Serve has returned.
type Receiver interface {
	Receive(ctx context.Context) (*axpchatv1.ConnectRequest, error)
}

// Executor carries out the command of a frame, and the step of an anonymous
// customer to the one of the context.
type Executor interface {
	StepUp(ctx context.Context, req *axpchatv1.StepUpRequest) (*axpchatv1.StepUpResponse, error)
	Execute(ctx context.Context, session string, f *axpchatv1.ConnectRequest) *axpchatv1.Reply
}

// Verifier checks tokens.
type Verifier interface {
	Verify(ctx context.Context, token string) (*auth.Principal, error)
}

// Params is what NewServer needs.
type Params struct {
	Config    Config
	Log       *slog.Logger
	Meter     metric.MeterProvider
	Engine    *delivery.Engine
	Sessions  *sessions.Reader
	Executor  Executor
	Verifier  Verifier
	Presence  *presence.Registry // may be nil
	Limits    *limits.Limiter    // may be nil
	Version   string
	Retention time.Duration // of the journal, as clients are told
}

// Server serves the streams of one pod. It is safe for concurrent use.
type Server struct {
	p      Params
	panics *panics.Watch
	// What is sent of events that can't be shown, and which ones those are.
	unshown  *unshown.Teller
	suspects suspects

	open   metric.Int64UpDownCounter
	closes metric.Int64Counter

	mu       sync.Mutex
	draining bool
	streams  map[*Stream]struct{}
	carried  int           // what Carry runs
	left     chan struct{} // a stream, or what carried one, has ended

	again chan struct{} // closed, for streams that may have more to take
}

// NewServer returns a server without streams.
func NewServer(p Params) (*Server, error) {
	s := &Server{p: p, streams: map[*Stream]struct{}{}, left: make(chan struct{}, 1), again: make(chan struct{})}
	close(s.again)
	meter := p.Meter.Meter("github.com/axpchat/connector/services/gateway/internal/stream")
	s.panics = panics.New(p.Log, meter)
	var err error
	if s.unshown, err = unshown.New(p.Log, p.Meter); err != nil {
		return nil, err
	}
	if s.open, err = meter.Int64UpDownCounter("axpchat.gateway.streams", metric.WithDescription("Open streams, by transport.")); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if s.closes, err = meter.Int64Counter("axpchat.gateway.stream_closes", metric.WithDescription("Streams that ended, by transport and close code.")); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return s, nil
}

// Careful is send, which may run beside the stream's goroutine, with its panics as
// errors. The stream ends by them.
func (s *Server) Careful(ctx context.Context, send func(*axpchatv1.ConnectResponse) error) func(*axpchatv1.ConnectResponse) error {
	return func(f *axpchatv1.ConnectResponse) error {
		return s.panics.Do(ctx, "send", func() error { return send(f) }, "request_id", grpcx.RequestID(ctx))
	}
}

// Config returns how streams live, for transports.
func (s *Server) Config() Config { return s.p.Config }

// Request says what a client wants to follow.
type Request struct {
	Transport string // for metrics: a constant of the transport
	Principal *auth.Principal
	Session   string
	Cursor    string
	// Origin is where the client comes from.
	Origin limits.Origin
	// Heard notes signs of life that are not frames; may be nil.
	Heard *Heard
	// Heartbeat overrides the configured interval; 0: the configured one.
	Heartbeat time.Duration
}

// Open checks that the session is the customer's and begins to follow it. The
// stream must be served or closed. It fails with SESSION_NOT_FOUND,
// CURSOR_INVALID, UNAVAILABLE or RATE_LIMITED.
func (s *Server) Open(ctx context.Context, r Request) (*Stream, error) { return s.enter(ctx, &r) }

// enter is Open for whoever must not have the request on its stack.
func (s *Server) enter(ctx context.Context, given *Request) (st *Stream, err error) {
	r := *given
	s.mu.Lock()
	draining := s.draining
	s.mu.Unlock()
	if draining {
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "the server leaves; connect again").WithRetryAfter(jitter(time.Second))
	}
	var undo lifecycle.Closers
	defer undo.CloseOnError(&err)
	place, err := s.p.Limits.Open(ctx, limits.Who{Account: r.Principal.Account, Subject: r.Principal.Subject, Session: r.Session, Origin: r.Origin})
	if err != nil {
		return nil, err
	}
	undo.Add("place", func() error { place.Close(); return nil })
	// Watched first, then read: no change falls in between.
	changed, forget, err := s.p.Sessions.Watch(r.Principal.Account, r.Session)
	if err != nil {
		return nil, err
	}
	undo.Add("watch", func() error { forget(); return nil })
	rec, err := s.p.Sessions.Owned(ctx, r.Principal, r.Session)
	if err != nil {
		return nil, err
	}
	// Followed first, then looked at: what happens in between is in the events.
	sub, err := s.attach(ctx, r, rec, r.Cursor)
	if err != nil {
		return nil, err
	}
	undo.Add("subscription", func() error { sub.Close(); return nil })
	engagements, err := s.p.Sessions.Engagements(ctx, r.Principal.Account, rec)
	if err != nil {
		return nil, err
	}
	if r.Heartbeat == 0 {
		r.Heartbeat = s.p.Config.Heartbeat
	}
	if r.Heard == nil {
		r.Heard = &Heard{}
	}
	st = s.newStream(r, sub, s.welcome(r, rec, engagements, sub.Start()), sub.Reset())
	st.place, st.changed, st.forget, st.joined = place, changed, forget, len(rec.GetJoined())
	return st, nil
}

// attach follows the journal of the session, and those of what it has joined.
func (s *Server) attach(ctx context.Context, r Request, rec *busv1.SessionRecord, cursor string) (*delivery.Subscription, error) {
	return s.p.Engine.Attach(ctx, delivery.Request{
		Session: bus.SessionKey{Account: r.Principal.Account, Session: r.Session}, Cursor: cursor,
		Created: rec.GetSession().GetCreateTime().AsTime(), Joined: sessions.Joined(r.Principal.Account, rec),
	})
}

// Accept serves a two-way stream from its first frame, which must be hello, to
// its end. Where the transport knows the session already, r names it.
func (s *Server) Accept(ctx context.Context, r *Request, out Sender, in Receiver) End {
	st, frames, end := s.accept(ctx, r, out, in)
	if frames != nil {
		defer close(frames.stop)
	}
	if st == nil {
		return *end
	}
	return st.serve(ctx, out, frames)
}

// accept opens the stream that the first frame asks for, or tells the client why not.
func (s *Server) accept(ctx context.Context, r *Request, out Sender, in Receiver) (st *Stream, frames *frames, end *End) {
	err := s.Aside(ctx, func() (err error) {
		if err = s.hello(ctx, r, in); err == nil {
			frames = s.receive(ctx, in)
			st, err = s.enter(ctx, r)
		}
		if err != nil {
			why := s.unopened(ctx, err, out)
			end = &why
		}
		return nil
	})
	if err != nil {
		why := s.Refuse(ctx, err, out)
		st, end = nil, &why
	}
	return st, frames, end
}

// Aside runs f, which opens a stream, on a goroutine of its own: that of the transport
// will rest with its stack as it is then. A panic of f is an error INTERNAL.
func (s *Server) Aside(ctx context.Context, f func() error) error {
	return s.panics.Aside(ctx, "stream", f, "request_id", grpcx.RequestID(ctx))
}

// Carry serves a client beside the handler of its transport, which may return and
// give back what it holds. Drain waits until f has returned. Its context is of
// the pod's life and not of the request's, of which it keeps the id alone; it
// ends when the engine is closed, which waits for f as well. Carry returns false
// when that has happened.
func (s *Server) Carry(ctx context.Context, f func(ctx context.Context)) bool {
	id := grpcx.RequestID(ctx)
	s.mu.Lock()
	s.carried++
	s.mu.Unlock()
	ok := s.p.Engine.Go(func(ctx context.Context) {
		defer s.putDown(ctx, id)
		f(grpcx.WithRequestID(ctx, id))
	})
	if !ok {
		s.putDown(ctx, id)
	}
	return ok
}

// putDown is deferred; it calls recover itself. A broken client must not end
// those of the others.
func (s *Server) putDown(ctx context.Context, id string) {
	_ = s.panics.Note(ctx, "client", recover(), "request_id", id) // nobody is left to be told
	s.mu.Lock()
	s.carried--
	s.mu.Unlock()
	s.tellDrain()
}

// tellDrain lets Drain count again.
func (s *Server) tellDrain() {
	select {
	case s.left <- struct{}{}:
	default:
	}
}

// unopened ends a stream whose first frame led to nothing.
func (s *Server) unopened(ctx context.Context, err error, out Sender) End {
	if errors.Is(err, io.EOF) {
		return newEnd(axpchatv1.CloseCode_CLOSE_CODE_UNSPECIFIED, "", io.EOF)
	}
	return s.Refuse(ctx, err, out)
}

// Refuse ends a stream that could not be opened: the client is told why.
func (s *Server) Refuse(ctx context.Context, err error, out Sender) End {
	end := newEnd(codeOf(err), "", err)
	if err := out.Send(ctx, closeFrame(end.Close)); err != nil {
		s.p.Log.DebugContext(ctx, "close frame can't be sent", "error", err)
	}
	return end
}

// hello completes the request by the first frame. It is read by a goroutine that
// ends with it: decoding makes a stack grow that the goroutine which waits for
// the next frame, often for ever, does not need.
func (s *Server) hello(ctx context.Context, r *Request, in Receiver) error {
	timer := time.NewTimer(s.p.Config.HelloTimeout)
	defer timer.Stop()
	came := make(chan received, 1)
	go func() {
		var first received
		err := s.panics.Do(ctx, "frame", func() error {
			first.frame, first.err = in.Receive(ctx)
			return nil
		}, "request_id", grpcx.RequestID(ctx))
		if err != nil {
			first = received{err: err}
		}
		came <- first
	}()
	var first received
	select {
	case first = <-came:
	case <-timer.C:
		return frameInvalid("the first frame did not come in time")
	case <-ctx.Done():
		return io.EOF
	}
	if first.err != nil {
		if !isFrameFault(first.err) {
			return io.EOF
		}
		return first.err
	}
	hello := first.frame.GetHello()
	if hello == nil {
		return frameInvalid("the first frame must be hello")
	}
	switch {
	case r.Session == "":
		r.Session = hello.GetSessionId()
	case hello.GetSessionId() != "" && hello.GetSessionId() != r.Session:
		return frameInvalid("hello names another session than the address")
	}
	r.Cursor = hello.GetCursor()
	return nil
}

func frameInvalid(detail string) error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID, detail)
}

// Drain tells every client to move, each at its own moment, and serves them
// until they have gone or their time is over. It returns when no stream is left
// or ctx is done. From its call on no stream is opened.
func (s *Server) Drain(ctx context.Context) error {
	spread := s.p.Config.DrainSpread
	if deadline, ok := ctx.Deadline(); ok {
		// The last ones must have gone before the process is ended by force.
		spread = min(spread, max(0, time.Until(deadline)-s.p.Config.DrainGrace)*3/4)
	}
	s.mu.Lock()
	s.draining = true
	for st := range s.streams {
		st.leave <- jitter(spread)
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		n := max(len(s.streams), s.carried) // most of what is carried is a stream
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-s.left:
		case <-ctx.Done():
			return fmt.Errorf("%d streams are left: %w", n, ctx.Err())
		}
	}
}

func (st *Stream) key() bus.SessionKey {
	return bus.SessionKey{Account: st.r.Principal.Account, Session: st.r.Session}
}

func (s *Server) add(ctx context.Context, st *Stream) {
	s.p.Presence.Enter(st.key())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st] = struct{}{}
	if s.draining {
		st.leave <- 0
	}
	s.open.Add(ctx, 1, metric.WithAttributes(attribute.String("transport", st.r.Transport)))
}

func (s *Server) remove(ctx context.Context, st *Stream, code axpchatv1.CloseCode) {
	s.p.Presence.Leave(st.key())
	s.mu.Lock()
	delete(s.streams, st)
	s.mu.Unlock()
	s.tellDrain()
	transport := attribute.String("transport", st.r.Transport)
	s.open.Add(ctx, -1, metric.WithAttributes(transport))
	s.closes.Add(ctx, 1, metric.WithAttributes(transport, attribute.String("code", code.String())))
}
