package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Component is a part of a process that runs until it is told to end.
//
// What can fail early, such as binding a listener, belongs in the component's
// constructor. All methods may be called concurrently.
type Component interface {
	// Name is how logs, readiness and errors call the component.
	Name() string
	// Run blocks until ctx is done and then returns nil, or until the component
	// fails. It may return nil earlier only after Drain was called.
	Run(ctx context.Context) error
	// Ready returns nil when the component can do its work. It is called while
	// the process starts and at every readiness probe; it must be cheap and must
	// end when ctx does.
	Ready(ctx context.Context) error
	// Drain stops accepting work and finishes what was accepted, or gives up when
	// ctx is done. It is called at most once, before the context of Run ends.
	Drain(ctx context.Context) error
}

// Announcer is a Component that tells the outside that the process is going to
// end. [Run] calls Announce before the first Drain, so that load balancers look
// elsewhere while everything still works. Announce may wait until they have
// noticed; it must end when ctx does.
type Announcer interface {
	Component
	Announce(ctx context.Context)
}

// Degradable is a Component that can go on working although parts of it don't.
// Degraded tells which and why, without a call to anybody; nil: none. The process
// stays ready, for a restart or another replica would help nobody, but operators
// see it where they look at readiness.
type Degradable interface {
	Component
	Degraded() map[string]error
}

// DegradedError is how [Readiness] tells of a part that does not work although the
// process is ready.
type DegradedError struct {
	Cause error
}

// Error says that the part is degraded, and why.
func (e *DegradedError) Error() string { return "degraded: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *DegradedError) Unwrap() error { return e.Cause }

// Func is a Component made of functions. Each of them may be nil: without OnRun
// it runs until its context is done, without OnReady it is always ready, without
// OnDrain there is nothing to drain.
type Func struct {
	Label   string
	OnRun   func(ctx context.Context) error
	OnReady func(ctx context.Context) error
	OnDrain func(ctx context.Context) error
}

// Name returns the label.
func (f Func) Name() string { return f.Label }

// Run calls OnRun.
func (f Func) Run(ctx context.Context) error {
	if f.OnRun == nil {
		<-ctx.Done()
		return nil
	}
	return f.OnRun(ctx)
}

// Ready calls OnReady.
func (f Func) Ready(ctx context.Context) error {
	if f.OnReady == nil {
		return nil
	}
	return f.OnReady(ctx)
}

// Drain calls OnDrain.
func (f Func) Drain(ctx context.Context) error {
	if f.OnDrain == nil {
		return nil
	}
	return f.OnDrain(ctx)
}

// Readiness returns a function that asks all components at once whether they are
// ready and gives an answer for each by its name. A component that has not
// answered when ctx is done counts as not ready. The components must have
// different names. Parts of a [Degradable] that don't work are beside it, by the
// component's name, a slash and their own, as a [DegradedError]. The result fits
// the admin server.
func Readiness(components ...Component) func(ctx context.Context) map[string]error {
	return func(ctx context.Context) map[string]error {
		type answer struct {
			name string
			err  error
		}
		// The buffer lets a late component end its goroutine although nobody
		// waits for it any more.
		answers := make(chan answer, len(components))
		out := make(map[string]error, len(components))
		for _, c := range components {
			out[c.Name()] = errNoAnswer
			if d, ok := c.(Degradable); ok {
				for part, err := range d.Degraded() {
					out[c.Name()+"/"+part] = &DegradedError{err}
				}
			}
			go func() { answers <- answer{c.Name(), c.Ready(ctx)} }()
		}
		for range components {
			select {
			case a := <-answers:
				out[a.name] = a.err
			case <-ctx.Done():
				return out
			}
		}
		return out
	}
}

// errNoAnswer is what Readiness says of a component that is too slow.
var errNoAnswer = errors.New("no answer in time")

// Closers undoes the steps of a constructor in reverse order. The zero value is
// ready. It is not safe for concurrent use.
//
//	func New(ctx context.Context) (s *Service, err error) {
//		var undo lifecycle.Closers
//		defer undo.CloseOnError(&err)
//		…
//		undo.Add("bus", b.Close)
type Closers struct {
	steps []closer
}

type closer struct {
	name  string
	close func() error
}

// Add remembers how to undo a step that was just done.
func (c *Closers) Add(name string, undo func() error) {
	c.steps = append(c.steps, closer{name, undo})
}

// Close undoes all steps, the last one first, also when one of them fails, and
// returns what went wrong. A second Close does nothing.
func (c *Closers) Close() error {
	var errs []error
	for _, step := range slices.Backward(c.steps) {
		if err := step.close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", step.name, err))
		}
	}
	c.steps = nil
	return errors.Join(errs...)
}

// CloseOnError undoes all steps when *err is not nil, and joins to it what went
// wrong. It is meant to be deferred with the address of a named result.
func (c *Closers) CloseOnError(err *error) {
	if *err != nil {
		*err = errors.Join(*err, c.Close())
	}
}
