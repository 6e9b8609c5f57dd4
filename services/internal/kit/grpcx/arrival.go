package grpcx

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/tap"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// arrivals bound how long the message of a call may take to arrive. gRPC begins a
// call with its head and hands it over when its message is complete, for which it
// has no limit: a caller who sends a byte now and then would hold a goroutine and
// what has come so far for as long as he likes, without anybody having looked at
// his token. For streams that take one message it is the same; those that take
// many have limits of their own.
//
// The context of the call ends when its time is over, and with it the reading.
type arrivals struct {
	limit   time.Duration
	known   *methods
	metrics *metrics
}

// errLate is why the context of a call ended whose message did not come.
var errLate = errors.New("the message did not arrive in time")

// tap implements tap.ServerInHandle. It is called for every head that comes in and
// must not block.
func (a *arrivals) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	method := info.FullMethodName
	if a.known.listens(method) || ctx.Err() != nil { // gRPC forgets one whose time is over already
		return ctx, nil //nolint:nilerr // it is for gRPC to say
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(a.limit, func() {
		a.metrics.fail(ctx, a.known.label(method), codes.DeadlineExceeded, errs.Name(axpchatv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED))
		cancel(errLate)
	})
	return &arriving{Context: ctx, timer: timer}, nil
}

// arrived takes the limit off a call. It may be called more than once.
func arrived(ctx context.Context) {
	if c, ok := ctx.Value(arrivingKey{}).(*arriving); ok {
		c.timer.Stop()
	}
}

// arriving is the context of a call whose message has not come yet.
type arriving struct {
	context.Context //nolint:containedctx // it is one itself
	timer           *time.Timer
}

type arrivingKey struct{}

// Value returns the context itself for arrived.
func (c *arriving) Value(key any) any {
	if key == (arrivingKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// Err makes gRPC answer DEADLINE_EXCEEDED.
func (c *arriving) Err() error {
	err := c.Context.Err()
	if err != nil && errors.Is(context.Cause(c.Context), errLate) {
		return context.DeadlineExceeded
	}
	return err
}

// HandleRPC implements stats.Handler: with the call its limit ends, however it ends.
func (a *arrivals) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.End); ok {
		arrived(ctx)
	}
}

// TagRPC implements stats.Handler.
func (a *arrivals) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (a *arrivals) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (a *arrivals) HandleConn(context.Context, stats.ConnStats) {}
