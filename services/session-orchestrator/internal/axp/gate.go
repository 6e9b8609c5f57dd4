package axp

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/axpchat/connector/services/session-orchestrator/internal/limiter"
)

// Class says how urgent a call is, where several of an account wait.
type Class = limiter.Class

// classKey is where a context holds the class of the calls made with it.
type classKey struct{}

// AsMessages gives a context whose calls are as urgent as messages: for
// looking after a message that cannot be sent before it has been looked for.
func AsMessages(ctx context.Context) context.Context {
	return context.WithValue(ctx, classKey{}, limiter.Messages)
}

// classOf gives the class of a call.
func classOf(ctx context.Context, op Operation) Class {
	if class, ok := ctx.Value(classKey{}).(Class); ok {
		return class
	}
	return op.Class
}

// through makes a call when it is its turn: after the limiter has given one
// and while the breaker is not open. A call that gets none has not been made;
// its error wraps ErrBusy or ErrHeldBack and says how long to wait, or wraps
// what has ended ctx.
//
// The token's own call does not come through here: there is one at a time, it
// has its own back-off, and calls must not hold their turns while they wait
// for it.
func (c *Client) through(ctx context.Context, op Operation, call func() *Error) *Error {
	if wait, open := c.breaker.refuses(); open {
		return c.heldBack(ctx, op, wait)
	}
	turn, err := c.limiter.Acquire(ctx, classOf(ctx, op))
	if err != nil {
		return c.noTurn(ctx, op, err)
	}
	result, verdict := limiter.Neutral, errNeutral
	defer func() { turn.Done(result) }()
	done, wait, ok := c.breaker.allow()
	if !ok { // it opened while the call waited
		return c.heldBack(ctx, op, wait)
	}
	defer func() { done(verdict) }()
	fail := call()
	result, verdict = lessons(fail)
	c.heed(ctx, fail)
	return fail
}

// pass waits for its turn as through does, but holds none afterwards: how long
// a file takes is the customer's line, and must not keep messages waiting. What
// comes of it says nothing about the chat's health either: media have a server
// of their own.
func (c *Client) pass(ctx context.Context, op Operation) *Error {
	turn, err := c.limiter.Acquire(ctx, classOf(ctx, op))
	if err != nil {
		return c.noTurn(ctx, op, err)
	}
	turn.Done(limiter.Neutral)
	return nil
}

// heed has the whole account wait where AXP says how long: its limits are
// those of the tenant.
func (c *Client) heed(ctx context.Context, fail *Error) {
	if fail == nil || fail.Status != http.StatusTooManyRequests && fail.Status != http.StatusServiceUnavailable {
		return
	}
	if fail.Status == http.StatusTooManyRequests {
		c.observer.throttled(ctx, "refused by AXP")
	}
	c.limiter.Pause(fail.RetryAfter)
}

func (c *Client) heldBack(ctx context.Context, op Operation, wait time.Duration) *Error {
	c.observer.throttled(ctx, "breaker")
	return &Error{Operation: op.Name, RetryAfter: wait, Cause: ErrHeldBack}
}

// noTurn makes the error of a call that the limiter has not let through.
func (c *Client) noTurn(ctx context.Context, op Operation, err error) *Error {
	fail := &Error{Operation: op.Name, Cause: err}
	busy, is := errors.AsType[*limiter.BusyError](err)
	switch {
	case errors.Is(err, limiter.ErrClosed):
		fail.Cause = ErrClosed
	case is && busy.Paused:
		fail.Cause, fail.RetryAfter = ErrBusy, busy.RetryAfter
		c.observer.throttled(ctx, "paused")
	case is:
		fail.Cause, fail.RetryAfter = ErrBusy, busy.RetryAfter
		c.observer.throttled(ctx, "queue full")
	default:
		c.observer.throttled(ctx, "gave up waiting")
	}
	return fail
}

// lessons gives what a call says about AXP's capacity and about its health.
func lessons(fail *Error) (limiter.Result, error) {
	switch {
	case fail == nil:
		return limiter.Success, nil
	case errors.Is(fail.Cause, context.Canceled), errors.Is(fail.Cause, context.DeadlineExceeded),
		errors.Is(fail.Cause, ErrInvalidRequest), errors.Is(fail.Cause, ErrFenced):
		return limiter.Neutral, errNeutral
	case fail.Status == http.StatusTooManyRequests:
		// AXP is well, and wants to be asked less.
		return limiter.Overload, nil
	case fail.Status == http.StatusRequestTimeout, errors.Is(fail.Cause, ErrTimeout):
		return limiter.Overload, fail
	case fail.Status >= http.StatusInternalServerError, fail.Status == 0:
		return limiter.Fault, fail
	case fail.Status >= 200 && fail.Status < 300:
		return limiter.Neutral, fail // an answer that cannot be read
	default:
		return limiter.Success, nil // a refusal is an answer
	}
}

// refusedHere says that a call was not made because the connector itself
// holds calls back.
func (e *Error) refusedHere() bool {
	return errors.Is(e.Cause, ErrBusy) || errors.Is(e.Cause, ErrHeldBack) || errors.Is(e.Cause, ErrFenced)
}

// Turn gives a channel that is closed when a call is worth trying: at once,
// unless AXP fails and calls are held back; then one caller at a time is let
// go to try, first come, first served, and all when AXP is well. Call off when
// you wait no longer. A call need not wait for its Turn: without one it fails
// with ErrHeldBack.
func (c *Client) Turn() (ready <-chan struct{}, off func()) { return c.breaker.turn() }
