package limiter

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Class says how urgent a call is.
type Class int

// The classes, the most urgent first.
const (
	// Messages are what customers have written.
	Messages Class = iota
	// LifeCycle are the calls about sessions and engagements.
	LifeCycle
	// Background is everything else: history, media, subscriptions.
	Background
	// Classes is how many there are.
	Classes
)

// String gives the name of the class, for metrics.
func (c Class) String() string {
	switch c {
	case Messages:
		return "messages"
	case LifeCycle:
		return "lifecycle"
	default:
		return "background"
	}
}

// Result says what a call tells about how much AXP can take.
type Result int

const (
	// Neutral tells nothing, such as a call that the caller broke off.
	Neutral Result = iota
	// Success means that AXP has answered.
	Success
	// Fault means that AXP has failed, or cannot be reached. One alone means little.
	Fault
	// Overload means that AXP refuses for being asked too much, or did not answer in time.
	Overload
)

// fullAdvice is what a call is told to wait for which there is no room.
const fullAdvice = time.Second

// ErrClosed says that the Limiter has been closed.
var ErrClosed = errors.New("limiter: closed")

// BusyError says that a call got no turn. It was not made.
type BusyError struct {
	// Paused: AXP wants the account to wait for longer than the call would.
	// Otherwise too many calls are waiting.
	Paused bool
	// RetryAfter is when it is worth trying again.
	RetryAfter time.Duration
}

// Error implements error.
func (e *BusyError) Error() string {
	if e.Paused {
		return fmt.Sprintf("AXP wants no calls of the account for %v", e.RetryAfter.Round(time.Millisecond))
	}
	return "too many calls of the account are waiting for AXP"
}

// Clock tells the time and waits.
type Clock interface {
	Now() time.Time
	// Sleep waits for d, or until ctx is done, whose cause it then returns.
	Sleep(ctx context.Context, d time.Duration) error
}

// Params is what New needs. Clock is required.
type Params struct {
	Config Config
	Clock  Clock
	// Patience is the longest pause of the account that a call waits for. 0: no
	// call waits for one.
	Patience time.Duration
}

// Limiter gives turns. Close it.
type Limiter struct {
	cfg      Config
	clock    Clock
	patience time.Duration
	life     context.Context //nolint:containedctx // the life of the limiter, not of a call
	end      context.CancelFunc
	wg       sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	limit     float64
	inFlight  int
	cuts      uint64 // how often the limit was cut
	faults    int    // in a row
	queues    [Classes]list.List
	passed    [Classes]int
	notBefore time.Time
	waking    bool
}

// waiter is a call that waits. Its turn or its refusal comes once.
type waiter struct {
	class    Class
	place    *list.Element
	deadline time.Time // of the caller; zero: none
	turn     chan *Turn
	refused  chan error
}

// New makes a limiter. It starts nothing before there is something to wait for.
func New(p Params) *Limiter {
	cfg := p.Config.withDefaults()
	life, end := context.WithCancel(context.Background())
	return &Limiter{
		cfg: cfg, clock: p.Clock, patience: p.Patience, life: life, end: end,
		limit: float64(min(cfg.Start, cfg.Max)),
	}
}

// Turn is the permission to make one call. Done gives it back.
type Turn struct {
	limiter *Limiter
	cuts    uint64
	full    bool // there was no room left after it
	once    sync.Once
}

// Acquire waits for a turn. It fails with a *BusyError, with the cause of ctx
// when that ends first, or with ErrClosed.
func (l *Limiter) Acquire(ctx context.Context, class Class) (*Turn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w, turn, err := l.enter(ctx, class)
	if w == nil {
		return turn, err
	}
	select {
	case turn := <-w.turn:
		return turn, nil
	case err := <-w.refused:
		return nil, err
	case <-ctx.Done():
		l.leave(w)
		return nil, ctx.Err()
	}
}

// enter gives a turn at once, or a place in the queue, or an error.
func (l *Limiter) enter(ctx context.Context, class Class) (*waiter, *Turn, error) {
	deadline, _ := ctx.Deadline()
	w := &waiter{class: class, deadline: deadline, turn: make(chan *Turn, 1), refused: make(chan error, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	paused := l.notBefore.Sub(l.clock.Now())
	queue := &l.queues[class]
	switch {
	case l.closed:
		return nil, nil, ErrClosed
	case !l.waitsLocked(w, paused):
		return nil, nil, &BusyError{Paused: true, RetryAfter: paused}
	case queue.Len() >= l.cfg.Queue:
		return nil, nil, &BusyError{RetryAfter: fullAdvice}
	}
	w.place = queue.PushBack(w)
	l.dispatchLocked()
	select {
	case turn := <-w.turn:
		return nil, turn, nil
	default:
		return w, nil, nil
	}
}

// waitsLocked says whether a call sits out a pause.
func (l *Limiter) waitsLocked(w *waiter, pause time.Duration) bool {
	return pause <= 0 || pause <= l.patience && (w.deadline.IsZero() || time.Until(w.deadline) > pause)
}

// leave takes a waiter away whose caller has gone.
func (l *Limiter) leave(w *waiter) {
	l.mu.Lock()
	if w.place != nil {
		l.queues[w.class].Remove(w.place)
		w.place = nil
	}
	l.mu.Unlock()
	select {
	case turn := <-w.turn: // it came at the same moment
		turn.Done(Neutral)
	default:
	}
}

// dispatchLocked gives out what turns there are.
func (l *Limiter) dispatchLocked() {
	if wait := l.notBefore.Sub(l.clock.Now()); wait > 0 {
		l.wakeLocked(wait)
		return
	}
	for l.inFlight < int(l.limit) {
		w := l.nextLocked()
		if w == nil {
			return
		}
		l.inFlight++
		w.turn <- &Turn{limiter: l, cuts: l.cuts, full: l.inFlight >= int(l.limit)}
	}
}

// nextLocked takes the waiter whose turn it is out of its queue: the first of
// the most urgent class, unless another one was passed over too often.
func (l *Limiter) nextLocked() *waiter {
	chosen := Classes
	for c := range Classes {
		switch {
		case l.queues[c].Len() == 0:
			l.passed[c] = 0
		case chosen == Classes, l.passed[c] >= l.cfg.Yield && l.passed[c] > l.passed[chosen]:
			chosen = c
		}
	}
	if chosen == Classes {
		return nil
	}
	for c := range Classes {
		if c > chosen && l.queues[c].Len() > 0 {
			l.passed[c]++
		}
	}
	l.passed[chosen] = 0
	queue := &l.queues[chosen]
	w, _ := queue.Remove(queue.Front()).(*waiter)
	w.place = nil
	return w
}

// wakeLocked sees to it that somebody looks again when the pause is over.
func (l *Limiter) wakeLocked(wait time.Duration) {
	if l.waking || l.closed || l.waitingLocked() == 0 {
		return
	}
	l.waking = true
	l.wg.Go(func() {
		_ = l.clock.Sleep(l.life, wait) // an end of life shows below
		l.mu.Lock()
		defer l.mu.Unlock()
		l.waking = false
		if !l.closed {
			l.dispatchLocked()
		}
	})
}

func (l *Limiter) waitingLocked() int {
	n := 0
	for c := range l.queues {
		n += l.queues[c].Len()
	}
	return n
}

// Done gives the turn back and says what came of the call. Only the first time
// counts.
func (t *Turn) Done(r Result) {
	t.once.Do(func() {
		l := t.limiter
		l.mu.Lock()
		defer l.mu.Unlock()
		l.inFlight--
		l.learnLocked(t, r)
		l.dispatchLocked()
	})
}

// learnLocked adapts the limit.
func (l *Limiter) learnLocked(t *Turn, r Result) {
	switch r {
	case Success:
		l.faults = 0
		// Calls that did not need all of the limit say nothing about more.
		if t.full || l.waitingLocked() > 0 {
			l.limit = min(float64(l.cfg.Max), l.limit+1/l.limit)
		}
	case Fault:
		l.faults++
		if l.faults >= l.cfg.Burst {
			l.cutLocked(t)
		}
	case Overload:
		l.cutLocked(t)
	case Neutral:
	}
}

// cutLocked lowers the limit, once for all calls that were under way together:
// what began before the last cut says nothing about the limit after it.
func (l *Limiter) cutLocked(t *Turn) {
	if t.cuts != l.cuts {
		return
	}
	l.cuts++
	l.faults = 0
	l.limit = max(1, l.limit*l.cfg.Decrease)
}

// Pause gives no turns for d, from now; a longer pause that is on stays. Who
// waits already and would not sit it out is refused at once.
func (l *Limiter) Pause(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until := l.clock.Now().Add(d)
	if d <= 0 || !until.After(l.notBefore) {
		return
	}
	l.notBefore = until
	l.refuseLocked(func(w *waiter) error {
		if l.waitsLocked(w, d) {
			return nil
		}
		return &BusyError{Paused: true, RetryAfter: d}
	})
}

// refuseLocked takes those out of the queues for whom why gives an error.
func (l *Limiter) refuseLocked(why func(*waiter) error) {
	for c := range l.queues {
		for e := l.queues[c].Front(); e != nil; {
			next := e.Next()
			w, _ := e.Value.(*waiter)
			if err := why(w); err != nil {
				l.queues[c].Remove(e)
				w.place = nil
				w.refused <- err
			}
			e = next
		}
	}
}

// Status is how a limiter stands.
type Status struct {
	// Limit is how many calls may be under way.
	Limit int
	// InFlight is how many are.
	InFlight int
	// Waiting is how many wait, by class.
	Waiting [Classes]int
	// Paused is how long there will be no turns.
	Paused time.Duration
}

// Status tells how the limiter stands.
func (l *Limiter) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Limit: int(l.limit), InFlight: l.inFlight, Paused: max(0, l.notBefore.Sub(l.clock.Now()))}
	for c := range l.queues {
		s.Waiting[c] = l.queues[c].Len()
	}
	return s
}

// Close refuses whoever waits, and what comes later, with ErrClosed, and waits
// for what the limiter has started. Turns that are out may still be given back.
func (l *Limiter) Close() {
	l.mu.Lock()
	l.closed = true
	l.refuseLocked(func(*waiter) error { return ErrClosed })
	l.mu.Unlock()
	l.end()
	l.wg.Wait()
}
