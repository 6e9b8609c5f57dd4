// Package projector owns the way from AXP's events to our records: it reads
// the stream EVENTS once for all replicas together, brings the records of
// engagements up to date, and notes which files a session may open.
//
// Events may come in any order and more than once; package state makes the
// same record of them. An event is acknowledged when its effect is stored. One
// that cannot be worked now comes again; one that never can be is set aside and
// counted.
//
// An event of a session that was erased, a late callback, is overwritten at once
// and counted.
//
// It ignores what the orchestrator itself writes, and calls AXP only through
// Surplus, for a dialog that nobody wants.
package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/panics"
	"github.com/axpchat/connector/services/session-orchestrator/internal/attachments"
	"github.com/axpchat/connector/services/session-orchestrator/internal/consume"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

const (
	// concurrency bounds the events worked at a time in this process.
	concurrency = 16
	// workTimeout is well under the 30 s after which the server would give the
	// event to somebody else.
	workTimeout = 20 * time.Second
	retryMin    = 200 * time.Millisecond
	retryMax    = 10 * time.Second
)

// Surplus deals with a dialog that was created although nobody wants it.
type Surplus interface {
	Surplus(ctx context.Context, account string, e *axpchatv1.EngagementCreated) error
}

// Params is what New needs; all of it is required.
type Params struct {
	Bus     *bus.Bus
	Records *records.Records
	Surplus Surplus
	Log     *slog.Logger
	Meter   metric.Meter
}

// Projector is a component of the process: Run once, Drain before the context
// of Run ends.
type Projector struct {
	p       Params
	poison  metric.Int64Counter
	retried metric.Int64Counter
	dropped metric.Int64Counter
	loop    *consume.Loop
}

// New makes a projector; it reads nothing before Run.
func New(p Params) (*Projector, error) {
	poison, err := p.Meter.Int64Counter("axpchat_projector_unreadable", metric.WithDescription("Events that could not be read and were set aside."))
	if err != nil {
		return nil, err
	}
	retried, err := p.Meter.Int64Counter("axpchat_projector_retries", metric.WithDescription("Events whose effect could not be stored at once."))
	if err != nil {
		return nil, err
	}
	dropped, err := p.Meter.Int64Counter("axpchat_erased_events", metric.WithDescription("Events that came for sessions which were erased, and were removed."))
	if err != nil {
		return nil, err
	}
	out := &Projector{p: p, poison: poison, retried: retried, dropped: dropped}
	out.loop = consume.New(consume.Params{
		Name: out.Name(), Bus: p.Bus, Stream: bus.EventsStream, Consumer: bus.ProjectorConsumer,
		Concurrency: concurrency, Ahead: 2 * concurrency, Handle: out.handle, Log: p.Log, Panics: panics.New(p.Log, p.Meter),
	})
	return out, nil
}

// Name is "projector".
func (p *Projector) Name() string { return "projector" }

// Ready fails while NATS can't be reached.
func (p *Projector) Ready(ctx context.Context) error { return p.p.Bus.Ready(ctx) }

// Run reads until ctx ends.
func (p *Projector) Run(ctx context.Context) error { return p.loop.Run(ctx) }

// Drain reads no more and finishes what was begun.
func (p *Projector) Drain(ctx context.Context) error { return p.loop.Drain(ctx) }

// handle works one event and tells the server how it went.
func (p *Projector) handle(ctx context.Context, m jetstream.Msg) {
	ctx, cancel := context.WithTimeout(p.p.Bus.TraceContext(ctx, m.Headers()), workTimeout)
	defer cancel()
	deliveries := uint64(1)
	if md, err := m.Metadata(); err == nil {
		deliveries = md.NumDelivered
	}
	kind := m.Headers().Get(bus.HeaderEvent)
	var err error
	if s, ok := bus.ParseEventSubject(m.Subject()); ok && p.p.Bus.WasErased(s.Account, s.Session) {
		err = p.erase(ctx, m)
	} else if kind == "" || state.Concerns(kind) || carriesFiles(kind) {
		err = p.decode(ctx, m)
	}
	switch {
	case err == nil:
		err = m.Ack()
	case errors.Is(err, errUnreadable):
		p.poison.Add(ctx, 1)
		p.loop.GiveUp(ctx, m, "unreadable")
		err = nil
	default:
		p.retried.Add(ctx, 1)
		p.p.Log.WarnContext(ctx, "the effect of an event could not be stored; it comes again", "kind", kind, "error", err)
		err = m.NakWithDelay(patience.Backoff(int(min(deliveries, 30)), retryMin, retryMax, 0))
	}
	if err != nil {
		p.p.Log.DebugContext(ctx, "an event could not be acknowledged; it comes again", "error", err)
	}
}

// errUnreadable marks an event that no number of tries will make readable.
var errUnreadable = errors.New("projector: unreadable event")

func (p *Projector) decode(ctx context.Context, m jetstream.Msg) error {
	rec, err := bus.DecodeRecord(m.Data())
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if rec.GetAccount() == "" || rec.GetEvent().GetSessionId() == "" {
		return fmt.Errorf("%w: no account or session", errUnreadable)
	}
	kind := bus.EventKind(rec)
	if carriesFiles(kind) {
		return p.files(ctx, rec)
	}
	if state.Concerns(kind) && rec.GetEvent().GetEngagementId() != "" {
		return p.project(ctx, rec)
	}
	return nil
}

// erase removes an event that came after its session was erased. A dialog that it
// tells of is wanted by nobody.
func (p *Projector) erase(ctx context.Context, m jetstream.Msg) error {
	at, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if err := p.p.Bus.EraseMessage(ctx, bus.EventsStream, at.Sequence.Stream); err != nil {
		return err
	}
	p.dropped.Add(ctx, 1)
	rec, err := bus.DecodeRecord(m.Data())
	if err != nil {
		return nil //nolint:nilerr // it is gone, whatever it was
	}
	ref := records.Ref{Account: rec.GetAccount(), Session: rec.GetEvent().GetSessionId(), Engagement: rec.GetEvent().GetEngagementId()}
	if created := rec.GetEvent().GetEngagementCreated(); ours(created, ref) {
		return p.p.Surplus.Surplus(ctx, rec.GetAccount(), created)
	}
	return nil
}

// project applies an event to its engagement.
func (p *Projector) project(ctx context.Context, rec *busv1.EventRecord) error {
	ev := rec.GetEvent()
	ref := records.Ref{Account: rec.GetAccount(), Session: ev.GetSessionId(), Engagement: ev.GetEngagementId()}
	created := ev.GetEngagementCreated()
	unwanted := false
	_, err := p.p.Records.Change(ctx, ref, func(r *busv1.EngagementRecord) error {
		// One that comes into being after the end is wanted by nobody either. For
		// a dialog that has ended long since, asking once more does no harm.
		unwanted = ours(created, ref) &&
			(!state.SameDialog(r, created.GetAxpDialogId()) || state.Over(r.GetEngagement().GetStatus()))
		state.Apply(r, ev)
		return nil
	})
	if errors.Is(err, bus.ErrNotFound) {
		// The record is stored before AXP is asked for a dialog, so this one was
		// given up meanwhile.
		err, unwanted = nil, ours(created, ref)
	}
	if err != nil {
		return err
	}
	if unwanted {
		return p.p.Surplus.Surplus(ctx, rec.GetAccount(), created)
	}
	return nil
}

// ours tells whether the dialog was made by the connector for this engagement:
// it carries our key. Only such a one may be disconnected.
func ours(created *axpchatv1.EngagementCreated, ref records.Ref) bool {
	return created != nil && created.GetProviderDialogId() == ref.Session+"."+ref.Engagement
}

func carriesFiles(kind string) bool { return kind == "message_arrived" || kind == "message_delivered" }

// files notes which files came with a message.
func (p *Projector) files(ctx context.Context, rec *busv1.EventRecord) error {
	m := rec.GetEvent().GetMessageArrived()
	if m == nil {
		m = rec.GetEvent().GetMessageDelivered()
	}
	for _, a := range m.GetAttachments() {
		if a.GetMediaId() == "" {
			continue
		}
		if err := attachments.Remember(ctx, p.p.Bus, rec.GetAccount(), rec.GetEvent().GetSessionId(), a.GetMediaId()); err != nil {
			return err
		}
	}
	return nil
}
