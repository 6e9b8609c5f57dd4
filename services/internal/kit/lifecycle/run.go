package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// startTimeout is how long one component may take to become ready. Replaying
	// a large journal of an embedded NATS server takes seconds, not minutes.
	startTimeout = 30 * time.Second
	// readyPoll is the pause between two looks at a component that starts.
	readyPoll = 20 * time.Millisecond
	// endTimeout is how long a component's Run may take to return once its
	// context has ended, and how long Run waits for a Drain that outlives the
	// budget although its context has ended.
	endTimeout = 2 * time.Second
)

// Run starts the components in their order, each when the one before it is
// ready, and blocks until ctx is done or one of them fails. Then it tells every
// [Announcer], drains the components in reverse order, all within the budget,
// and ends them in reverse order.
//
// It returns nil when ctx ended and everything drained in time; otherwise the
// first failure, with the name of its component, joined with what went wrong
// while ending. A component that returns nil although nobody told it to end has
// failed, and so has one that is not ready 30 s after its start.
func Run(ctx context.Context, log *slog.Logger, budget time.Duration, components ...Component) error {
	r := &runner{log: log, budget: budget, failed: make(chan struct{})}
	began := time.Now()
	err := r.start(ctx, components)
	if err == nil && ctx.Err() == nil {
		log.InfoContext(ctx, "started", "components", len(components), "took", time.Since(began).Round(time.Millisecond))
		select {
		case <-ctx.Done():
		case <-r.failed:
		}
	}
	return errors.Join(err, r.stop(ctx))
}

// runner holds the state of one Run.
type runner struct {
	log     *slog.Logger
	budget  time.Duration
	group   errgroup.Group // keeps the first failure
	running []*running
	failed  chan struct{} // closed at the first failure
}

// running is a component that was started.
type running struct {
	Component
	cancel   context.CancelFunc
	done     chan struct{} // closed when its Run has returned
	draining chan struct{} // closed before its Drain
}

// start returns an error when a component did not become ready; a failure of a
// component's Run is left to the group.
func (r *runner) start(ctx context.Context, components []Component) error {
	for _, c := range components {
		r.launch(ctx, c)
		if err := r.awaitReady(ctx, c); err != nil {
			return err
		}
		if r.ended(ctx) {
			return nil
		}
		r.log.DebugContext(ctx, "component ready", "component", c.Name())
	}
	return nil
}

// launch runs a component under a context of its own: the caller's context says
// when to begin draining, and a component must go on working while it drains.
func (r *runner) launch(ctx context.Context, c Component) {
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	run := &running{Component: c, cancel: cancel, done: make(chan struct{}), draining: make(chan struct{})}
	r.running = append(r.running, run)
	r.group.Go(func() error {
		defer close(run.done)
		err := c.Run(runCtx)
		if err == nil && !run.mayEnd(runCtx) {
			err = errors.New("ended although nobody asked it to")
		}
		if err == nil || (runCtx.Err() != nil && errors.Is(err, context.Canceled)) {
			return nil
		}
		err = fmt.Errorf("component %s: %w", c.Name(), err)
		r.fail(ctx, c, err)
		return err
	})
}

func (r *running) mayEnd(ctx context.Context) bool {
	select {
	case <-r.draining:
		return true
	default:
		return ctx.Err() != nil
	}
}
