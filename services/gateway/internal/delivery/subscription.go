package delivery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// Subscription hands the events of one session to one client. Its methods are
// safe for concurrent use; events must be taken by one goroutine.
type Subscription struct {
	engine *Engine
	feed   *feed // nil: merged from several journals
	once   sync.Once
	place
	reset  *axpchatv1.Reset
	ctx    context.Context //nolint:containedctx // the life of the subscription; its catch-ups begin long after Attach returned
	cancel context.CancelFunc

	wake     chan struct{} // something to take, or the end
	space    chan struct{} // something was taken
	caughtUp chan struct{} // closed when the journal was read to its end for the first time

	mu     sync.Mutex
	splice splice
	queue  queue
	end    axpchatv1.CloseCode
	ended  bool
	taken  cursor
}

func newSubscription(e *Engine, r Request, at cursor, reset *axpchatv1.Reset) *Subscription {
	s := &Subscription{
		engine: e, place: place{key: r.Session, start: at, created: r.Created, begins: r.Cursor == "" || reset != nil},
		reset: reset, taken: at,
		wake: make(chan struct{}, 1), space: make(chan struct{}, 1), caughtUp: make(chan struct{}),
		queue: queue{limit: int(e.cfg.QueueBytes)},
	}
	s.ctx, s.cancel = context.WithCancel(e.ctx)
	s.splice = splice{last: at.sequence, emit: s.enqueue}
	return s
}

// Start is the cursor that the subscription begins after.
func (s *Subscription) Start() string { return s.start.String() }

// Reset is what the client must be told before the first event, nil where its
// cursor is honoured.
func (s *Subscription) Reset() *axpchatv1.Reset { return s.reset }

// Wake receives when there may be something to take, or the subscription has
// ended.
func (s *Subscription) Wake() <-chan struct{} { return s.wake }

// CaughtUp is closed when everything that the journal held at the time of the
// attach has been queued.
func (s *Subscription) CaughtUp() <-chan struct{} { return s.caughtUp }

// Take removes the next event from the queue. The event is shared with other
// clients and must not be changed.
func (s *Subscription) Take() (*axpchatv1.Event, bool) {
	it, ok := s.pop()
	if ok {
		signal(s.space)
	}
	return it.event, ok
}

func (s *Subscription) pop() (item, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.queue.pop()
	if ok {
		s.taken.sequence = it.sequence
	}
	return it, ok
}

// Cursor is the place after the last event that was taken.
func (s *Subscription) Cursor() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken.String()
}

// End tells whether the subscription has ended by itself and why. What is
// queued can still be taken, nothing more will come.
func (s *Subscription) End() (axpchatv1.CloseCode, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end, s.ended
}

// Close ends the subscription and gives back what it holds. It may be called
// more than once.
func (s *Subscription) Close() {
	s.cancel()
	if s.feed != nil {
		s.feed.leave(s)
		return
	}
	s.once.Do(func() { s.engine.leaveMerged(s) })
}

// finish ends the subscription for a reason that the client is told.
func (s *Subscription) finish(code axpchatv1.CloseCode) {
	s.mu.Lock()
	if !s.ended {
		s.ended, s.end = true, code
	}
	s.mu.Unlock()
	s.cancel()
	signal(s.wake)
}

// enqueue is what the splice emits to; mu is held. A queue that is full ends
// the subscription: the event stays in the journal, after the client's cursor.
func (s *Subscription) enqueue(it item) {
	if s.ended {
		return
	}
	if !s.queue.push(it) {
		s.ended, s.end = true, axpchatv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER
		s.cancel()
		s.engine.metrics.slow(s.ctx)
	}
	signal(s.wake)
}

// offer takes a live event.
func (s *Subscription) offer(it item) {
	if s.splices(func() bool { return s.splice.offer(it) }) {
		s.engine.metrics.gap(s.ctx)
		s.beginCatchUp()
	}
}

// splices changes the splice. A panic in there must not leave it locked.
func (s *Subscription) splices(f func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}

// advance takes an event of the journal.
func (s *Subscription) advance(it item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.splice.advance(it)
}

// broken ends the subscription where v, which recover has returned, is a panic: its
// client comes back and tries again, and is the only one that must.
func (s *Subscription) broken(v any) {
	if s.engine.panics.Note(s.ctx, "journal", v) != nil {
		s.finish(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE)
	}
}

// behind takes the newest sequence of the session.
func (s *Subscription) behind(newest uint64) {
	if s.splices(func() bool { return s.splice.behind(newest) }) {
		s.engine.metrics.gap(s.ctx)
		s.beginCatchUp()
	}
}

// beginCatchUp is called when the splice has left live mode, so that at most
// one catch-up runs.
func (s *Subscription) beginCatchUp() {
	if !s.engine.spawn(s.catchUp) {
		s.finish(axpchatv1.CloseCode_CLOSE_CODE_SERVER_SHUTDOWN)
	}
}

const (
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second
)

// catchUp reads the journal until live events follow without a hole. It never
// fills the queue by force: a client that reads slowly gets its history at its
// own pace, one that reads nothing is dropped.
func (s *Subscription) catchUp() {
	defer func() { s.broken(recover()) }()
	if s.engine.gather(s) && s.room(pendingBytes) && s.settle() {
		return
	}
	progress, pause := time.Now(), firstPause
	for s.ctx.Err() == nil {
		before := s.position()
		done, err := s.readOn()
		switch {
		case done || s.ctx.Err() != nil:
			return
		case errors.Is(err, errDropped):
			s.finish(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE) // its cursor is judged when it comes back
			return
		case s.position() > before:
			progress, pause = time.Now(), firstPause
			continue
		case time.Since(progress) > s.engine.cfg.GiveUp:
			s.engine.log.WarnContext(s.ctx, "journal can't be read on, client is sent away", slog.Any("error", err))
			s.finish(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE)
			return
		}
		// An error, or a replica that does not have yet what another one has
		// already told of.
		if !wait(s.ctx, pause) {
			return
		}
		pause = min(2*pause, longestPause)
	}
}

// readOn reads to the end of the journal and tries to go live.
func (s *Subscription) readOn() (done bool, err error) {
	batch := firstBatch
	for more := true; more; {
		var events []item
		if events, more, err = s.engine.readOn(s.ctx, s.place, s.position(), batch); err != nil {
			return false, err
		}
		batch = readBatch
		for _, it := range events {
			if !s.room(it.bytes) {
				return false, nil
			}
			s.advance(it)
		}
	}
	if !s.room(pendingBytes) {
		return false, nil
	}
	return s.settle(), nil
}

// settle tries to go live.
func (s *Subscription) settle() bool {
	done := s.splices(s.splice.settle)
	if done {
		s.markCaughtUp()
	}
	return done
}

// markCaughtUp is only called by the one catch-up that runs.
func (s *Subscription) markCaughtUp() {
	select {
	case <-s.caughtUp:
	default:
		close(s.caughtUp)
		signal(s.wake)
	}
}

func (s *Subscription) position() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.splice.last
}

// room waits until the queue takes so many bytes. It returns false when the
// subscription ends, also because its client takes nothing.
func (s *Subscription) room(bytes int) bool {
	stalled := time.NewTimer(s.engine.cfg.StallTimeout)
	defer stalled.Stop()
	for {
		s.mu.Lock()
		fits := s.queue.fits(bytes)
		s.mu.Unlock()
		if fits {
			return s.ctx.Err() == nil
		}
		select {
		case <-s.space:
			stalled.Reset(s.engine.cfg.StallTimeout)
		case <-stalled.C:
			s.engine.metrics.slow(s.ctx)
			s.finish(axpchatv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER)
			return false
		case <-s.ctx.Done():
			return false
		}
	}
}

// signal wakes a reader that looks at the state itself.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// wait sleeps for d; false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
