package records

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/axpchat/connector/services/internal/kit/bus"
)

// Watch wakes whoever waits for a change of an engagement's record, by one
// plain subscription to all changes. A wake-up can get lost with a connection,
// so whoever waits also looks again after a while.
type Watch struct {
	sub    *nats.Subscription
	prefix string

	mu      sync.Mutex
	waiting map[string]map[chan struct{}]struct{}
}

// NewWatch subscribes. Close ends it.
func NewWatch(b *bus.Bus) (*Watch, error) {
	w := &Watch{
		prefix:  strings.TrimSuffix(b.Engagements.ChangesSubject(), ">"),
		waiting: map[string]map[chan struct{}]struct{}{},
	}
	sub, err := b.Subscribe(b.Engagements.ChangesSubject(), func(m *nats.Msg) {
		w.wake(strings.TrimPrefix(m.Subject, w.prefix))
	})
	if err != nil {
		return nil, fmt.Errorf("watch engagements: %w", err)
	}
	w.sub = sub
	return w, nil
}

// Close ends the subscription.
func (w *Watch) Close() error {
	if err := w.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return fmt.Errorf("end watch of engagements: %w", err)
	}
	return nil
}

// On returns a channel that is told of changes of an engagement from now on.
// Call it before reading the record. The function ends it.
func (w *Watch) On(ref Ref) (<-chan struct{}, func()) {
	ch, key := make(chan struct{}, 1), ref.Key()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[key] == nil {
		w.waiting[key] = map[chan struct{}]struct{}{}
	}
	w.waiting[key][ch] = struct{}{}
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.waiting[key], ch)
		if len(w.waiting[key]) == 0 {
			delete(w.waiting, key)
		}
	}
}

func (w *Watch) wake(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.waiting[key] {
		select {
		case ch <- struct{}{}:
		default: // told already
		}
	}
}
