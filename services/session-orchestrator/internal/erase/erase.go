package erase

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
)

const (
	// settle is how long what is under way elsewhere is given to be stored before
	// it is looked for.
	settle = time.Second
	// rounds bounds how often what keeps coming is erased again by one call.
	rounds = 5
	// resumeAfter is when an order counts as left behind by a crash.
	resumeAfter = 2 * time.Minute
	// checkAfter is when it is looked once more: by then every call to AXP and
	// every publish that was under way has ended.
	checkAfter = 10 * time.Minute
	// maxSessions bounds what one order to erase a customer carries out.
	maxSessions = 1000
)

// Sessions is what the eraser needs of package sessions.
type Sessions interface {
	// Shut ends a session, in AXP as well; nil where it is over or not there.
	Shut(ctx context.Context, account, id string) error
}

// Params is what New needs; all of it is required.
type Params struct {
	Bus      *bus.Bus
	Sessions Sessions
	Log      *slog.Logger
	Meter    metric.Meter
	Now      func() time.Time
}

// Eraser carries out orders to erase. It is safe for concurrent use, also by
// several replicas for the same session.
type Eraser struct {
	p     Params
	steps metric.Int64Counter
	late  metric.Int64Counter
	// seen is how far what was set aside has been looked through, by account. Only
	// Sweep uses it.
	seen map[string]uint64
}

// New makes an eraser.
func New(p Params) (*Eraser, error) {
	steps, err := p.Meter.Int64Counter("axpchat_erasures",
		metric.WithDescription("Times that the erasure of a session was carried out, by outcome."))
	if err != nil {
		return nil, err
	}
	late, err := p.Meter.Int64Counter("axpchat_erased_callbacks",
		metric.WithDescription("Callbacks of erased sessions that had been set aside, and were removed."))
	if err != nil {
		return nil, err
	}
	return &Eraser{p: p, steps: steps, late: late, seen: map[string]uint64{}}, nil
}

// Proof is what was erased of a session, and what was found after that.
type Proof struct {
	Record *busv1.ErasureRecord
	// Left is by kind; empty: nothing was found.
	Left map[string]int64
	// Pending is why it is not done; nil: it is.
	Pending error
}

// Session erases a session. It fails with SESSION_NOT_FOUND where nothing is
// known of it, and otherwise returns a proof: where that says that it is not done,
// the reaper goes on.
func (e *Eraser) Session(ctx context.Context, account, session string, force bool) (Proof, error) {
	if !bus.ValidToken(account) || !bus.ValidToken(session) {
		return Proof{}, notFound()
	}
	_, _, err := e.p.Bus.Erasures.Get(ctx, bus.ErasedKey(account, session))
	if errors.Is(err, bus.ErrNotFound) {
		known, lookErr := e.known(ctx, account, session)
		switch {
		case lookErr != nil:
			return Proof{}, records.Unavailable(lookErr)
		case !known:
			return Proof{}, notFound()
		}
	} else if err != nil {
		return Proof{}, records.Unavailable(err)
	}
	if err := e.order(ctx, account, session, force); err != nil {
		return Proof{}, records.Unavailable(err)
	}
	return e.carryOut(ctx, account, session), nil
}

func notFound() error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, "nothing is kept of such a session")
}

// known tells whether there is anything of a session.
func (e *Eraser) known(ctx context.Context, account, session string) (bool, error) {
	left, err := e.left(ctx, account, session)
	return len(left) > 0, err
}

// order stores the tombstone. From then on the erasure is carried out, whatever
// becomes of this process.
func (e *Eraser) order(ctx context.Context, account, session string, force bool) error {
	key := bus.ErasedKey(account, session)
	_, err := e.p.Bus.Erasures.Create(ctx, key, &busv1.ErasureRecord{
		Account: account, SessionId: session, State: busv1.ErasureState_ERASURE_STATE_CLOSING, Force: force,
		OrderTime: timestamppb.New(e.p.Now()),
	})
	if !errors.Is(err, bus.ErrExists) {
		return err
	}
	_, err = e.p.Bus.Erasures.Modify(ctx, key, func(r *busv1.ErasureRecord) error {
		if !force || r.GetForce() {
			return bus.ErrNoChange
		}
		r.Force = true
		return nil
	})
	return err
}

// carryOut goes on with an erasure that was ordered.
func (e *Eraser) carryOut(ctx context.Context, account, session string) Proof {
	p := Proof{Record: &busv1.ErasureRecord{Account: account, SessionId: session}}
	p.Pending = e.close(ctx, &p)
	if p.Pending == nil {
		p.Pending = e.sweep(ctx, &p)
	}
	outcome := "done"
	if p.Pending != nil {
		outcome = "pending"
		e.p.Log.WarnContext(ctx, "a session is not erased yet; it is tried again", "account", account, "session", session, "error", p.Pending)
	} else {
		e.p.Log.InfoContext(ctx, "a session was erased", "account", account, "session", session, "erased", p.Record.GetErased())
	}
	e.steps.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", outcome)))
	return p
}

// close ends what is open and has nothing stored of the session any more.
func (e *Eraser) close(ctx context.Context, p *Proof) error {
	key := bus.ErasedKey(p.Record.GetAccount(), p.Record.GetSessionId())
	rec, _, err := e.p.Bus.Erasures.Get(ctx, key)
	if err != nil {
		return err
	}
	p.Record = rec
	if rec.GetState() != busv1.ErasureState_ERASURE_STATE_CLOSING {
		return nil
	}
	shut := e.p.Sessions.Shut(ctx, rec.GetAccount(), rec.GetSessionId())
	if shut != nil && !rec.GetForce() {
		return shut
	}
	rec, err = e.p.Bus.Erasures.Modify(ctx, key, func(r *busv1.ErasureRecord) error {
		if r.GetState() != busv1.ErasureState_ERASURE_STATE_CLOSING {
			return bus.ErrNoChange
		}
		r.State, r.EndedInAxp = busv1.ErasureState_ERASURE_STATE_ERASING, shut == nil
		return nil
	})
	if err != nil {
		return err
	}
	p.Record = rec
	return nil
}

// errLeft is why an erasure is not done that something was found after.
var errLeft = errors.New("erase: something of the session keeps being stored")

// sweep erases until nothing is found a moment later.
func (e *Eraser) sweep(ctx context.Context, p *Proof) error {
	account, session := p.Record.GetAccount(), p.Record.GetSessionId()
	for range rounds {
		gone, err := e.purge(ctx, account, session)
		if noteErr := e.note(ctx, p, gone); noteErr != nil {
			return errors.Join(err, noteErr)
		}
		if err != nil {
			return err
		}
		if err := patience.Pause(ctx, settle, nil); err != nil {
			return err
		}
		if p.Left, err = e.left(ctx, account, session); err != nil {
			return err
		}
		if len(p.Left) == 0 {
			return e.done(ctx, p)
		}
	}
	return errLeft
}

// note adds to the tombstone what was erased.
func (e *Eraser) note(ctx context.Context, p *Proof, gone map[string]int64) error {
	if len(gone) == 0 {
		return nil
	}
	rec, err := e.p.Bus.Erasures.Modify(ctx, bus.ErasedKey(p.Record.GetAccount(), p.Record.GetSessionId()), func(r *busv1.ErasureRecord) error {
		if r.Erased == nil {
			r.Erased = map[string]int64{}
		}
		for kind, n := range gone {
			r.Erased[kind] += n
		}
		return nil
	})
	if err == nil {
		p.Record = rec
	}
	return err
}

func (e *Eraser) done(ctx context.Context, p *Proof) error {
	rec, err := e.p.Bus.Erasures.Modify(ctx, bus.ErasedKey(p.Record.GetAccount(), p.Record.GetSessionId()), func(r *busv1.ErasureRecord) error {
		switch now := e.p.Now(); {
		case r.GetState() == busv1.ErasureState_ERASURE_STATE_ERASING:
			r.State, r.DoneTime = busv1.ErasureState_ERASURE_STATE_DONE, timestamppb.New(now)
		case r.GetState() == busv1.ErasureState_ERASURE_STATE_DONE && now.Sub(r.GetDoneTime().AsTime()) >= checkAfter:
			r.State = busv1.ErasureState_ERASURE_STATE_CHECKED
		default:
			return bus.ErrNoChange
		}
		return nil
	})
	if err == nil {
		p.Record = rec
	}
	return err
}

// Customer erases every session that a customer has begun. The proofs are those of
// the sessions; all tells whether none is left. An order that could not be carried
// out to its end is left to the reaper.
func (e *Eraser) Customer(ctx context.Context, account, subject string, force bool) (proofs []Proof, all bool, err error) {
	key := bus.ErasingKey(account, subject)
	_, err = e.p.Bus.Erasures.Create(ctx, key, &busv1.ErasureRecord{
		Account: account, Subject: subject, Force: force, State: busv1.ErasureState_ERASURE_STATE_CLOSING, OrderTime: timestamppb.New(e.p.Now()),
	})
	if errors.Is(err, bus.ErrExists) {
		_, err = e.p.Bus.Erasures.Modify(ctx, key, func(r *busv1.ErasureRecord) error {
			// What the customer has begun since the first order belongs to this one.
			r.Force, r.OrderTime = r.GetForce() || force, timestamppb.New(e.p.Now())
			return nil
		})
	}
	if err != nil {
		return nil, false, records.Unavailable(err)
	}
	return e.customer(ctx, key)
}

// customer carries out an order to erase a customer.
func (e *Eraser) customer(ctx context.Context, key string) (proofs []Proof, all bool, err error) {
	order, _, err := e.p.Bus.Erasures.Get(ctx, key)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, true, nil // somebody else has
	}
	if err != nil {
		return nil, false, records.Unavailable(err)
	}
	sessions, err := e.sessionsOf(ctx, order)
	if err != nil {
		return nil, false, records.Unavailable(err)
	}
	all = len(sessions) <= maxSessions
	sessions = sessions[:min(len(sessions), maxSessions)]
	for _, id := range sessions { // first of all: then they are erased, come what may
		if err := e.order(ctx, order.GetAccount(), id, order.GetForce()); err != nil {
			return nil, false, records.Unavailable(err)
		}
	}
	for _, id := range sessions {
		p := e.carryOut(ctx, order.GetAccount(), id)
		proofs, all = append(proofs, p), all && p.Pending == nil
	}
	if !all {
		return proofs, false, nil
	}
	if _, err := e.p.Bus.Erasures.Erase(ctx, key); err != nil {
		return proofs, false, records.Unavailable(err)
	}
	return proofs, true, nil
}

// sessionsOf looks through all sessions of the account: nothing leads from a
// customer to his sessions but their records, which are worth that for something
// as rare as this.
func (e *Eraser) sessionsOf(ctx context.Context, order *busv1.ErasureRecord) ([]string, error) {
	var ids []string
	err := e.p.Bus.Sessions.ScanOf(ctx, order.GetAccount()+".*", func(_ string, rec *busv1.SessionRecord, _ time.Time) {
		s := rec.GetSession()
		if rec.GetSubject() == order.GetSubject() && !s.GetCreateTime().AsTime().After(order.GetOrderTime().AsTime()) {
			ids = append(ids, s.GetSessionId())
		}
	})
	return ids, err
}

// Sweep goes on with what a crash, or an AXP that was down, has left undone, and
// looks once more at what was erased a while ago. mine tells which sessions are
// this replica's to look after. What fails is logged and found again. One call at a
// time.
func (e *Eraser) Sweep(ctx context.Context, mine func(session string) bool) error {
	var again []*busv1.ErasureRecord
	accounts := map[string]bool{}
	err := e.p.Bus.Erasures.ScanOf(ctx, bus.ErasedSessions, func(_ string, rec *busv1.ErasureRecord, _ time.Time) {
		if mine(rec.GetSessionId()) && e.due(rec) {
			again = append(again, rec)
		}
		accounts[rec.GetAccount()] = accounts[rec.GetAccount()] || mine(rec.GetAccount())
	})
	if err != nil {
		return err
	}
	var customers []string
	err = e.p.Bus.Erasures.ScanOf(ctx, bus.ErasingCustomers, func(key string, rec *busv1.ErasureRecord, _ time.Time) {
		if mine(key) && e.p.Now().Sub(rec.GetOrderTime().AsTime()) >= resumeAfter {
			customers = append(customers, key)
		}
	})
	if err != nil {
		return err
	}
	for _, rec := range again {
		e.carryOut(ctx, rec.GetAccount(), rec.GetSessionId())
	}
	for _, key := range customers {
		if _, _, err := e.customer(ctx, key); err != nil {
			e.p.Log.WarnContext(ctx, "a customer could not be erased; it is tried again", "error", err)
		}
	}
	for account, ours := range accounts {
		if !ours {
			continue
		}
		if err := e.setAside(ctx, account); err != nil {
			e.p.Log.WarnContext(ctx, "what was set aside could not be looked through; it is tried again", "account", account, "error", err)
		}
	}
	return ctx.Err()
}

// due tells whether an erasure is to be gone on with, or to be looked at again.
func (e *Eraser) due(rec *busv1.ErasureRecord) bool {
	switch rec.GetState() {
	case busv1.ErasureState_ERASURE_STATE_CHECKED:
		return false
	case busv1.ErasureState_ERASURE_STATE_DONE:
		return e.p.Now().Sub(rec.GetDoneTime().AsTime()) >= checkAfter
	default:
		return e.p.Now().Sub(rec.GetOrderTime().AsTime()) >= resumeAfter
	}
}

// sum adds up what was found by kind, without the kinds that nothing was found of.
func sum(kinds map[string]int64) map[string]int64 {
	out := maps.Clone(kinds)
	maps.DeleteFunc(out, func(_ string, n int64) bool { return n == 0 })
	return out
}
