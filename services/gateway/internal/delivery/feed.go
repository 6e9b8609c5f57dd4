package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

const (
	// openTimeout bounds subscribing at the NATS server.
	openTimeout = 5 * time.Second
	// recheckDelay is when a session is looked at once more after an attach: a
	// read of the journal may have been answered by a replica that was behind.
	recheckDelay = time.Second
)

// feed is the live subscription of one session, shared by its subscriptions.
type feed struct {
	engine *Engine
	key    bus.SessionKey
	epoch  string
	ready  chan struct{} // closed when open has ended
	err    error         // of open
	sub    *nats.Subscription
	lane   *lane

	refs int // guarded by the engine's mutex

	mu        sync.Mutex
	members   []*Subscription
	recheckAt time.Time
}

// open subscribes and makes sure that the server knows: from then on no event is
// stored without either its live copy on the way or a read of the journal that
// comes later.
func (f *feed) open() (err error) {
	defer close(f.ready)
	defer func() { f.err = err }()
	subject := bus.LiveSubject(f.key.Account, f.key.Session)
	f.lane = f.engine.lanes.of(subject)
	f.lane.add(subject, f)
	sub, err := f.engine.bus.SubscribeLive(f.key.Account, f.key.Session, f.lane.live)
	if err != nil {
		f.lane.remove(subject, f)
		return fmt.Errorf("follow a session: %w", err)
	}
	ctx, cancel := context.WithTimeout(f.engine.ctx, openTimeout)
	defer cancel()
	if err := f.engine.bus.NC.FlushWithContext(ctx); err != nil {
		f.lane.remove(subject, f)
		return errors.Join(fmt.Errorf("follow a session: %w", err), ignoreGone(sub.Unsubscribe()))
	}
	f.sub = sub
	return nil
}

func (f *feed) offer(it item) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.members {
		s.offer(it)
	}
}

func (f *feed) behind(newest uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.members {
		s.behind(newest)
	}
}

// join adds a subscription, from which moment it is offered live events.
func (f *feed) join(s *Subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = append(f.members, s)
	f.recheckAt = time.Now().Add(recheckDelay)
}

// leave removes a subscription, and the feed with the last one.
func (f *feed) leave(s *Subscription) {
	f.mu.Lock()
	at := slices.Index(f.members, s)
	member := at >= 0
	if member {
		f.members = slices.Delete(f.members, at, at+1)
	}
	f.mu.Unlock()
	if member {
		f.engine.metrics.attached(s.ctx, -1)
		f.engine.release(f)
	}
}

// due tells whether the session is to be looked at, and from which sequence on.
func (f *feed) due(now time.Time) (since uint64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.recheckAt.IsZero() || now.Before(f.recheckAt) || len(f.members) == 0 {
		return 0, false
	}
	f.recheckAt = time.Time{}
	for _, s := range f.members {
		if at := s.position() + 1; since == 0 || at < since {
			since = at
		}
	}
	return since, true
}

// reached tells whether everybody has been handed on all up to an event that is
// at or behind the given place; at the beginning, 0, nobody has.
func (f *feed) reached(sequence uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return sequence > 0 && !slices.ContainsFunc(f.members, func(s *Subscription) bool { return s.position() < sequence })
}

func (f *feed) recheckSoon(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recheckAt = at
}

func (f *feed) endAll(code axpchatv1.CloseCode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.members {
		s.finish(code)
	}
}

// close ends what open began.
func (f *feed) close() {
	if f.sub == nil {
		return
	}
	f.lane.remove(f.sub.Subject, f)
	if err := ignoreGone(f.sub.Unsubscribe()); err != nil {
		f.engine.log.Warn("a session can't be left", "error", err)
	}
}

// ignoreGone: with the connection the subscription has ended as well.
func ignoreGone(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrBadSubscription) {
		return nil
	}
	return err
}
