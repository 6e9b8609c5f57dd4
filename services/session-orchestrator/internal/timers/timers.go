// Package timers owns the hearing of timers that have come due: it reads the
// stream TIMERS once for all replicas together and calls whoever a timer is for.
//
// A timer that could not be worked comes again, later each time; so does one of a
// kind that this version does not know, for a newer one beside it may. A handler
// may be called more than once, and on two replicas at a time: it decides by the
// record.
//
// It never sets a timer and knows nothing of what it is for.
package timers

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/panics"
	"github.com/axpchat/connector/services/session-orchestrator/internal/consume"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
)

const (
	// concurrency bounds the timers worked at a time in this process. Most of
	// them wait for NATS or AXP.
	concurrency = 64
	// workTimeout is well under the 30 s after which the server would give the
	// timer to somebody else.
	workTimeout = 27 * time.Second
	retryMin    = time.Second
	retryMax    = time.Minute
)

// Handler works a timer of a session.
type Handler func(ctx context.Context, account, session string) error

// Params is what New needs; all of it is required.
type Params struct {
	Bus *bus.Bus
	// Handlers are who is called, by the kind of the timer.
	Handlers map[string]Handler
	Log      *slog.Logger
	Meter    metric.Meter
}

// Worker is a component of the process: Run once, Drain before the context of
// Run ends.
type Worker struct {
	p     Params
	fired metric.Int64Counter
	loop  *consume.Loop
}

// New makes a worker; it reads nothing before Run.
func New(p Params) (*Worker, error) {
	fired, err := p.Meter.Int64Counter("axpchat_timers", metric.WithDescription("Timers that came due, by kind and outcome."))
	if err != nil {
		return nil, err
	}
	w := &Worker{p: p, fired: fired}
	w.loop = consume.New(consume.Params{
		Name: w.Name(), Bus: p.Bus, Stream: bus.TimersStream, Consumer: bus.TimersConsumer,
		Concurrency: concurrency, Ahead: concurrency, Handle: w.handle, Log: p.Log, Panics: panics.New(p.Log, p.Meter),
	})
	return w, nil
}

// Name is "timers".
func (w *Worker) Name() string { return "timers" }

// Ready fails while NATS can't be reached.
func (w *Worker) Ready(ctx context.Context) error { return w.p.Bus.Ready(ctx) }

// Run reads until ctx ends.
func (w *Worker) Run(ctx context.Context) error { return w.loop.Run(ctx) }

// Drain reads no more and finishes what was begun.
func (w *Worker) Drain(ctx context.Context) error { return w.loop.Drain(ctx) }

// handle works one timer and tells the server how it went.
func (w *Worker) handle(ctx context.Context, m jetstream.Msg) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	deliveries := uint64(1)
	if md, err := m.Metadata(); err == nil {
		deliveries = md.NumDelivered
	}
	t, ok := bus.ParseTimer(m.Subject())
	handler := w.p.Handlers[t.Kind]
	outcome := "done"
	var err error
	if !ok || handler == nil {
		// An older version side by side with a newer one must leave it to that.
		outcome, err = "unknown", errors.New("no handler of this kind")
	} else if err = handler(ctx, t.Account, t.Session); err != nil {
		outcome = "failed"
	}
	w.fired.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", w.label(t.Kind)), attribute.String("outcome", outcome)))
	if err == nil {
		err = m.Ack()
	} else {
		w.p.Log.WarnContext(ctx, "a timer could not be worked; it comes again", "kind", w.label(t.Kind), "error", err)
		err = m.NakWithDelay(patience.Backoff(int(min(deliveries, 30)), retryMin, retryMax, 0))
	}
	if err != nil {
		w.p.Log.DebugContext(ctx, "a timer could not be acknowledged; it comes again", "error", err)
	}
}

// label keeps what a stranger may have written out of metrics.
func (w *Worker) label(kind string) string {
	if w.p.Handlers[kind] == nil {
		return "unknown"
	}
	return kind
}
