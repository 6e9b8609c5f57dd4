package backfill

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/panics"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/share"
)

const (
	// liveBuffer is how many events may wait for being looked at. What does not
	// fit is dropped by the NATS client and seems to be missing: the look at the
	// journal then finds it.
	liveBuffer = 8192
	tick       = 500 * time.Millisecond
	// lookTimeout bounds one look, AXP's answers included.
	lookTimeout = 30 * time.Second
	retryMin    = 2 * time.Second
	retryMax    = time.Minute
)

// Replicas tells who shares the work.
type Replicas interface {
	// Present is this replica's name and the names of all, sorted.
	Present() (self string, all []string)
}

// Refresher repairs the state of an engagement from what AXP says.
type Refresher interface {
	Refresh(ctx context.Context, ref records.Ref) error
}

// Params is what New needs; all of it is required.
type Params struct {
	Config      Config
	Bus         *bus.Bus
	Records     *records.Records
	Accounts    *accounts.Registry
	Engagements Refresher
	Replicas    Replicas
	Log         *slog.Logger
	Meter       metric.Meter
	Now         func() time.Time
}

// Filler is a component of the process: Run once, Drain before the context of
// Run ends.
type Filler struct {
	p        Params
	looks    metric.Int64Counter
	messages metric.Int64Counter
	panics   *panics.Watch
	lost     chan string // accounts whose subscription was gone

	// What follows belongs to the goroutine of Run.
	dialogs map[records.Ref]*watched
	running int
	results chan result
	share   share.Share
}

// watched is a dialog with what its owner needs.
type watched struct {
	*dialog
	looking  bool
	buffered []noted // live events that came while it was looked at
	failures int
	retryAt  time.Time
}

// New makes a filler; it watches nothing before Run.
func New(p Params) (*Filler, error) {
	looks, err := p.Meter.Int64Counter("axpchat_backfill_looks", metric.WithDescription("Looks for missing callbacks, by why and outcome."))
	if err != nil {
		return nil, err
	}
	messages, err := p.Meter.Int64Counter("axpchat_backfill_messages", metric.WithDescription("Messages whose callback never came and that were fetched from AXP."))
	if err != nil {
		return nil, err
	}
	return &Filler{
		p: p, looks: looks, messages: messages, panics: panics.New(p.Log, p.Meter), lost: make(chan string, 64),
		dialogs: map[records.Ref]*watched{}, results: make(chan result, p.Config.Concurrent),
	}, nil
}

// Name is "backfill".
func (f *Filler) Name() string { return "backfill" }

// Ready fails while NATS can't be reached.
func (f *Filler) Ready(ctx context.Context) error { return f.p.Bus.Ready(ctx) }

// Drain has nothing to finish: what was begun, another replica notices again.
func (f *Filler) Drain(context.Context) error { return nil }

// SubscriptionWasGone tells that callbacks of an account have been missed: all
// its dialogs are looked at. It never blocks; where too much is under way the
// usual doubts find what was lost.
func (f *Filler) SubscriptionWasGone(account string) {
	select {
	case f.lost <- account:
	default:
	}
}

// Run watches until ctx ends.
func (f *Filler) Run(ctx context.Context) error {
	live := make(chan *nats.Msg, liveBuffer)
	sub, err := f.p.Bus.SubscribeAllLive(live)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // it fails only when the connection is gone
	var group sync.WaitGroup
	defer group.Wait()
	lookCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	clock := time.NewTicker(tick)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-live:
			f.take(ctx, m)
		case account := <-f.lost:
			f.doubtAll(account)
		case r := <-f.results:
			f.finish(ctx, r)
		case <-clock.C:
			f.follow(ctx)
			f.begin(lookCtx, &group)
		}
	}
}

// take notes a live event of a session that is watched here.
func (f *Filler) take(ctx context.Context, m *nats.Msg) {
	// What the event would have told is told by the regular looks as well.
	defer func() { _ = f.panics.Note(ctx, "live event", recover()) }()
	if !concerns(m.Header.Get(bus.HeaderEvent)) {
		return
	}
	session := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	if !f.share.Mine(session) {
		return
	}
	stored, err := bus.DecodeLive(m)
	if err != nil {
		f.p.Log.WarnContext(ctx, "live event can't be read", "error", err)
		return
	}
	ev := stored.Record.GetEvent()
	ref := records.Ref{Account: stored.Record.GetAccount(), Session: ev.GetSessionId(), Engagement: ev.GetEngagementId()}
	if ref.Engagement == "" {
		return
	}
	w := f.dialogs[ref]
	if w == nil {
		w = &watched{dialog: newDialog()}
		// Of a chat that begins here nothing came before; of any other the journal knows.
		w.unsure = ev.GetEngagementCreated() == nil
		f.dialogs[ref] = w
	}
	n := noted{sequence: stored.Sequence, event: ev, at: f.p.Now()}
	if w.looking {
		w.buffered = append(w.buffered, n)
	}
	if w.note(ev, n.at); w.over {
		delete(f.dialogs, ref)
	}
}

// concerns tells whether an event of this kind says anything about a dialog's
// messages or its life.
func concerns(kind string) bool {
	switch kind {
	case "message_arrived", "message_delivered", "message_status_changed", "engagement_created", "engagement_active",
		"engagement_terminated", "engagement_error", "participant_added", "participant_disconnected":
		return true
	default:
		return false
	}
}

func (f *Filler) doubtAll(account string) {
	for ref, w := range f.dialogs {
		if ref.Account == account {
			w.missing, w.retryAt = true, time.Time{}
		}
	}
}

// follow forgets dialogs that are another replica's now, and takes over those
// that have become ours.
func (f *Filler) follow(ctx context.Context) {
	was := f.share
	self, all := f.p.Replicas.Present()
	f.share = share.Share{Self: self, All: all}
	if f.share.Equal(was) {
		return
	}
	for ref := range f.dialogs {
		if !f.share.Mine(ref.Session) {
			delete(f.dialogs, ref)
		}
	}
	adopted, err := f.openDialogs(ctx)
	if err != nil {
		f.p.Log.WarnContext(ctx, "open chats can't be listed; it is tried again", "error", err)
		f.share = was
		return
	}
	for _, ref := range adopted {
		if f.dialogs[ref] == nil && f.share.Mine(ref.Session) {
			w := &watched{dialog: newDialog()}
			w.unsure, w.last = true, f.p.Now()
			f.dialogs[ref] = w
		}
	}
}

// begin starts the looks that are due, as many as may run.
func (f *Filler) begin(ctx context.Context, group *sync.WaitGroup) {
	now := f.p.Now()
	for ref, w := range f.dialogs {
		if f.running >= f.p.Config.Concurrent {
			return
		}
		if w.looking || now.Before(w.retryAt) {
			continue
		}
		why := w.doubt(f.p.Config, now)
		if why == none {
			continue
		}
		w.looking = true
		f.running++
		ask := question{ref: ref, why: why, looked: w.looked, last: w.last, missing: w.missing}
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, lookTimeout)
			defer cancel()
			var r result
			err := f.panics.Do(ctx, "look at a dialog", func() error {
				r = f.look(ctx, ask)
				return nil
			})
			if err != nil {
				r = result{ref: ask.ref, why: ask.why, err: err}
			}
			f.results <- r // there is room for as many as run
		})
	}
}

// finish takes the outcome of a look over.
func (f *Filler) finish(ctx context.Context, r result) {
	f.running--
	w := f.dialogs[r.ref]
	f.count(ctx, r)
	if w == nil {
		return // it ended, or is somebody else's now
	}
	buffered := w.buffered
	w.looking, w.buffered = false, nil
	if r.err != nil {
		w.failures++
		w.retryAt = f.p.Now().Add(patience.Backoff(w.failures, retryMin, retryMax, 0))
		if !errors.Is(r.err, context.Canceled) {
			f.p.Log.WarnContext(ctx, "a dialog can't be looked up; it is tried again", "why", string(r.why), "error", r.err)
		}
		return
	}
	w.dialog, w.failures, w.retryAt = r.dialog, 0, time.Time{}
	for _, n := range buffered {
		if n.sequence > r.through {
			w.note(n.event, n.at)
		}
	}
	if w.over {
		delete(f.dialogs, r.ref)
	}
}

func (f *Filler) count(ctx context.Context, r result) {
	outcome := "nothing"
	switch {
	case r.err != nil:
		outcome = "failed"
	case r.filled > 0:
		outcome = "filled"
	case !r.asked:
		outcome = "known" // the journal dispelled the doubt
	}
	f.looks.Add(ctx, 1, metric.WithAttributes(attribute.String("why", string(r.why)), attribute.String("outcome", outcome)))
	f.messages.Add(ctx, int64(r.filled))
}
