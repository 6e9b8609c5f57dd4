package axp

import (
	"context"
	"errors"
)

// ErrFenced is the cause of a call that was not made because the fence of its
// context said so. Outcome tells whether an earlier attempt of it was.
var ErrFenced = errors.New("the call is not the caller's to make any more")

type fenceKey struct{}

// WithFence has the calls that are made with the context ask, each time and at
// the last moment before something goes out, whether they may still be made. A
// call may wait for its turn, for a token or for another attempt, and meanwhile
// the right to make it may have gone to somebody else, who would make it again.
// may must be safe for concurrent use and must not block.
func WithFence(ctx context.Context, may func() bool) context.Context {
	return context.WithValue(ctx, fenceKey{}, may)
}

// fenced returns the error of a call that may not be made.
func fenced(ctx context.Context, op Operation) *Error {
	if may, ok := ctx.Value(fenceKey{}).(func() bool); ok && !may() {
		return &Error{Operation: op.Name, Outcome: NotApplied, Cause: ErrFenced}
	}
	return nil
}
