package messages

import (
	"context"
	"sync"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
)

// Bounds says how many messages may wait for AXP. Less than 1: no bound.
type Bounds struct {
	// Session bounds those of one session.
	Session int
	// Account bounds those of one account in one partition. A partition's worker
	// is given so many at once; were they all of one account whose AXP is down,
	// those of the others would not even reach it.
	Account int
}

const (
	// known is how many sessions and accounts are remembered.
	known = 1 << 14
	// fullFor is how long it is believed that there is no room.
	fullFor = time.Second
	// fullAdvice is what who finds no room is told to wait.
	fullAdvice = 5 * time.Second
	// countTime bounds a question to NATS.
	countTime = 2 * time.Second
)

// backlog knows whether there is room for another message in the outbox. NATS
// knows how many there are, but is not asked each time: what it says leaves
// room for some more, a part of which is handed out without asking again. So
// a bound may be exceeded by a quarter for each replica that takes messages in.
type backlog struct {
	bounds     Bounds
	partitions int
	count      func(ctx context.Context, filter string) (int, error)
	now        func() time.Time

	mu   sync.Mutex
	room map[string]room // by subject
}

// room is what is known of one bound.
type room struct {
	left int       // messages that may be taken without asking
	full time.Time // no room until then
}

func newBacklog(b *bus.Bus, bounds Bounds, now func() time.Time) *backlog {
	return &backlog{
		bounds: bounds, partitions: b.Config().Partitions, now: now, room: map[string]room{},
		count: func(ctx context.Context, filter string) (int, error) {
			ctx, cancel := context.WithTimeout(ctx, countTime)
			defer cancel()
			return b.CountOutbox(ctx, filter)
		},
	}
}

// admit takes room for a message of the session, or refuses with RATE_LIMITED.
func (b *backlog) admit(ctx context.Context, account, session string) error {
	partition := bus.Partition(session, b.partitions)
	err := b.take(ctx, bus.OutboxSubject(partition, b.partitions, account, session), b.bounds.Session,
		"too many messages of this chat are waiting for AXP")
	if err != nil {
		return err
	}
	return b.take(ctx, bus.OutboxSubject(partition, b.partitions, account, "*"), b.bounds.Account,
		"too many messages of the account are waiting for AXP")
}

func (b *backlog) take(ctx context.Context, subject string, bound int, refusal string) error {
	if bound < 1 {
		return nil
	}
	full := errs.New(axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED, refusal).WithRetryAfter(fullAdvice)
	b.mu.Lock()
	r, now := b.room[subject], b.now()
	switch {
	case now.Before(r.full):
		b.mu.Unlock()
		return full
	case r.left > 0:
		r.left--
		b.room[subject] = r
		b.mu.Unlock()
		return nil
	}
	b.mu.Unlock()
	n, err := b.count(ctx, subject)
	if err != nil {
		return records.Unavailable(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.makeSpaceLocked()
	if n >= bound {
		b.room[subject] = room{full: now.Add(fullFor)}
		return full
	}
	b.room[subject] = room{left: (bound - n) / 4}
	return nil
}

// makeSpaceLocked forgets something where too much is remembered: it is asked
// for again.
func (b *backlog) makeSpaceLocked() {
	for subject := range b.room {
		if len(b.room) < known {
			return
		}
		delete(b.room, subject)
	}
}
