package records

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/journal"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// changeAttempts bounds a compare-and-set loop: losing that often is a fault.
const changeAttempts = 50

// Records reads and changes records. It is safe for concurrent use.
type Records struct {
	bus     *bus.Bus
	journal *journal.Journal
}

// New makes Records over the bus.
func New(b *bus.Bus, j *journal.Journal) *Records { return &Records{bus: b, journal: j} }

// Ref names an engagement.
type Ref struct {
	Account, Session, Engagement string
}

// Key is the engagement's key in its bucket.
func (r Ref) Key() string { return bus.EngagementKey(r.Account, r.Session, r.Engagement) }

// RefOf names the engagement of a record.
func RefOf(rec *busv1.EngagementRecord) Ref {
	return Ref{rec.GetAccount(), rec.GetEngagement().GetSessionId(), rec.GetEngagement().GetEngagementId()}
}

// Joined is how a session's record names an engagement of another session.
func (r Ref) Joined() string { return r.Session + "." + r.Engagement }

// ParseJoined reads what Joined has made.
func ParseJoined(account, joined string) (Ref, bool) {
	session, engagement, ok := strings.Cut(joined, ".")
	return Ref{account, session, engagement}, ok
}

// Session reads a session of the caller's with its revision. One that belongs
// to somebody else (bus.OwnedBy) is not told apart from one that is not there.
func (r *Records) Session(ctx context.Context, caller *orchestratorv1.Caller, id string) (*busv1.SessionRecord, uint64, error) {
	notFound := errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, "there is no such session")
	if !bus.ValidToken(id) || !bus.ValidToken(caller.GetAccount()) {
		return nil, 0, notFound
	}
	rec, rev, err := r.bus.Sessions.Get(ctx, bus.SessionKeyOf(caller.GetAccount(), id))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil, 0, notFound
	case err != nil:
		return nil, 0, Unavailable(err)
	case !bus.OwnedBy(rec, caller.GetSubject(), caller.GetAnonymous()) || rec.GetSession() == nil:
		return nil, 0, notFound
	}
	return rec, rev, nil
}

// OpenSession is Session for commands: the session must be ready for them.
func (r *Records) OpenSession(ctx context.Context, caller *orchestratorv1.Caller, id string) (*busv1.SessionRecord, uint64, error) {
	rec, rev, err := r.Session(ctx, caller, id)
	if err != nil {
		return nil, 0, err
	}
	switch s := rec.GetSession().GetStatus(); {
	case state.Closed(s):
		return nil, 0, errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED, "the session is closed; create a new one")
	case s == axpchatv1.SessionStatus_SESSION_STATUS_CREATING:
		return nil, 0, errs.New(axpchatv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS, "the session is still being created")
	}
	return rec, rev, nil
}

// Engagement reads an engagement that the session started or joined.
func (r *Records) Engagement(ctx context.Context, session *busv1.SessionRecord, id string) (*busv1.EngagementRecord, error) {
	s := session.GetSession()
	rec, _, err := r.Get(ctx, Ref{s.GetAccount(), s.GetSessionId(), id})
	if !errors.Is(err, bus.ErrNotFound) {
		return rec, unavailable(err)
	}
	for _, joined := range session.GetJoined() {
		ref, ok := ParseJoined(s.GetAccount(), joined)
		if !ok || ref.Engagement != id {
			continue
		}
		rec, _, err = r.Get(ctx, ref)
		if !errors.Is(err, bus.ErrNotFound) {
			return rec, unavailable(err)
		}
	}
	return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_NOT_FOUND, "the session has no such engagement")
}

// Get reads an engagement's record; bus.ErrNotFound where there is none. Where
// the journal has not been told of a turn yet, it is told first: whoever reads a
// turn may act on it, and what comes of that must stand behind it.
func (r *Records) Get(ctx context.Context, ref Ref) (*busv1.EngagementRecord, uint64, error) {
	if !bus.ValidToken(ref.Account) || !bus.ValidToken(ref.Session) || !bus.ValidToken(ref.Engagement) {
		return nil, 0, bus.ErrNotFound
	}
	rec, rev, err := r.bus.Engagements.Get(ctx, ref.Key())
	if err != nil {
		return nil, 0, err
	}
	return r.settle(ctx, ref, rec, rev)
}

// Change lets f change an engagement's record, stores it and tells of the turn
// that this makes in its life; all of it again where somebody else was faster. f
// may run several times. The record as it then is is returned; bus.ErrNotFound
// where there is none.
//
// A turn is stored together with the mark that it is to be told, and told then:
// were it told first, one who lost the race for the record could tell that the
// chat is active after the winner has told its end. What a crash keeps back is
// told by whoever reads the record next.
func (r *Records) Change(ctx context.Context, ref Ref, f func(*busv1.EngagementRecord) error) (*busv1.EngagementRecord, error) {
	for range changeAttempts {
		have, rev, err := r.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		next := proto.CloneOf(have)
		if err := f(next); err != nil {
			return nil, err
		}
		if proto.Equal(have, next) {
			return have, nil
		}
		r.mark(have, next)
		rev, err = r.bus.Engagements.Update(ctx, ref.Key(), next, rev)
		if err == nil {
			next, _, err = r.settle(ctx, ref, next, rev)
			return next, err
		}
		if !errors.Is(err, bus.ErrConflict) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("engagement: %w %d times in a row", bus.ErrConflict, changeAttempts)
}

// mark notes which turn is to be told.
func (r *Records) mark(have, next *busv1.EngagementRecord) {
	was, is := have.GetEngagement().GetStatus(), next.GetEngagement().GetStatus()
	switch {
	case was == is:
	case is == axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ACTIVE:
		next.UntoldActiveTime = timestamppb.New(r.journal.Now())
	case state.Over(is) && !state.Over(was):
		next.UntoldEndTime = timestamppb.New(r.journal.Now())
	}
}

// settle tells of the turn that is marked and takes the mark away. Where somebody
// else has changed the record meanwhile, he has told of it as well: the record is
// returned as it was read, and its revision is as old.
func (r *Records) settle(ctx context.Context, ref Ref, rec *busv1.EngagementRecord, rev uint64) (*busv1.EngagementRecord, uint64, error) {
	if !state.Untold(rec) {
		return rec, rev, nil
	}
	if rec.GetUntoldActiveTime() != nil {
		if err := r.journal.Active(ctx, rec); err != nil {
			return nil, 0, err
		}
	}
	if rec.GetUntoldEndTime() != nil {
		if err := r.journal.Terminated(ctx, rec); err != nil {
			return nil, 0, err
		}
	}
	rec.UntoldActiveTime, rec.UntoldEndTime = nil, nil
	next, err := r.bus.Engagements.Update(ctx, ref.Key(), rec, rev)
	if errors.Is(err, bus.ErrConflict) {
		return rec, rev, nil
	}
	if err != nil {
		return nil, 0, err
	}
	return rec, next, nil
}

// ChangeSession lets f change a session's record. f may run several times, and
// returns bus.ErrNoChange to leave it as it is. The record as it then is is
// returned, with whether it was changed.
func (r *Records) ChangeSession(ctx context.Context, account, id string, f func(*busv1.SessionRecord) error) (*busv1.SessionRecord, bool, error) {
	changed := false
	rec, err := r.bus.Sessions.Modify(ctx, bus.SessionKeyOf(account, id), func(rec *busv1.SessionRecord) error {
		err := f(rec)
		changed = err == nil
		return err
	})
	return rec, changed, err
}

// Unavailable is the answer where NATS could not be read or written.
func Unavailable(err error) error {
	if _, ok := errors.AsType[*errs.Error](err); ok {
		return err
	}
	if errors.Is(err, bus.ErrErased) {
		return errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, "there is no such session").WithCause(err)
	}
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "the connector's store can't be reached").WithCause(err)
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return Unavailable(err)
}
