package outbox

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/session-orchestrator/internal/ident"
)

// membersPrefix is where replicas announce themselves, in the bucket INDEX.
const membersPrefix = "replica.outbox"

// members knows which replicas work the outbox: each announces itself under
// a key that expires unless it is written again. It only serves to share the
// work; who may work a partition is decided by its pin.
type members struct {
	bus *bus.Bus
	id  string
	ttl time.Duration

	mu  sync.Mutex
	all []string // never changed in place
}

func newMembers(b *bus.Bus, ttl time.Duration) (*members, error) {
	id, err := ident.New()
	if err != nil {
		return nil, err
	}
	return &members{bus: b, id: id, ttl: ttl, all: []string{id}}, nil
}

func (m *members) key() string { return membersPrefix + "." + m.id }

// announce says that this replica is there, for one more time to live. A plain
// update of a key would take its time to live away, hence the raw publish.
func (m *members) announce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err := m.bus.JS.Publish(ctx, "$KV."+bus.IndexBucket+"."+m.key(), nil, jetstream.WithMsgTTL(m.ttl)); err != nil {
		return fmt.Errorf("announce a replica: %w", err)
	}
	return nil
}

// look finds out which replicas are there, this one among them.
func (m *members) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	keys, err := m.bus.Index.Keys(ctx, membersPrefix)
	if err != nil {
		return fmt.Errorf("list replicas: %w", err)
	}
	all := []string{m.id}
	for _, key := range keys {
		if id := key[len(membersPrefix)+1:]; id != m.id {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = all
	return nil
}

// present are the replicas that the last look has found.
func (m *members) present() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all
}

// leave says that this replica is not there any more.
func (m *members) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := m.bus.Index.Delete(ctx, m.key(), 0); err != nil {
		return fmt.Errorf("retract a replica: %w", err)
	}
	return nil
}
