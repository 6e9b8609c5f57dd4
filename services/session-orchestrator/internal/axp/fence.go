package axp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

// ErrFenced is the cause of a call that was not made because the fence of its
// context said so. Outcome tells whether an earlier attempt of it was.
var ErrFenced = errors.New("the call is not the caller's to make any more")

type fenceKey struct{}

// WithFence has the calls that are made with the context ask, for each attempt
// and up to the last moment before it goes out, whether they may still be made. A
// call may wait for its turn, for a token, for a connection or for another attempt,
// and meanwhile the right to make it may have gone to somebody else, who would make
// it again.
// may must be safe for concurrent use and must not block.
func WithFence(ctx context.Context, may func() bool) context.Context {
	return context.WithValue(ctx, fenceKey{}, may)
}

type singleKey struct{}

// Single has each call that is made with the context not be repeated after an
// answer that shows that it had no effect: the caller has something to look at
// before. A token that AXP refuses is still renewed.
func Single(ctx context.Context) context.Context {
	return context.WithValue(ctx, singleKey{}, true)
}

func single(ctx context.Context) bool { return ctx.Value(singleKey{}) != nil }

// fenced returns the error of a call that may not be made.
func fenced(ctx context.Context, op Operation) *Error {
	if may, ok := ctx.Value(fenceKey{}).(func() bool); ok && !may() {
		return &Error{Operation: op.Name, Outcome: NotApplied, Cause: ErrFenced}
	}
	return nil
}

// payload is the body of one attempt, which asks the fence when it is wanted: by
// then there is a connection, whose making may have taken seconds. Without its
// body AXP can't carry a request out.
type payload struct {
	data []byte
	ask  func() *Error
	// stopped is what ask answered.
	stopped atomic.Pointer[Error]
}

// attach makes p the body of a request.
func (p *payload) attach(r *http.Request) {
	r.ContentLength = int64(len(p.data))
	r.GetBody = func() (io.ReadCloser, error) {
		return io.NopCloser(&payloadReader{p: p, rest: bytes.NewReader(p.data)}), nil
	}
	r.Body, _ = r.GetBody() // it has no way to fail
}

type payloadReader struct {
	p     *payload
	rest  *bytes.Reader
	asked bool
}

// Read implements io.Reader.
func (r *payloadReader) Read(b []byte) (int, error) {
	if !r.asked {
		r.asked = true
		if fail := r.p.ask(); fail != nil {
			r.p.stopped.Store(fail)
			return 0, fail
		}
	}
	return r.rest.Read(b)
}
