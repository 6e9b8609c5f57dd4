package axp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// BreakerConfig holds the figures of an account's circuit breaker. A zero
// field means its default.
type BreakerConfig struct {
	// Failures in a row open the breaker.
	Failures int `env:"AXP_BREAKER_FAILURES" default:"10" doc:"Failures in a row (no answer, 5xx) after which no calls of the account are made for a while."`
	// Ratio of failures opens it too, from MinCalls calls within Window.
	Ratio    float64       `env:"AXP_BREAKER_RATIO" default:"0.5" doc:"Part of an account's calls that may fail before no more are made for a while."`
	MinCalls int           `env:"AXP_BREAKER_MIN_CALLS" default:"20" doc:"Calls within AXP_BREAKER_WINDOW from which on AXP_BREAKER_RATIO counts."`
	Window   time.Duration `env:"AXP_BREAKER_WINDOW" default:"30s" doc:"Time over which AXP_BREAKER_RATIO is taken; at least twice AXP_CALL_TIMEOUT is used."`
	// Open is how long no calls are made; then one is, to see.
	Open time.Duration `env:"AXP_BREAKER_OPEN" default:"5s" doc:"How long no calls of an account are made after too many failures; then one is tried."`
}

// Validate reports values that can't work.
func (c *BreakerConfig) Validate() []config.Mistake {
	var ms []config.Mistake
	add := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	if c.Failures < 1 {
		add("AXP_BREAKER_FAILURES", "must be at least 1")
	}
	if c.Ratio <= 0 || c.Ratio > 1 {
		add("AXP_BREAKER_RATIO", "must be more than 0 and at most 1")
	}
	if c.MinCalls < 1 {
		add("AXP_BREAKER_MIN_CALLS", "must be at least 1")
	}
	if c.Window <= 0 {
		add("AXP_BREAKER_WINDOW", "must be more than 0")
	}
	if c.Open <= 0 {
		add("AXP_BREAKER_OPEN", "must be more than 0")
	}
	return ms
}

func (c BreakerConfig) withDefaults(callTimeout time.Duration) BreakerConfig {
	if c.Failures < 1 {
		c.Failures = 10
	}
	if c.Ratio <= 0 || c.Ratio > 1 {
		c.Ratio = 0.5
	}
	if c.MinCalls < 1 {
		c.MinCalls = 20
	}
	if c.Window <= 0 {
		c.Window = 30 * time.Second
	}
	// A call is counted where it began: with a shorter window those that wait for
	// an answer in vain, the worst, would not be counted at all.
	c.Window = max(c.Window, 2*callTimeout)
	if c.Open <= 0 {
		c.Open = 5 * time.Second
	}
	return c
}

const (
	// breakerBuckets is how finely the window is divided.
	breakerBuckets = 10
	// halfOpenAdvice is what a call is told to wait while another one tries.
	halfOpenAdvice = time.Second
	// overdue lets the breaker's own time-out pass, which must be exceeded.
	overdue = time.Millisecond
)

// errNeutral is how a call ends that says nothing about AXP's health.
var errNeutral = errors.New("the call says nothing about AXP")

// breaker keeps calls from an account's AXP while it fails. It is closed while
// all is well, open for a while after too many failures, then half open: one
// call may try, and decides. The state machine is gobreaker's; what is added is
// that those who can wait are called one by one when there is something to try,
// and all together when AXP is well again.
//
// It tells time by the machine's clock, as gobreaker does.
type breaker struct {
	machine *gobreaker.TwoStepCircuitBreaker[struct{}]
	open    time.Duration
	life    context.Context //nolint:containedctx // the life of the client, not of a call
	end     context.CancelFunc
	wg      sync.WaitGroup
	// changed is told of each new state, with no lock of ours held but with
	// that of the machine: it must not call it.
	changed func(gobreaker.State)
	// inRow counts failures in a row, however long they take. The machine's own
	// count forgets those that have left the window, so that an AXP that lets few
	// callers wait in vain would never be found out.
	inRow atomic.Int64

	mu      sync.Mutex // taken after the lock of machine, never before
	closed  bool
	state   gobreaker.State
	until   time.Time // the end of the state open
	handed  bool      // somebody was told to try
	watched bool
	waiting []chan struct{}
}

func newBreaker(c BreakerConfig, callTimeout time.Duration, changed func(gobreaker.State)) *breaker {
	c = c.withDefaults(callTimeout)
	life, end := context.WithCancel(context.Background())
	b := &breaker{open: c.Open, life: life, end: end, changed: changed}
	b.machine = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  1,
		Interval:     c.Window,
		BucketPeriod: c.Window / breakerBuckets,
		Timeout:      c.Open,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			all := n.TotalSuccesses + n.TotalFailures
			return b.inRow.Load() >= int64(c.Failures) ||
				all >= uint32(c.MinCalls) && float64(n.TotalFailures) >= c.Ratio*float64(all)
		},
		OnStateChange: func(_ string, _, to gobreaker.State) { b.enter(to) },
		IsExcluded:    func(err error) bool { return errors.Is(err, errNeutral) },
	})
	return b
}

// allow asks for permission to make a call. done must be called with nil after
// an answer, errNeutral, or what went wrong. Without permission it gives how
// long to wait.
func (b *breaker) allow() (done func(error), wait time.Duration, ok bool) {
	settle, err := b.machine.Allow()
	if err != nil {
		return nil, b.rest(), false
	}
	return func(err error) {
		switch {
		case err == nil:
			b.inRow.Store(0)
		case !errors.Is(err, errNeutral):
			b.inRow.Add(1)
		}
		settle(err)
	}, 0, true
}

// refuses says whether it is open, and for how long yet.
func (b *breaker) refuses() (time.Duration, bool) {
	if b.machine.State() != gobreaker.StateOpen {
		return 0, false
	}
	return b.rest(), true
}

func (b *breaker) rest() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == gobreaker.StateOpen {
		return max(time.Until(b.until), halfOpenAdvice)
	}
	return halfOpenAdvice
}

// enter takes note of a new state. The machine's lock is held.
func (b *breaker) enter(to gobreaker.State) {
	b.changed(to)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.handed = to, false
	switch to {
	case gobreaker.StateClosed:
		b.releaseLocked(len(b.waiting))
	case gobreaker.StateOpen:
		b.until = time.Now().Add(b.open)
		if !b.watched && !b.closed {
			b.watched = true
			b.wg.Go(b.watch)
		}
	case gobreaker.StateHalfOpen:
	}
}

// watch calls those who wait, one at a time, until the breaker is closed. Who
// was called may not try after all, so after a while the next one is.
func (b *breaker) watch() {
	for wait := b.open; ; {
		if (SystemClock{}).Sleep(b.life, wait+overdue) != nil {
			return
		}
		b.machine.State() // an open breaker turns half open when it is looked at
		b.mu.Lock()
		switch b.state {
		case gobreaker.StateClosed:
			b.watched = false
			b.mu.Unlock()
			return
		case gobreaker.StateHalfOpen:
			b.handed = len(b.waiting) > 0
			b.releaseLocked(1)
			wait = b.open
		default:
			wait = time.Until(b.until)
		}
		b.mu.Unlock()
	}
}

func (b *breaker) releaseLocked(n int) {
	n = min(n, len(b.waiting))
	for _, ch := range b.waiting[:n] {
		close(ch)
	}
	b.waiting = slices.Delete(b.waiting, 0, n)
}

// turn gives a channel that is closed when a call is worth trying: at once
// while all is well. off gives up the place in the queue.
func (b *breaker) turn() (ready <-chan struct{}, off func()) {
	b.machine.State()
	ch := make(chan struct{})
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == gobreaker.StateClosed || b.closed || b.state == gobreaker.StateHalfOpen && !b.handed {
		b.handed = true
		close(ch)
		return ch, func() {}
	}
	b.waiting = append(b.waiting, ch)
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if i := slices.Index(b.waiting, ch); i >= 0 {
			b.waiting = slices.Delete(b.waiting, i, i+1)
		}
	}
}

// close ends what runs. Whoever waits is let go.
func (b *breaker) close() {
	b.mu.Lock()
	b.closed = true
	b.releaseLocked(len(b.waiting))
	b.mu.Unlock()
	b.end()
	b.wg.Wait()
}
