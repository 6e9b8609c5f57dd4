package bus

import (
	"context"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric/noop"
)

// Transient tells whether provisioning waits for an error to pass.
func Transient(err error) bool { return transient(err) }

// Patiently repeats a read whose answer does not come.
func Patiently(ctx context.Context, read func(context.Context) error) error {
	return patiently(ctx, read)
}

// Repeatable tells whether publishing is tried again after an error.
func Repeatable(err error) bool { return repeatable(err) }

// SessionFromLeader reads past replicas.
func (b *Bus) SessionFromLeader(ctx context.Context, key string) ([]byte, uint64, error) {
	return b.Sessions.askLeader(ctx, key)
}

// LoseAnswers makes creations and updates of sessions take effect, or not, without an answer
// for as long as lost says so.
func (b *Bus) LoseAnswers(ctx context.Context, lost func() (lose, apply bool)) error {
	kv, err := b.Sessions.open(ctx)
	if err != nil {
		return err
	}
	b.Sessions.kv = &lossy{KeyValue: kv, lost: lost}
	return nil
}

type lossy struct {
	jetstream.KeyValue
	lost func() (lose, apply bool)
}

// Update implements jetstream.KeyValue.
func (l *lossy) Update(ctx context.Context, key string, value []byte, rev uint64) (uint64, error) {
	lose, apply := l.lost()
	if !lose {
		return l.KeyValue.Update(ctx, key, value, rev)
	}
	if apply {
		if _, err := l.KeyValue.Update(ctx, key, value, rev); err != nil {
			return 0, err
		}
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

// KindOf is what is told of a subject.
func KindOf(subject, api string) string { return kindOf(subject, api) }

// Denials are those of a bus.
type Denials struct{ d *denials }

// NewDenials remembers denials.
func NewDenials(t testing.TB, log *slog.Logger) Denials {
	t.Helper()
	d, err := newDenials(log, noop.NewMeterProvider(), jetstream.DefaultAPIPrefix)
	if err != nil {
		t.Fatal(err)
	}
	return Denials{d}
}

// Note takes a permission violation.
func (d Denials) Note(err error) { d.d.note(err) }

// Err is why a bus is not ready.
func (d Denials) Err() error { return d.d.err() }

// Forget is called between connections.
func (d Denials) Forget() { d.d.forget() }

// Create implements jetstream.KeyValue.
func (l *lossy) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error) {
	lose, apply := l.lost()
	if !lose {
		return l.KeyValue.Create(ctx, key, value, opts...)
	}
	if apply {
		if _, err := l.KeyValue.Create(ctx, key, value, opts...); err != nil {
			return 0, err
		}
	}
	<-ctx.Done()
	return 0, ctx.Err()
}
