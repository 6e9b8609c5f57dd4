package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// startTimeout is how long one component may take to become ready. Replaying
	// a large journal of an embedded NATS server takes seconds, not minutes.
	startTimeout = 30 * time.Second
	// readyPoll is the pause between two looks at a component that starts.
	readyPoll = 20 * time.Millisecond
	// endTimeout is how long a component may take to return once the context of
	// its Drain or of its Run has ended. It only matters for a component with a
	// defect; without it such a component would keep the process from ending.
	endTimeout = 2 * time.Second
)

// errEnded is the failure of a component that nobody told to end.
var errEnded = errors.New("ended although nobody told it to")

// Run starts the components in their order, each when the one before it is
// ready, and blocks until ctx is done or one of them fails. Then it calls every
// [Announcer], drains the components in reverse order, all of that within the
// budget, and ends them in reverse order.
//
// It returns nil when ctx ended and everything drained in time. Otherwise it
// returns the first failure, which names its component, joined with what went
// wrong while ending. A component that returns nil although nobody told it to
// end has failed, and so has one that is not ready 30 s after its start.
func Run(ctx context.Context, log *slog.Logger, budget time.Duration, components ...Component) error {
	failed, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	defer fail(nil)
	r := &runner{log: log, failed: failed.Done(), fail: fail}
	began := time.Now()
	startErr := r.start(ctx, components)
	if startErr == nil && ctx.Err() == nil {
		r.log.InfoContext(ctx, "started", "components", len(components), "took", time.Since(began).Round(time.Millisecond))
		select {
		case <-ctx.Done():
		case <-r.failed:
		}
	}
	// The components' own failures come first: a component that is not ready
	// because its Run failed has that failure as its cause.
	stopErr := r.stop(context.WithoutCancel(ctx), budget)
	return errors.Join(context.Cause(failed), startErr, stopErr)
}

// runner holds the state of one Run.
type runner struct {
	log     *slog.Logger
	failed  <-chan struct{}         // closed at the first failure of a component
	fail    context.CancelCauseFunc // keeps the first failure
	running []*running
}

// running is a component that was started.
type running struct {
	Component
	cancel   context.CancelFunc
	done     chan struct{} // closed when its Run has returned
	stopping atomic.Bool   // set before its Drain: from now on Run may return
}

// start returns an error when a component did not become ready. It returns nil
// when it stopped early because ctx ended or a component failed.
func (r *runner) start(ctx context.Context, components []Component) error {
	for _, c := range components {
		r.launch(ctx, c)
		if err := r.awaitReady(ctx, c); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.failed:
			return nil
		default:
		}
		r.log.DebugContext(ctx, "component ready", "component", c.Name())
	}
	return nil
}

// launch runs a component under a context that outlives ctx: ctx says when to
// begin draining, and a component must go on working while it drains.
func (r *runner) launch(ctx context.Context, c Component) {
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	run := &running{Component: c, cancel: cancel, done: make(chan struct{})}
	r.running = append(r.running, run)
	go func() {
		defer close(run.done)
		err := c.Run(runCtx)
		switch {
		case err == nil && !run.stopping.Load():
			err = errEnded
		case err == nil, runCtx.Err() != nil && errors.Is(err, context.Canceled):
			return
		}
		r.log.ErrorContext(runCtx, "component failed", "component", c.Name(), "error", err)
		r.fail(fmt.Errorf("component %s: %w", c.Name(), err))
	}()
}

// awaitReady blocks until the component is ready, ctx ends, any component fails
// or the component has had its time.
func (r *runner) awaitReady(ctx context.Context, c Component) error {
	within, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		err := c.Ready(within)
		if err == nil {
			return nil
		}
		select {
		case <-r.failed:
			return nil
		case <-within.Done():
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("component %s: not ready %s after its start: %w", c.Name(), startTimeout, err)
		case <-tick.C:
		}
	}
}

// stop announces, drains and ends what was started. ctx carries values only.
func (r *runner) stop(ctx context.Context, budget time.Duration) error {
	began := time.Now()
	for _, c := range r.running {
		c.stopping.Store(true)
	}
	slices.Reverse(r.running)
	errs := r.drain(ctx, budget)
	for _, c := range r.running {
		c.cancel()
		if !within(c.done, endTimeout) {
			errs = append(errs, fmt.Errorf("component %s: did not end", c.Name()))
		}
	}
	err := errors.Join(errs...)
	r.log.InfoContext(ctx, "stopped", "components", len(r.running), "took", time.Since(began).Round(time.Millisecond), "clean", err == nil)
	return err
}

// drain gives all components one deadline. When it has passed, the remaining
// ones are still called, with a context that is done: that is how they learn
// that they have to drop what they hold.
func (r *runner) drain(ctx context.Context, budget time.Duration) []error {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	for _, c := range r.running {
		if a, ok := c.Component.(Announcer); ok {
			_ = bounded(ctx, func() error { a.Announce(ctx); return nil })
		}
	}
	var errs []error
	for _, c := range r.running {
		if err := bounded(ctx, func() error { return c.Drain(ctx) }); err != nil {
			r.log.WarnContext(ctx, "component did not drain", "component", c.Name(), "error", err)
			errs = append(errs, fmt.Errorf("drain component %s: %w", c.Name(), err))
		}
	}
	return errs
}

// bounded calls f and waits for it, but not much longer than ctx lives.
func bounded(ctx context.Context, f func() error) error {
	result := make(chan error, 1)
	go func() { result <- f() }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(endTimeout)
	defer late.Stop()
	select {
	case err := <-result:
		return err
	case <-late.C:
		return fmt.Errorf("did not return: %w", ctx.Err())
	}
}

// within reports whether done is closed in time.
func within(done <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
