package outbox

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// delivery is a message with its places.
type delivery struct {
	msg      jetstream.Msg
	key      string // messages of one key keep their order
	sequence uint64 // in the stream
	// old: it was stored before the tenure began, so somebody may have worked
	// on it before.
	old bool
	// again: this tenure has had it before, and the server does not know that it
	// was acknowledged.
	again bool
	// inherited: somebody else may have had it in hand until just now, so a call
	// to AXP may still be under way.
	inherited bool
}

// work is the part of a Partition's user that does the work: it returns nil
// when the message is done and may be acknowledged, and an error when it had
// to stop; then the message is delivered again, to whoever is pinned.
type work func(ctx context.Context, d delivery, t *tenure) error

// tenure is a time during which nobody else works the partition, as far as
// this process can know.
type tenure struct {
	ctx     context.Context //nolint:containedctx // a tenure is a lifetime, its context is what it is about
	life    context.Context //nolint:containedctx // of the worker: a call to AXP outlives the tenure, or nobody knows what came of it
	end     context.CancelFunc
	since   time.Time
	leaving chan struct{} // closed when nothing more shall be begun
	unsure  func() bool

	mu      sync.Mutex
	cleared map[string]bool
}

// Over tells whether the tenure has ended, or may have: while the process
// stood still, or while NATS could not be heard, somebody else may have been
// pinned. It is asked right before each call that must not be made twice.
func (t *tenure) Over() bool { return t.ctx.Err() != nil || t.unsure() }

// Suspect tells whether a message may have been worked on before. Earlier
// owners all worked in order, so behind the first message of a session that
// turns out to be untouched (Clear) nothing is suspect any more, but for what
// this tenure itself has had before.
func (t *tenure) Suspect(d delivery) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return d.again || d.old && !t.cleared[d.key]
}

// Clear notes that d is untouched.
func (t *tenure) Clear(d delivery) {
	if !d.old {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleared[d.key] = true
}
