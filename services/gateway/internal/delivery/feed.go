package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

const (
	// liveBuffer is how many live events may wait for being decoded. It is small
	// on purpose: what does not fit is dropped by the NATS client and read from
	// the journal, which costs less than memory for every session.
	liveBuffer = 64
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
	cancel context.CancelFunc
	sub    *nats.Subscription

	refs int // guarded by the engine's mutex

	mu        sync.Mutex
	members   map[*Subscription]struct{}
	recheckAt time.Time
}

// open subscribes and makes sure that the server knows: from then on no event is
// stored without either its live copy on the way or a read of the journal that
// comes later.
func (f *feed) open() (err error) {
	defer close(f.ready)
	defer func() { f.err = err }()
	live := make(chan *nats.Msg, liveBuffer)
	sub, err := f.engine.bus.SubscribeLive(f.key.Account, f.key.Session, live)
	if err != nil {
		return fmt.Errorf("follow a session: %w", err)
	}
	ctx, cancel := context.WithTimeout(f.engine.ctx, openTimeout)
	defer cancel()
	if err := f.engine.bus.NC.FlushWithContext(ctx); err != nil {
		return errors.Join(fmt.Errorf("follow a session: %w", err), ignoreGone(sub.Unsubscribe()))
	}
	runCtx, stop := context.WithCancel(f.engine.ctx)
	if !f.engine.spawn(func() { f.run(runCtx, live) }) {
		stop()
		return errors.Join(errClosed, ignoreGone(sub.Unsubscribe()))
	}
	f.sub, f.cancel = sub, stop
	return nil
}

// run decodes live events, once for all subscriptions.
func (f *feed) run(ctx context.Context, live <-chan *nats.Msg) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-live:
			stored, err := bus.DecodeLive(m)
			if err != nil {
				// The regular look at the tail will find that it is missing.
				f.engine.log.ErrorContext(ctx, "live event can't be read", "error", err)
				continue
			}
			f.offer(newItem(stored, f.epoch, f.key))
		}
	}
}

func (f *feed) offer(it item) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.members {
		s.offer(it)
	}
}

func (f *feed) behind(newest uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.members {
		s.behind(newest)
	}
}

// join adds a subscription, from which moment it is offered live events.
func (f *feed) join(s *Subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members[s] = struct{}{}
	f.recheckAt = time.Now().Add(recheckDelay)
}

// leave removes a subscription, and the feed with the last one.
func (f *feed) leave(s *Subscription) {
	f.mu.Lock()
	_, member := f.members[s]
	delete(f.members, s)
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
	for s := range f.members {
		if at := s.position() + 1; since == 0 || at < since {
			since = at
		}
	}
	return since, true
}

func (f *feed) recheckSoon(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recheckAt = at
}

func (f *feed) endAll(code axpchatv1.CloseCode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.members {
		s.finish(code)
	}
}

// close ends what open began.
func (f *feed) close() {
	if f.sub == nil {
		return
	}
	f.cancel()
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
