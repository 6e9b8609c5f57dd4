package bus

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
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

// LoseAnswers makes updates of sessions take effect, or not, without an answer
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
