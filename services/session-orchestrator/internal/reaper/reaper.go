package reaper

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/session-orchestrator/internal/idle"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/share"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// Sessions is what the reaper needs of package sessions.
type Sessions interface {
	Abandon(ctx context.Context, account, id string) error
	Expire(ctx context.Context, account, id string, still func(*busv1.SessionRecord) bool) error
	DropSpares(ctx context.Context, account, id string) error
	TellParameters(ctx context.Context, account, id string) error
}

// Engagements is what the reaper needs of package engagements.
type Engagements interface {
	Resolve(ctx context.Context, ref records.Ref) error
	AskEnd(ctx context.Context, ref records.Ref, reason axpchatv1.CloseReason) error
	AskEndAgain(ctx context.Context, ref records.Ref, round string) error
	Clear(ctx context.Context, ref records.Ref) error
}

// Overdue tells what should have been done before.
type Overdue interface {
	Overdue(rec *busv1.SessionRecord, by time.Duration) bool
}

// Replicas tells who shares the work.
type Replicas interface {
	Present() (self string, all []string)
}

// Erasures are orders to erase a session or a customer.
type Erasures interface {
	// Sweep goes on with those that were left undone.
	Sweep(ctx context.Context, mine func(session string) bool) error
}

// Params is what New needs; all of it is required.
type Params struct {
	Config      Config
	Bus         *bus.Bus
	Sessions    Sessions
	Engagements Engagements
	Parameters  Overdue
	Policy      *idle.Policy
	Erasures    Erasures
	Replicas    Replicas
	Log         *slog.Logger
	Meter       metric.Meter
	Now         func() time.Time
}

// Reaper is a component of the process: Run once.
type Reaper struct {
	p      Params
	steps  metric.Int64Counter
	sweeps metric.Int64Counter
}

// New makes a reaper; it looks at nothing before Run.
func New(p Params) (*Reaper, error) {
	steps, err := p.Meter.Int64Counter("axpchat_reaper_steps", metric.WithDescription("Left-overs put right, by kind and outcome."))
	if err != nil {
		return nil, err
	}
	sweeps, err := p.Meter.Int64Counter("axpchat_reaper_sweeps", metric.WithDescription("Times that all records were looked through, by outcome."))
	if err != nil {
		return nil, err
	}
	return &Reaper{p: p, steps: steps, sweeps: sweeps}, nil
}

// Name is "reaper".
func (r *Reaper) Name() string { return "reaper" }

// Ready never fails: nobody waits for the reaper.
func (r *Reaper) Ready(context.Context) error { return nil }

// Drain has nothing to finish: what was begun is found again.
func (r *Reaper) Drain(context.Context) error { return nil }

// Run looks for left-overs until ctx ends, for the first time after an interval.
func (r *Reaper) Run(ctx context.Context) error {
	if r.p.Config.Interval == 0 {
		<-ctx.Done()
		return nil
	}
	for patience.Pause(ctx, r.p.Config.Interval, nil) == nil {
		outcome := "done"
		if err := r.Sweep(ctx); err != nil && ctx.Err() == nil {
			outcome = "failed"
			r.p.Log.WarnContext(ctx, "left-overs could not be looked for; it is tried again", "error", err)
		}
		r.sweeps.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", outcome)))
	}
	return nil
}

// step is something to put right.
type step struct {
	kind string
	do   func(ctx context.Context) error
}

// Sweep goes through all records once. What fails is logged and counted, and
// found again by the next sweep; an error means that the records could not be
// read.
func (r *Reaper) Sweep(ctx context.Context) error {
	self, all := r.p.Replicas.Present()
	mine := share.Share{Self: self, All: all}
	var todo []step
	err := r.p.Bus.Sessions.Scan(ctx, func(_ string, rec *busv1.SessionRecord, stored time.Time) {
		if mine.Mine(rec.GetSession().GetSessionId()) {
			todo = append(todo, r.session(rec, r.old(stored))...)
		}
	})
	if err != nil {
		return err
	}
	err = r.p.Bus.Engagements.Scan(ctx, func(_ string, rec *busv1.EngagementRecord, stored time.Time) {
		if !mine.Mine(rec.GetEngagement().GetSessionId()) || !r.old(stored) {
			return
		}
		if !state.Over(rec.GetEngagement().GetStatus()) {
			todo = append(todo, r.engagement(rec))
		}
		todo = append(todo, r.left(rec)...)
	})
	if err != nil {
		return err
	}
	r.work(ctx, todo)
	return r.p.Erasures.Sweep(ctx, mine.Mine)
}

// old tells whether nobody has worked on something for long.
func (r *Reaper) old(t time.Time) bool { return r.p.Now().Sub(t) >= r.p.Config.After }

// session finds what is to be put right in a session.
func (r *Reaper) session(rec *busv1.SessionRecord, old bool) []step {
	var out []step
	account, id := rec.GetSession().GetAccount(), rec.GetSession().GetSessionId()
	add := func(kind string, do func(ctx context.Context, account, id string) error) {
		out = append(out, step{kind, func(ctx context.Context) error { return do(ctx, account, id) }})
	}
	if len(rec.GetSpareAxpSessionIds()) > 0 && old {
		add("spare_session", r.p.Sessions.DropSpares)
	}
	switch status := rec.GetSession().GetStatus(); {
	case status == axpchatv1.SessionStatus_SESSION_STATUS_CREATING && r.old(rec.GetAttemptTime().AsTime()):
		add("creating_session", r.p.Sessions.Abandon)
	case status == axpchatv1.SessionStatus_SESSION_STATUS_CLOSING && old:
		add("closing_session", func(ctx context.Context, account, id string) error {
			return r.p.Sessions.Expire(ctx, account, id, nil)
		})
	case r.p.Parameters.Overdue(rec, r.p.Config.After):
		add("parameters", r.p.Sessions.TellParameters)
	case r.p.Policy.MayBeOverdue(rec, r.p.Config.After):
		add("timer", r.timer)
	}
	return out
}

// errNothing is returned by a step that found nothing to put right.
var errNothing = errors.New("reaper: nothing to do")

// timer sets the timer of a session that has lost it.
func (r *Reaper) timer(ctx context.Context, account, id string) error {
	t := bus.Timer{Kind: idle.TimerKind, Account: account, Session: id}
	has, err := r.p.Bus.HasTimer(ctx, t)
	if err != nil {
		return err
	}
	if has {
		return errNothing
	}
	return r.p.Bus.SetTimer(ctx, t, r.p.Now())
}

// engagement says what to do about an open engagement whose record is old.
func (r *Reaper) engagement(rec *busv1.EngagementRecord) step {
	ref := records.RefOf(rec)
	switch {
	case rec.GetEngagement().GetStatus() == axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ENDING:
		// One order for each span of time, however often it is looked.
		round := strconv.FormatInt(r.p.Now().Unix()/int64(max(r.p.Config.After, time.Minute)/time.Second), 10)
		return step{"ending_engagement", func(ctx context.Context) error { return r.p.Engagements.AskEndAgain(ctx, ref, round) }}
	case state.HalfMade(rec):
		return step{"creating_engagement", func(ctx context.Context) error { return r.p.Engagements.Resolve(ctx, ref) }}
	default:
		return step{"open_engagement", func(ctx context.Context) error { return r.orphan(ctx, ref) }}
	}
}

// left finds what an engagement has left behind: a turn that the journal was not
// told of, and dialogs that AXP could not be made to end.
func (r *Reaper) left(rec *busv1.EngagementRecord) []step {
	var kind string
	switch {
	case len(rec.GetLeftDialogs()) > 0, state.Unclear(rec):
		kind = "left_dialog"
	case state.Untold(rec):
		kind = "untold_turn"
	default:
		return nil
	}
	ref := records.RefOf(rec)
	return []step{{kind, func(ctx context.Context) error { return r.p.Engagements.Clear(ctx, ref) }}}
}

// orphan orders the end of an engagement whose session is closed or gone.
func (r *Reaper) orphan(ctx context.Context, ref records.Ref) error {
	session, _, err := r.p.Bus.Sessions.Get(ctx, bus.SessionKeyOf(ref.Account, ref.Session))
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	if err == nil && session.GetSession().GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_CLOSED {
		return errNothing
	}
	return r.p.Engagements.AskEnd(ctx, ref, axpchatv1.CloseReason_CLOSE_REASON_SYSTEM_CLOSED)
}

// work does the steps one by one, at the rate that is set.
func (r *Reaper) work(ctx context.Context, todo []step) {
	pause := time.Duration(float64(time.Second) / r.p.Config.Rate)
	for _, s := range todo {
		if ctx.Err() != nil {
			return
		}
		outcome := "done"
		err := s.do(ctx)
		if errors.Is(err, errNothing) {
			continue // asking NATS is cheap
		}
		if err != nil {
			outcome = "failed"
			r.p.Log.WarnContext(ctx, "a left-over could not be put right; it is tried again", "kind", s.kind, "error", err)
		}
		r.steps.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", s.kind), attribute.String("outcome", outcome)))
		if patience.Pause(ctx, pause, nil) != nil {
			return
		}
	}
}
