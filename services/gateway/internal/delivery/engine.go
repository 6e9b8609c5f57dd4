package delivery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/unshown"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

const (
	// readBatch is how many events one read of the journal returns.
	readBatch = 256
	// firstBatch is for the first one of a catch-up: most clients have missed little,
	// and room for the whole answer is made beforehand.
	firstBatch = 32
	// readTimeout bounds one read of the journal, and the wait for its turn.
	readTimeout = 5 * time.Second
)

var errClosed = errors.New("delivery: engine is closed")

// Engine serves the subscriptions of one pod. It is safe for concurrent use.
type Engine struct {
	bus     *bus.Bus
	cfg     Config
	log     *slog.Logger
	metrics metrics
	panics  *panics.Watch
	unshown *unshown.Teller
	render  func(bus.StoredEvent, string, bus.SessionKey) item
	ctx     context.Context //nolint:containedctx // the life of the engine, which its subscriptions share
	cancel  context.CancelFunc
	turns   chan struct{} // one slot for each read that may run
	lanes   lanes

	mu     sync.Mutex
	closed bool
	feeds  map[bus.SessionKey]*feed
	merged map[*Subscription]struct{}
	crowd  crowd
	work   sync.WaitGroup
}

// Params is what New needs.
type Params struct {
	Config Config
	Bus    *bus.Bus
	Log    *slog.Logger
	Meter  metric.MeterProvider
}

// New returns an engine without subscriptions, whose lanes run. Close ends it.
func New(p Params) (*Engine, error) {
	m, err := newMetrics(p.Meter)
	if err != nil {
		return nil, err
	}
	teller, err := unshown.New(p.Log, p.Meter)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		bus: p.Bus, cfg: p.Config, log: p.Log, metrics: m, panics: panics.New(p.Log, p.Meter.Meter(scope)),
		unshown: teller, render: newItem,
		turns: make(chan struct{}, p.Config.CatchUps),
		feeds: map[bus.SessionKey]*feed{}, merged: map[*Subscription]struct{}{},
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.lanes = newLanes(e)
	for _, l := range e.lanes.all {
		e.work.Go(func() { l.run(e.ctx) })
	}
	return e, nil
}

// Request says what to attach to.
type Request struct {
	Session bus.SessionKey
	// Cursor is where to begin; empty: at the beginning of the journal.
	Cursor string
	// Created is when the session was created. It tells a session that has lost
	// nothing from one whose oldest events the journal has dropped.
	Created time.Time
	// Joined are engagements that other sessions have started: what happens in
	// them is part of what this session is told.
	Joined []Joined
}

// Joined is an engagement of another session.
type Joined struct {
	Session    bus.SessionKey // whose journal holds it
	Engagement string
}

// Attach begins a subscription, which its caller must close. It fails with
// CURSOR_INVALID for a cursor that is none and with UNAVAILABLE while NATS can't
// be reached. It returns before the journal is read.
func (e *Engine) Attach(ctx context.Context, r Request) (*Subscription, error) {
	at, reset, err := e.resolve(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(r.Joined) > 0 {
		return e.attachMerged(ctx, r, at, reset)
	}
	f, err := e.acquire(ctx, r.Session, at.epoch)
	if err != nil {
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "the session can't be followed at the moment").WithCause(err)
	}
	s := newSubscription(e, r, at, reset)
	s.feed = f
	f.join(s)
	e.metrics.attached(ctx, 1)
	s.beginCatchUp()
	return s, nil
}

// acquire returns the session's feed, subscribed.
func (e *Engine) acquire(ctx context.Context, key bus.SessionKey, epoch string) (*feed, error) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, errClosed
	}
	f, found := e.feeds[key]
	if found && f.epoch != epoch {
		defer f.endAll(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE) // the journal was made anew
		found = false
	}
	if !found {
		f = &feed{engine: e, key: key, epoch: epoch, ready: make(chan struct{})}
		e.feeds[key] = f
	}
	f.refs++
	e.mu.Unlock()
	if !found {
		if err := f.open(); err != nil { //nolint:contextcheck // a feed belongs to the life of the engine: others share it
			e.release(f)
			return nil, err
		}
		return f, nil
	}
	select {
	case <-f.ready:
	case <-ctx.Done():
		e.release(f)
		return nil, ctx.Err()
	}
	if f.err != nil {
		e.release(f)
		return nil, f.err
	}
	return f, nil
}

// release gives back what acquire took; the last one ends the feed.
func (e *Engine) release(f *feed) {
	e.mu.Lock()
	f.refs--
	last := f.refs == 0
	if last && e.feeds[f.key] == f {
		delete(e.feeds, f.key)
	}
	e.mu.Unlock()
	if last { // whoever opened it had a reference, so open has ended
		f.close()
	}
}

// spawn runs f until it returns; false when the engine is closed.
func (e *Engine) spawn(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.work.Go(f)
	return true
}

// Go runs f, which serves a client, as a part of the engine: Close ends its
// context and waits for it. It returns false when the engine is closed.
func (e *Engine) Go(f func(ctx context.Context)) bool { return e.spawn(func() { f(e.ctx) }) }

// read reads events of a session in its turn.
func (e *Engine) read(ctx context.Context, key bus.SessionKey, at cursor, after uint64, limit int) ([]item, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	select {
	case e.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	defer func() { <-e.turns }()
	stored, more, err := e.bus.ReadEvents(ctx, key.Account, key.Session, after, limit)
	if err != nil {
		return nil, false, err
	}
	e.metrics.caughtUp(ctx, len(stored))
	items := make([]item, len(stored))
	for i, s := range stored {
		items[i] = e.item(s, at.epoch, key)
	}
	return items, more, nil
}

// item makes what clients get of a stored event: the event, or, where that can't be
// made, one that says so.
func (e *Engine) item(s bus.StoredEvent, epoch string, key bus.SessionKey) item {
	for n := 0; s.Record != nil && n < unshown.Tries; n++ {
		var it item
		err := e.panics.Do(e.ctx, "event", func() error { it = e.render(s, epoch, key); return nil }, "sequence", s.Sequence)
		if err == nil {
			return it
		}
	}
	nameless := newItem(bus.StoredEvent{Sequence: s.Sequence, Previous: s.Previous}, epoch, key)
	nameless.event.SessionId, nameless.event.Payload = key.Session, s.Record.GetEvent().GetPayload()
	nameless.event = e.unshown.Instead(e.ctx, "journal", nameless.event)
	nameless.bytes = proto.Size(nameless.event)
	return nameless
}

// place is where a session's journal is read from.
type place struct {
	key     bus.SessionKey
	start   cursor
	created time.Time // the session
	begins  bool      // at what is there: nothing was promised before the first event
}

// errDropped is returned where the journal may have dropped events that follow.
var errDropped = errors.New("delivery: the journal has dropped what follows")

// readOn is read for who must be told of a hole: the journal drops its oldest events
// at any moment, also after the cursor was found to be good. It fails with
// errDropped where there may be one.
func (e *Engine) readOn(ctx context.Context, p place, after uint64, limit int) ([]item, bool, error) {
	if p.atBeginning(after) {
		return e.read(ctx, p.key, p.start, after, limit)
	}
	// The event at the place is read again: where it is there, so is what follows.
	items, more, err := e.read(ctx, p.key, p.start, max(after, 1)-1, limit+1)
	if err != nil || len(items) > 0 && items[0].sequence == after {
		return items[min(1, len(items)):], more, err
	}
	info, err := e.bus.JournalSince(ctx, time.Now())
	if err != nil {
		return nil, false, err
	}
	if !p.holds(info, after) {
		return nil, false, errDropped
	}
	return items, more, nil
}

// atBeginning tells whether nobody was promised what comes next.
func (p place) atBeginning(after uint64) bool { return p.begins && after == p.start.sequence }

// holds tells whether a journal is certain to hold what comes next.
func (p place) holds(info bus.JournalInfo, after uint64) bool {
	return info.Epoch == p.start.epoch && (p.atBeginning(after) || keeps(info, after, p.created))
}

// newItem makes the event that clients get of a stored one.
func newItem(s bus.StoredEvent, epoch string, key bus.SessionKey) item {
	ev := s.Record.GetEvent()
	if ev == nil {
		ev = &axpchatv1.Event{}
	}
	ev.Sequence = s.Sequence
	ev.Cursor = cursor{epoch: epoch, tag: sessionTag(key), sequence: s.Sequence}.String()
	return item{sequence: s.Sequence, previous: s.Previous, event: ev, bytes: proto.Size(ev)}
}

// Close ends all subscriptions with SERVER_SHUTDOWN and waits for what runs.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.endAll(axpchatv1.CloseCode_CLOSE_CODE_SERVER_SHUTDOWN, func(string) bool { return true })
	e.cancel()
	e.work.Wait()
	return nil
}

// endAll ends the subscriptions of the epochs that are chosen.
func (e *Engine) endAll(code axpchatv1.CloseCode, chosen func(epoch string) bool) {
	e.mu.Lock()
	var feeds []*feed
	for _, f := range e.feeds {
		if chosen(f.epoch) {
			feeds = append(feeds, f)
		}
	}
	var merged []*Subscription
	for s := range e.merged {
		if chosen(s.start.epoch) {
			merged = append(merged, s)
		}
	}
	e.mu.Unlock()
	for _, f := range feeds {
		f.endAll(code)
	}
	for _, s := range merged {
		s.finish(code)
	}
}
