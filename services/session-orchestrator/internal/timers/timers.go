// Package timers owns the hearing of timers that have come due: it reads the
// stream TIMERS once for all replicas together and calls whoever a timer is for.
//
// A timer that could not be worked is set again, later each time; so is one of a
// kind that this version does not know, for a newer one beside it may. A handler
// may be called more than once, and on two replicas at a time: it decides by the
// record.
//
// One account's AXP that is down or slow keeps nobody else's timers waiting: those
// that fail are not held back by the server, which hands out a bounded number, and
// an account has half of the process's room at most. What finds none is set again.
//
// It never sets a timer and knows nothing of what it is for.
package timers

import (
	"context"
	"errors"
	"log/slog"
	"sync"
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
	// concurrency bounds the timers worked at a time in this process, and ofAccount
	// those of one account. Most of them wait for NATS or AXP.
	concurrency = 128
	ofAccount   = concurrency / 2
	// workTimeout is well under the 30 s after which the server would give the
	// timer to somebody else.
	workTimeout = 25 * time.Second
	// postponeTimeout bounds setting it again, after that.
	postponeTimeout = 2 * time.Second
	retryMin        = time.Second
	retryMax        = 5 * time.Minute
	// crowdedMax bounds the pause of one whose account has no room.
	crowdedMax = 30 * time.Second
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

	mu   sync.Mutex
	busy map[string]int // timers being worked, by account
}

// New makes a worker; it reads nothing before Run.
func New(p Params) (*Worker, error) {
	fired, err := p.Meter.Int64Counter("axpchat_timers", metric.WithDescription("Timers that came due, by kind and outcome."))
	if err != nil {
		return nil, err
	}
	w := &Worker{p: p, fired: fired, busy: map[string]int{}}
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

// errCrowded is why a timer is not worked now.
var errCrowded = errors.New("timers: too many of the account are being worked")

// enter takes room for a timer of an account.
func (w *Worker) enter(account string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[account] >= ofAccount {
		return false
	}
	w.busy[account]++
	return true
}

func (w *Worker) leave(account string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[account]--; w.busy[account] == 0 {
		delete(w.busy, account)
	}
}

// handle works one timer and tells the server how it went.
func (w *Worker) handle(ctx context.Context, m jetstream.Msg) {
	t, ok := bus.ParseTimer(m.Subject())
	outcome, level, longest := "done", slog.LevelWarn, retryMax
	err := w.work(ctx, t)
	switch {
	case err == nil:
	case errors.Is(err, errCrowded):
		outcome, level, longest = "crowded", slog.LevelDebug, crowdedMax
	case w.p.Handlers[t.Kind] == nil:
		outcome = "unknown"
	default:
		outcome = "failed"
	}
	w.fired.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", w.label(t.Kind)), attribute.String("outcome", outcome)))
	answer := m.Ack
	if err != nil {
		w.p.Log.Log(ctx, level, "a timer could not be worked; it comes again", "kind", w.label(t.Kind), "error", err)
		tries := bus.TimerTries(m.Headers()) + 1
		pause := patience.Backoff(tries, retryMin, longest, 0)
		if !ok || w.postpone(ctx, t, pause, tries) != nil {
			answer = func() error { return m.NakWithDelay(pause) }
		}
	}
	if err := answer(); err != nil {
		w.p.Log.DebugContext(ctx, "a timer could not be acknowledged; it comes again", "error", err)
	}
}

// work calls whoever the timer is for.
func (w *Worker) work(ctx context.Context, t bus.Timer) error {
	handler := w.p.Handlers[t.Kind]
	if handler == nil {
		// An older version side by side with a newer one must leave it to that.
		return errors.New("no handler of this kind")
	}
	if !w.enter(t.Account) {
		return errCrowded
	}
	defer w.leave(t.Account)
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	return handler(ctx, t.Account, t.Session)
}

// postpone sets a timer again. One of a session that was erased is needed no more.
func (w *Worker) postpone(ctx context.Context, t bus.Timer, d time.Duration, tries int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), postponeTimeout)
	defer cancel()
	err := w.p.Bus.PostponeTimer(ctx, t, time.Now().Add(d), tries)
	if errors.Is(err, bus.ErrErased) {
		return nil
	}
	return err
}

// label keeps what a stranger may have written out of metrics.
func (w *Worker) label(kind string) string {
	if w.p.Handlers[kind] == nil {
		return "unknown"
	}
	return kind
}
