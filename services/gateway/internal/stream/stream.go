package stream

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/limits"
	"github.com/axpchat/connector/services/gateway/internal/sessions"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

const (
	// burst is how many events are sent before other things get their turn.
	burst = 64
	// rest is how long a stream for which nothing comes keeps the goroutine that
	// serves it, at least, and half of how long at most.
	rest = time.Second
	// lastReplies is how long the answers to commands that are under way are
	// waited for when a stream ends in good order.
	lastReplies = 3 * time.Second
)

// subscription is delivery's Subscription.
type subscription interface {
	Wake() <-chan struct{}
	CaughtUp() <-chan struct{}
	Take() (*axpchatv1.Event, bool)
	Cursor() string
	End() (axpchatv1.CloseCode, bool)
	Close()
}

// Stream is one client's stream. One goroutine at a time serves it, and all its
// state belongs to that goroutine.
type Stream struct {
	server  *Server
	r       Request
	sub     subscription
	welcome *axpchatv1.Welcome // until it is sent
	reset   *axpchatv1.Reset   // until it is sent
	closed  bool               // the session was closed already when the stream began
	leave   chan time.Duration // at most one: move, after so long
	changed <-chan *nats.Msg   // the session's record has changed
	forget  func()             // ends changed; may be nil
	record  uint64             // the revision that changed has told of last
	looks   int                // at a record that is not as new as that
	place   *limits.Stream     // among the open streams; may be nil
	joined  int                // how many engagements of other sessions are followed

	out       Sender
	in        *frames // nil: one-way
	principal *auth.Principal
	results   chan result // nil: no command yet
	inFlight  int
	refreshes int                       // tokens that are being checked
	barrier   bool                      // the customer may be changing: nothing more is read
	held      *axpchatv1.ConnectRequest // the token that waits for the commands before it
	commands  int                       // ever started
	lastSend  chan struct{}             // closed when the message before is answered
	work      sync.WaitGroup
	workCtx   context.Context //nolint:containedctx // of the commands; made with the first, since most streams have none
	endWork   context.CancelFunc
	timers    timers

	// What the stream waits for, and what has come: see wait.
	more     <-chan struct{} // closed: there may be more to take at once; nil: not
	caughtUp <-chan struct{}
	said     received
	done     result
	moveIn   time.Duration

	last End // how it ended
}

func (s *Server) newStream(r Request, sub subscription, welcome *axpchatv1.Welcome, reset *axpchatv1.Reset) *Stream {
	return &Stream{
		server: s, r: r, sub: sub, welcome: welcome, reset: reset, principal: r.Principal,
		leave: make(chan time.Duration, 1),
	}
}

// Heard is when a client was last heard of. It is safe for concurrent use.
type Heard struct {
	nanos atomic.Int64
}

// Touch notes a sign of life.
func (h *Heard) Touch() { h.nanos.Store(time.Now().UnixNano()) }

func (h *Heard) silence() time.Duration { return time.Since(time.Unix(0, h.nanos.Load())) }

// Close gives back what a stream holds. Serve does it itself.
func (st *Stream) Close() {
	st.sub.Close()
	if st.forget != nil {
		st.forget()
	}
	st.place.Close()
}

// Serve serves a one-way stream to its end.
func (st *Stream) Serve(ctx context.Context, out Sender) End { return st.serve(ctx, out, nil) }

// serve runs the stream and closes it. The close frame is sent unless the
// client has gone.
//
// A goroutine rests in here for as long as its client stays, thousands of them,
// and a stack that has once grown stays so while it rests. So this one only waits:
// what is to be done is done by goroutines that end when nothing more comes, one at
// a time, whose the stream's state is meanwhile.
func (st *Stream) serve(ctx context.Context, out Sender, in *frames) End {
	st.out, st.in = out, in
	for o := opened; st.spell(ctx, o); {
		o = st.wait(ctx, nil)
	}
	return st.last
}

// spell lets a goroutine serve from an occasion on until nothing more comes. It
// returns false when the stream is over.
func (st *Stream) spell(ctx context.Context, o occasion) bool {
	rests := make(chan bool)
	go st.serveOn(ctx, o, rests)
	return <-rests
}

// serveOn serves for a spell.
func (st *Stream) serveOn(ctx context.Context, o occasion, rests chan<- bool) {
	over := true
	defer func() { rests <- !over }()
	defer st.shattered(ctx)
	defer func() {
		if over {
			st.release(ctx)
		}
	}()
	defer st.broken(ctx)
	if over = st.busy(ctx, o); over {
		st.bid(ctx)
	}
}

// broken is deferred; it calls recover itself. A stream that a fault of ours ends
// says so, like any other.
func (st *Stream) broken(ctx context.Context) {
	if err := st.server.panics.Note(ctx, "stream", recover(), "request_id", grpcx.RequestID(ctx)); err != nil {
		st.last, _ = st.end(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE, err)
		st.bid(ctx)
	}
}

// shattered is deferred; it calls recover itself. It is for faults in saying goodbye.
func (st *Stream) shattered(ctx context.Context) {
	if err := st.server.panics.Note(ctx, "stream", recover(), "request_id", grpcx.RequestID(ctx)); err != nil {
		st.last = newEnd(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE, "", err)
	}
}

// begin takes what release gives back.
func (st *Stream) begin(ctx context.Context) {
	st.r.Heard.Touch()
	st.timers.start(st)
	st.server.add(ctx, st)
}

// release ends the commands and gives back what the stream holds.
func (st *Stream) release(ctx context.Context) {
	if st.endWork != nil {
		st.endWork()
		st.work.Wait()
	}
	st.timers.stop()
	st.Close()
	st.server.remove(context.WithoutCancel(ctx), st, st.last.Close.GetCode())
}

// bid says goodbye.
func (st *Stream) bid(ctx context.Context) {
	end := &st.last
	if !errors.Is(end.cause, io.EOF) && !end.mute {
		st.answerLast(ctx)
		end.Close.Cursor = st.sub.Cursor()
		if err := st.out.Send(ctx, closeFrame(end.Close)); err != nil {
			st.server.p.Log.DebugContext(ctx, "close frame can't be sent", "code", end.Close.GetCode().String(), "error", err)
		}
	}
}

// busy takes turns until the stream is over, or nothing more comes: then it returns
// false.
func (st *Stream) busy(ctx context.Context, o occasion) (over bool) {
	quiet := time.NewTimer(rest)
	defer quiet.Stop()
	for calm := false; ; o = st.wait(ctx, quiet.C) {
		if o == nothing {
			if calm {
				return false
			}
			calm = true
			quiet.Reset(rest)
			continue
		}
		calm = false
		if st.last, over = st.turn(ctx, o); over {
			return true
		}
		if o == clockRang && st.more == nil {
			return false // a sign of life, most often, and nothing before the next one
		}
	}
}

// occasion is what a stream has waited for.
type occasion int

const (
	clientLeft occasion = iota
	wakeUp
	caughtUp
	mayPump
	commandDone
	recordChanged
	frameCame
	mustMove
	clockRang
	opened  // the stream begins
	nothing // it has been quiet
)

// wait returns when something has come, or quiet has. It keeps what in st.
func (st *Stream) wait(ctx context.Context, quiet <-chan time.Time) occasion {
	var next <-chan received
	if st.in != nil && !st.barrier && st.inFlight < st.server.p.Config.InFlight {
		next = st.in.next
	}
	if len(st.changed) > 0 {
		// It goes first: events that come after the change may be of a journal
		// that is not followed yet, and must not come in the wrong order.
		st.record = sessions.Revision(<-st.changed)
		return recordChanged
	}
	select {
	case <-ctx.Done():
		return clientLeft
	case <-st.sub.Wake():
		return wakeUp
	case <-st.caughtUp:
		return caughtUp
	case <-st.more:
		return mayPump
	case st.done = <-st.results:
		return commandDone
	case change := <-st.changed:
		st.record = sessions.Revision(change)
		return recordChanged
	case st.said = <-next:
		return frameCame
	case st.moveIn = <-st.leave:
		return mustMove
	case <-st.timers.timer.C:
		return clockRang
	case <-quiet:
		return nothing
	}
}

// expired tells whether the stream may not go on: nothing is sent and no command
// is carried out on a token that has expired, however many events and frames keep
// the clock from being looked at. A fresh token that is being checked is waited for.
func (st *Stream) expired() bool {
	return st.refreshes == 0 && !time.Now().Before(st.principal.ExpireTime)
}

// turn does what the occasion asks for.
func (st *Stream) turn(ctx context.Context, o occasion) (end End, over bool) {
	// Answers to what was asked in time are given, and a frame may bring a token.
	if o != opened && o != clientLeft && o != commandDone && o != frameCame && st.expired() {
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_TOKEN_EXPIRED, nil)
	}
	switch o {
	case opened:
		st.begin(ctx)
		end, over = st.greet(ctx)
		st.more, st.caughtUp = st.server.again, st.sub.CaughtUp()
	case clientLeft:
		return st.gone()
	case wakeUp:
		st.more = st.server.again
	case caughtUp:
		st.caughtUp, st.more = nil, st.server.again
	case mayPump:
		var more bool
		if more, end, over = st.pump(ctx); !more {
			st.more = nil
		}
	case commandDone:
		r := st.done
		st.done = result{}
		return st.answer(ctx, r)
	case recordChanged:
		end, over = st.follow(ctx)
		st.caughtUp, st.more = st.sub.CaughtUp(), st.server.again
	case frameCame:
		f := st.said
		st.said = received{}
		return st.handle(ctx, f)
	case mustMove:
		end, over = st.send(ctx, goAwayFrame(st.moveIn, st.sub.Cursor()))
		st.timers.set(shutdown, st.moveIn+st.server.p.Config.DrainGrace)
	case clockRang:
		return st.ring(ctx)
	case nothing: // there is nothing to do
	}
	return end, over
}

// ring does what is to be done at the time.
func (st *Stream) ring(ctx context.Context) (End, bool) {
	c, ok := st.timers.rung()
	if !ok {
		return End{}, false
	}
	switch c {
	case heartbeat:
		return st.send(ctx, pongFrame(""))
	case reminder:
		return st.send(ctx, reminderFrame(st.principal.ExpireTime))
	case idle:
		return st.checkIdle()
	case stale:
		return st.follow(ctx)
	case expiry:
		// turn has looked: a fresh token is being checked, whose answer looks again,
		// or the clock on the wall has been set back.
		if st.refreshes == 0 {
			st.timers.set(expiry, time.Until(st.principal.ExpireTime))
		}
		return End{}, false
	case age:
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_MAX_AGE, nil)
	case shutdown:
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_SERVER_SHUTDOWN, nil)
	default:
		return End{}, false
	}
}

// greet sends what comes before the first event.
func (st *Stream) greet(ctx context.Context) (End, bool) {
	welcome := &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Welcome{Welcome: st.welcome}}
	if end, over := st.send(ctx, welcome); over {
		return end, over
	}
	st.closed = st.welcome.GetSession().GetStatus() == axpchatv1.SessionStatus_SESSION_STATUS_CLOSED
	reset := st.reset
	st.welcome, st.reset = nil, nil // a long stream must not hold on to them
	if reset == nil {
		return End{}, false
	}
	return st.send(ctx, resetFrame(reset))
}

// pump sends events that wait, some at a time. More tells that there may be
// further ones.
func (st *Stream) pump(ctx context.Context) (more bool, end End, over bool) {
	complete := isClosed(st.sub.CaughtUp()) // before the queue is looked at
	for range burst {
		if len(st.changed) > 0 {
			return true, End{}, false
		}
		ev, ok := st.sub.Take()
		if !ok {
			if code, ended := st.sub.End(); ended {
				end, over = st.end(code, nil)
			} else if complete && st.closed {
				end, over = st.end(axpchatv1.CloseCode_CLOSE_CODE_SESSION_CLOSED, nil)
			}
			return false, end, over
		}
		if end, over = st.show(ctx, ev); over {
			return false, end, over
		}
		if changed := ev.GetSessionChanged().GetSession(); changed.GetStatus() == axpchatv1.SessionStatus_SESSION_STATUS_CLOSED && changed.GetSessionId() == st.r.Session {
			end, over = st.end(axpchatv1.CloseCode_CLOSE_CODE_SESSION_CLOSED, nil)
			return false, end, over
		}
	}
	return true, End{}, false
}

const (
	// lookAgain bounds the look at a record that has changed.
	lookAgain = 5 * time.Second
	// staleWait is when to look once more at one that came older than it is, and
	// staleLooks how often at most.
	staleWait  = 100 * time.Millisecond
	staleLooks = 20
)

// follow goes on with the journals of what the session has joined meanwhile.
// What is queued and not sent yet comes again, from the cursor.
func (st *Stream) follow(ctx context.Context) (End, bool) {
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	rec, revision, err := st.server.p.Sessions.Look(ctx, st.r.Principal, st.r.Session)
	if errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND) {
		return st.dispossessed()
	}
	if err == nil && revision < st.record && st.looks < staleLooks {
		// A replica has answered that does not have yet what it is all about.
		st.looks++
		st.timers.set(stale, staleWait)
	} else {
		st.looks = 0
		st.timers.set(stale, st.server.p.Config.StateCheck)
	}
	if err != nil || len(rec.GetJoined()) == st.joined {
		// A record that can't be read now is read again by the next stream.
		return End{}, false
	}
	sub, err := st.server.attach(ctx, st.r, rec, st.sub.Cursor())
	if err != nil {
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE, err)
	}
	st.sub.Close()
	st.sub, st.joined = sub, len(rec.GetJoined())
	if sub.Reset() != nil {
		return st.send(ctx, resetFrame(sub.Reset()))
	}
	return End{}, false
}

// dispossessed ends the stream of a customer whose session it is no more.
func (st *Stream) dispossessed() (End, bool) {
	switch {
	case st.barrier:
		return End{}, false // he is just signing in, by this very stream; the answer looks again
	case st.r.Principal.Anonymous:
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_STEPPED_UP, nil)
	default:
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_SESSION_NOT_FOUND, nil)
	}
}

func (st *Stream) checkIdle() (End, bool) {
	limit := st.server.p.Config.ClientIdle
	silence := st.r.Heard.silence()
	if silence >= limit {
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_IDLE, nil)
	}
	st.timers.set(idle, limit-silence)
	return End{}, false
}

// answerLast sends the answers to commands that are under way.
func (st *Stream) answerLast(ctx context.Context) {
	timer := time.NewTimer(lastReplies)
	defer timer.Stop()
	for st.inFlight > 0 {
		select {
		case r := <-st.results:
			if _, over := st.answer(ctx, r); over {
				return
			}
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (st *Stream) end(code axpchatv1.CloseCode, cause error) (End, bool) {
	return newEnd(code, st.sub.Cursor(), cause), true
}

// gone is the end of a stream whose client has left.
func (st *Stream) gone() (End, bool) {
	return st.end(axpchatv1.CloseCode_CLOSE_CODE_UNSPECIFIED, io.EOF)
}

// ErrStalled is returned by a Sender whose client takes nothing.
var ErrStalled = errors.New("stream: the client takes nothing")

func (st *Stream) send(ctx context.Context, f *axpchatv1.ConnectResponse) (End, bool) {
	return st.judge(st.out.Send(ctx, f))
}

// judge says what the outcome of a Send means for the stream.
func (st *Stream) judge(err error) (End, bool) {
	switch {
	case err == nil:
		return End{}, false
	case errors.Is(err, panics.Err), errors.Is(err, ErrUnencodable):
		return st.end(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE, err)
	case errors.Is(err, ErrStalled):
		end, over := st.end(axpchatv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER, nil)
		end.mute = true // the close frame would not get through either
		return end, over
	default:
		return st.gone()
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
