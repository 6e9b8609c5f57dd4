// Package panics owns what becomes of a panic while something is worked that
// somebody else has sent: it ends that one thing, and neither the process nor the
// streams of everybody else in it.
//
// A panic is logged with its stack and counted (axpchat.panics, by where it was).
// Its value is not logged unless the Go runtime made it, for any other may repeat
// what was sent.
//
// The package decides nothing about what goes on afterwards: who asked it does, by
// the error that it gets. A panic of a component's own loop is not for it; that
// ends the process, which starts anew.
package panics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// Err is the cause of the errors that stand for panics.
var Err = errors.New("it panicked; the log has the stack")

// Watch notes panics. It is safe for concurrent use.
type Watch struct {
	log    *slog.Logger
	caught metric.Int64Counter
}

// New returns a watch; meter may be nil, for those who count nothing.
func New(log *slog.Logger, meter metric.Meter) *Watch {
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("")
	}
	// The name is a constant that the SDK accepts; on an error it gives an instrument
	// that works all the same or records nothing.
	caught, _ := meter.Int64Counter("axpchat.panics",
		metric.WithDescription("Panics that ended one command, call, message or stream, by where they were. Each is a fault of the connector."))
	return &Watch{log: log, caught: caught}
}

// Do runs f. A panic of it becomes an error INTERNAL that is [Err]; where names
// the kind of work, from a few constants. The attributes go to the log.
func (w *Watch) Do(ctx context.Context, where string, f func() error, attrs ...any) (err error) {
	defer func() {
		if broken := w.Note(ctx, where, recover(), attrs...); broken != nil {
			err = broken
		}
	}()
	return f()
}

// Aside is Do on a goroutine of its own, for which the caller waits. A goroutine that
// will rest for hours calls with it what needs a deep stack: a stack that has grown
// stays so, for Go gives half of it back only when no more than a quarter is in use.
func (w *Watch) Aside(ctx context.Context, where string, f func() error, attrs ...any) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = w.Do(ctx, where, f, attrs...)
	}()
	<-done
	return err
}

// Note is for deferred functions: v is what recover has returned to them; nil
// stands for no panic, and gives no error.
func (w *Watch) Note(ctx context.Context, where string, v any, attrs ...any) error {
	if v == nil {
		return nil
	}
	text := fmt.Sprintf("%T", v)
	if fault, ok := v.(runtime.Error); ok {
		text = fault.Error()
	}
	w.caught.Add(ctx, 1, metric.WithAttributes(attribute.String("where", where)))
	w.log.ErrorContext(ctx, "panic", append([]any{"where", where, "panic", text, "stack", string(debug.Stack())}, attrs...)...)
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_INTERNAL, "").WithCause(Err)
}
