// Package consume owns the reading of a durable consumer that all replicas share:
// it hands each message to a function, a bounded number at a time, starts again
// when the consumer ends, and drains.
//
// It never acknowledges what was handled and knows nothing of what the messages say:
// who handles one tells the server how it went. One that was not begun when the loop
// drains is not acknowledged, so another replica gets it.
//
// A message whose handler panics comes again, later each time, for another version
// may be able to work it. The others go on meanwhile. After some minutes it is set
// aside for an operator: the server waits for a bounded number of messages only, and
// those that nobody can work would end up being all of them.
package consume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/panics"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
)

const (
	askTimeout = 5 * time.Second
	// again is the pause before an ended consumer is started again.
	again = time.Second
	// tries is how often a message is handled at most whose handler panics, with
	// a pause of brokenMin at first and of brokenMax at last.
	tries     = 10
	brokenMin = time.Second
	brokenMax = time.Minute
)

// Params is what New needs; all of it is required.
type Params struct {
	// Name is how logs and errors call the loop.
	Name string
	Bus  *bus.Bus
	// Stream and Consumer name the durable consumer.
	Stream, Consumer string
	// Concurrency bounds the messages worked at a time in this process.
	Concurrency int
	// Ahead is how many messages are fetched at most; those of a process that dies
	// come late.
	Ahead int
	// Handle works a message and acknowledges it. It is called concurrently; its
	// context is that of Run.
	Handle func(ctx context.Context, m jetstream.Msg)
	Log    *slog.Logger
	Panics *panics.Watch
}

// Loop is a part of a component: Run once, Drain before the context of Run ends.
type Loop struct {
	p        Params
	broken   func(deliveries uint64) time.Duration // the pause after a panic
	slots    chan struct{}
	group    sync.WaitGroup
	stopping chan struct{}
	stopOnce sync.Once
	stopped  chan struct{}
}

// New makes a loop; it reads nothing before Run.
func New(p Params) *Loop {
	broken := func(deliveries uint64) time.Duration {
		return patience.Backoff(int(deliveries), brokenMin, brokenMax, 0)
	}
	return &Loop{p: p, broken: broken, slots: make(chan struct{}, p.Concurrency), stopping: make(chan struct{}), stopped: make(chan struct{})}
}

// Run reads until ctx ends, and waits for what was begun.
func (l *Loop) Run(ctx context.Context) error {
	defer close(l.stopped)
	for {
		if err := l.consume(ctx); err != nil && ctx.Err() == nil {
			l.p.Log.WarnContext(ctx, "a consumer stopped; it is started again", "consumer", l.p.Name, "error", err)
		}
		select {
		case <-l.stopping:
			<-ctx.Done()
		default:
		}
		if patience.Pause(ctx, again, nil) != nil {
			break
		}
	}
	l.group.Wait()
	return nil
}

// Drain reads no more and waits for what was begun, or until ctx ends. What is still
// being worked then because NATS does not answer is cut off, and no failure: its effect
// can't be stored, so it is not acknowledged and comes again.
func (l *Loop) Drain(ctx context.Context) error {
	l.stopOnce.Do(func() { close(l.stopping) })
	for range l.p.Concurrency { // all slots free: nothing is being worked
		select {
		case l.slots <- struct{}{}:
			continue // also where the others have left no time
		default:
		}
		select {
		case l.slots <- struct{}{}:
		case <-l.stopped:
			return nil
		case <-ctx.Done():
			if !l.p.Bus.Answers(ctx) {
				l.p.Log.WarnContext(ctx, "NATS does not answer; what is being worked is left to another replica", "consumer", l.p.Name)
				return nil
			}
			return fmt.Errorf("%s: some is still being worked: %w", l.p.Name, ctx.Err())
		}
	}
	return nil
}

// handle works a message, and tells the server what becomes of one that can't be
// worked.
func (l *Loop) handle(ctx context.Context, m jetstream.Msg) {
	deliveries := uint64(1)
	if md, err := m.Metadata(); err == nil {
		deliveries = md.NumDelivered
	}
	err := l.p.Panics.Do(ctx, l.p.Name, func() error {
		l.p.Handle(ctx, m)
		return nil
	}, "delivery", deliveries)
	if err == nil {
		return
	}
	if deliveries >= tries {
		l.GiveUp(ctx, m, "panic")
		return
	}
	if err := m.NakWithDelay(l.broken(deliveries)); err != nil {
		l.p.Log.DebugContext(ctx, "a message could not be answered; it comes again", "consumer", l.p.Name, "error", err)
	}
}

// GiveUp sets a message aside that can't be worked, and has done with it. Where it
// can't be set aside it comes again.
func (l *Loop) GiveUp(ctx context.Context, m jetstream.Msg, cause string) {
	err := l.p.Bus.SetAside(ctx, l.p.Stream, m, cause)
	switch {
	case err == nil, errors.Is(err, bus.ErrErased):
		l.p.Log.ErrorContext(ctx, "a message is set aside that can't be worked", "consumer", l.p.Name, "cause", cause)
		err = m.Term()
	default:
		l.p.Log.WarnContext(ctx, "a message that can't be worked could not be set aside; it comes again", "consumer", l.p.Name, "error", err)
		err = m.NakWithDelay(l.broken(tries))
	}
	if err != nil {
		l.p.Log.DebugContext(ctx, "a message could not be answered; it comes again", "consumer", l.p.Name, "error", err)
	}
}

// errClosed is why consuming ended without anybody having asked for it.
var errClosed = errors.New("closed by the server")

func (l *Loop) consume(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	c, err := l.p.Bus.JS.Consumer(ask, l.p.Stream, l.p.Consumer)
	cancel()
	if err != nil {
		return fmt.Errorf("find the consumer: %w", err)
	}
	cc, err := c.Consume(func(m jetstream.Msg) {
		select {
		case l.slots <- struct{}{}:
		case <-l.stopping:
			return
		case <-ctx.Done():
			return
		}
		l.group.Go(func() {
			defer func() { <-l.slots }()
			l.handle(ctx, m)
		})
	}, jetstream.PullMaxMessages(l.p.Ahead))
	if err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	var ended error
	select {
	case <-ctx.Done():
	case <-l.stopping:
	case <-cc.Closed():
		ended = errClosed
	}
	cc.Stop()
	<-cc.Closed()
	return ended
}
