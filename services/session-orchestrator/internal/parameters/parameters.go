package parameters

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// TimerKind is the kind of the timer at which AXP is told.
const TimerKind = "parameters"

// settleTimeout bounds what is noted after AXP has answered.
const settleTimeout = 5 * time.Second

// ErrBusy is returned where AXP is being told by somebody else.
var ErrBusy = errors.New("parameters: AXP is being told")

// Params is what New needs; all of it is required.
type Params struct {
	Config   Config
	Bus      *bus.Bus
	Records  *records.Records
	Accounts *accounts.Registry
	Log      *slog.Logger
	Meter    metric.Meter
	Now      func() time.Time
}

// Teller tells AXP. It is safe for concurrent use.
type Teller struct {
	p       Params
	calls   metric.Int64Counter
	refused metric.Int64Counter
}

// New makes a teller.
func New(p Params) (*Teller, error) {
	calls, err := p.Meter.Int64Counter("axpchat_session_parameter_calls", metric.WithDescription("Calls that told AXP of session parameters."))
	if err != nil {
		return nil, err
	}
	refused, err := p.Meter.Int64Counter("axpchat_session_parameters_refused", metric.WithDescription("Session parameters that AXP takes no more of."))
	if err != nil {
		return nil, err
	}
	return &Teller{p: p, calls: calls, refused: refused}, nil
}

// Claim is for the function that changes a record: where the interval is over it
// takes the right, and the duty, to tell AXP at once.
func (t *Teller) Claim(rec *busv1.SessionRecord) bool {
	now := t.p.Now()
	if t.busy(rec, now) || now.Before(t.next(rec)) {
		return false
	}
	t.begin(rec, now)
	return true
}

func (t *Teller) begin(rec *busv1.SessionRecord, now time.Time) {
	rec.FlushTime, rec.Flushing = timestamppb.New(now), true
}

// busy tells whether somebody is at it; a crash may have left the mark.
func (t *Teller) busy(rec *busv1.SessionRecord, now time.Time) bool {
	return rec.GetFlushing() && now.Sub(rec.GetFlushTime().AsTime()) < patience.Leftover
}

// next is when AXP may be told again.
func (t *Teller) next(rec *busv1.SessionRecord) time.Time {
	if rec.GetFlushTime() == nil {
		return time.Time{}
	}
	return rec.GetFlushTime().AsTime().Add(t.p.Config.Interval)
}

// Overdue tells whether something is left to tell and nobody has done so for
// long after the interval.
func (t *Teller) Overdue(rec *busv1.SessionRecord, by time.Duration) bool {
	now := t.p.Now()
	return rec.GetSession().GetStatus() == axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE && len(rec.GetUnsentParameters()) > 0 &&
		!t.busy(rec, now) && !now.Before(t.next(rec).Add(by))
}

// Later has AXP be told when the interval is over. Failing is harmless: the
// reaper finds what is left to tell.
func (t *Teller) Later(ctx context.Context, rec *busv1.SessionRecord) {
	s := rec.GetSession()
	at := t.next(rec)
	if soonest := t.p.Now(); at.Before(soonest) {
		at = soonest
	}
	if err := t.p.Bus.SetTimer(ctx, bus.Timer{Kind: TimerKind, Account: s.GetAccount(), Session: s.GetSessionId()}, at); err != nil {
		t.p.Log.WarnContext(ctx, "no timer for session parameters; they are told later", "error", err)
	}
}

// Due tells AXP what is left to tell, when the interval is over. An error that
// satisfies axp.IsNotFound says that AXP knows the session no more; after any
// other it is to be called again.
func (t *Teller) Due(ctx context.Context, account, session string) error {
	claimed := false
	rec, _, err := t.p.Records.ChangeSession(ctx, account, session, func(rec *busv1.SessionRecord) error {
		claimed = t.open(rec) && t.Claim(rec)
		if !claimed {
			return bus.ErrNoChange
		}
		return nil
	})
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil
	case err != nil:
		return records.Unavailable(err)
	case !t.open(rec), !claimed && t.busy(rec, t.p.Now()):
		return nil // whoever is at it sees to what came later
	case !claimed:
		t.Later(ctx, rec)
		return nil
	}
	return t.Tell(ctx, rec)
}

// open tells whether there is something to tell to somebody.
func (t *Teller) open(rec *busv1.SessionRecord) bool {
	return rec.GetSession().GetStatus() == axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE && len(rec.GetUnsentParameters()) > 0
}

// Now tells AXP what is left to tell, without regard to the interval. It waits
// for whoever is at it. Errors are those of Due.
func (t *Teller) Now(ctx context.Context, account, session string) error {
	var mine *busv1.SessionRecord
	settled, err := patience.Until(ctx, patience.Others, nil, func(ctx context.Context) (bool, error) {
		claimed := false
		rec, _, err := t.p.Records.ChangeSession(ctx, account, session, func(rec *busv1.SessionRecord) error {
			now := t.p.Now()
			claimed = t.open(rec) && !t.busy(rec, now)
			if !claimed {
				return bus.ErrNoChange
			}
			t.begin(rec, now)
			return nil
		})
		if err != nil {
			return false, records.Unavailable(err)
		}
		if claimed {
			mine = rec
		}
		return claimed || !t.open(rec), nil
	})
	switch {
	case err != nil:
		return err
	case !settled:
		return ErrBusy
	case mine == nil:
		return nil
	}
	if err := t.Tell(ctx, mine); err != nil {
		if !axp.IsNotFound(err) {
			t.Later(ctx, mine)
		}
		return err
	}
	return nil
}

// Tell tells AXP what the record says is left to tell, for whoever has claimed
// it, and gives the claim back. Errors are those of Due.
func (t *Teller) Tell(ctx context.Context, rec *busv1.SessionRecord) error {
	client, err := t.p.Accounts.Client(rec.GetSession().GetAccount())
	if err != nil {
		return errors.Join(err, t.settle(ctx, rec, nil))
	}
	values := state.Unsent(rec)
	t.calls.Add(ctx, 1)
	_, err = client.UpdateSessionParameters(ctx, rec.GetSession().GetAxpSessionId(), values)
	if err != nil && !axp.IsNotFound(err) && !axp.IsCredentials(err) && !axp.Temporary(err) && axp.OutcomeOf(err) == axp.NotApplied {
		err = t.knownOnly(ctx, client, rec, values)
	}
	if err != nil {
		return errors.Join(err, t.settle(ctx, rec, nil))
	}
	return t.settle(ctx, rec, values)
}

// knownOnly is for AXP having refused for good: it is told the values of the
// keys that it has, which it takes by any reading of its limit.
func (t *Teller) knownOnly(ctx context.Context, client *axp.Client, rec *busv1.SessionRecord, values map[string]string) error {
	id := rec.GetSession().GetAxpSessionId()
	have, err := client.GetSession(ctx, id)
	if err != nil {
		return err
	}
	known := map[string]string{}
	for key, value := range values {
		if _, ok := have.SessionParameters[key]; ok {
			known[key] = value
		}
	}
	lost := len(values) - len(known)
	if len(known) > 0 {
		t.calls.Add(ctx, 1)
		if _, err := client.UpdateSessionParameters(ctx, id, known); err != nil {
			if axp.Temporary(err) || axp.IsNotFound(err) || axp.IsCredentials(err) {
				return err
			}
			lost = len(values) // there is nothing else to try
		}
	}
	t.refused.Add(ctx, int64(lost))
	t.p.Log.WarnContext(ctx, "AXP takes no more session parameters", "refused", lost, "told", len(values)-lost)
	return nil
}

// settle gives the claim back and notes what AXP has been told.
func (t *Teller) settle(ctx context.Context, rec *busv1.SessionRecord, told map[string]string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	begun := rec.GetFlushTime().AsTime()
	next, _, err := t.p.Records.ChangeSession(ctx, rec.GetSession().GetAccount(), rec.GetSession().GetSessionId(), func(r *busv1.SessionRecord) error {
		if !r.GetFlushTime().AsTime().Equal(begun) {
			return bus.ErrNoChange // it took so long that somebody else has taken over
		}
		r.Flushing = false
		state.NoteSent(r, told)
		return nil
	})
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil
	case err != nil:
		return records.Unavailable(err)
	case told != nil && t.open(next):
		t.Later(ctx, next) // set while AXP was being told
	}
	return nil
}
