package sessions

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/journal"
	"github.com/axpchat/connector/services/session-orchestrator/internal/parameters"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// Ender ends the engagements of a session that is about to be closed.
type Ender interface {
	// EndAll sends what was accepted, disconnects and returns when nothing of
	// the session is open in AXP any more.
	EndAll(ctx context.Context, session *busv1.SessionRecord, reason axpchatv1.CloseReason) error
	// AllGone notes that AXP knows none of the session's engagements any more.
	AllGone(ctx context.Context, session *busv1.SessionRecord) error
}

// Policy says what becomes of customers who do nothing.
type Policy interface {
	// Rules are what a new session of an account is told.
	Rules(account string) *axpchatv1.IdleRules
	// Arm has a session looked at when its rules ask for it.
	Arm(ctx context.Context, rec *busv1.SessionRecord, chats state.Chats)
}

// Params is what New needs; all of it is required.
type Params struct {
	Bus        *bus.Bus
	Records    *records.Records
	Journal    *journal.Journal
	Accounts   *accounts.Registry
	Ender      Ender
	Parameters *parameters.Teller
	Policy     Policy
	Log        *slog.Logger
	Meter      metric.Meter
	Now        func() time.Time
}

// Service carries out commands on sessions. It is safe for concurrent use.
type Service struct {
	bus      *bus.Bus
	records  *records.Records
	journal  *journal.Journal
	accounts *accounts.Registry
	ender    Ender
	teller   *parameters.Teller
	policy   Policy
	log      *slog.Logger
	now      func() time.Time
	orphans  metric.Int64Counter
}

// New makes the service.
func New(p Params) (*Service, error) {
	orphans, err := p.Meter.Int64Counter("axpchat_orphan_sessions",
		metric.WithDescription("AXP sessions that may have been made without anybody using them."))
	if err != nil {
		return nil, err
	}
	return &Service{
		bus: p.Bus, records: p.Records, journal: p.Journal, accounts: p.Accounts,
		ender: p.Ender, teller: p.Parameters, policy: p.Policy, log: p.Log, now: p.Now, orphans: orphans,
	}, nil
}

// Get reads a session, also one that is closed.
func (s *Service) Get(ctx context.Context, caller *orchestratorv1.Caller, id string) (*axpchatv1.Session, error) {
	rec, _, err := s.records.Session(ctx, caller, id)
	if err != nil {
		return nil, err
	}
	return rec.GetSession(), nil
}

// UpdateParameters sets session parameters key by key. They are durable when it
// returns; AXP is told at once or when the interval is over (package
// parameters). That AXP can't be reached is not the caller's trouble.
func (s *Service) UpdateParameters(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.UpdateSessionParametersRequest) (*axpchatv1.Session, error) {
	rec, _, err := s.records.OpenSession(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	if _, err := s.accounts.Client(caller.GetAccount()); err != nil {
		return nil, err
	}
	ctx, cancel := patience.Detach(ctx)
	defer cancel()
	var news, claimed, waiting bool
	rec, _, err = s.records.ChangeSession(ctx, caller.GetAccount(), rec.GetSession().GetSessionId(), func(rec *busv1.SessionRecord) error {
		if state.Closed(rec.GetSession().GetStatus()) {
			return errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED, "the session is closed; create a new one")
		}
		waiting = len(rec.GetUnsentParameters()) > 0
		before := proto.CloneOf(rec)
		news = state.SetParameters(rec, req.GetSessionParameters())
		if news {
			rec.Session.UpdateTime = timestamppb.New(s.now())
		}
		claimed = news && s.teller.Claim(rec)
		if proto.Equal(before, rec) {
			return bus.ErrNoChange
		}
		return nil
	})
	if err != nil {
		return nil, records.Unavailable(err)
	}
	if news {
		s.told(ctx, rec)
	}
	switch {
	case claimed:
		if err := s.teller.Tell(ctx, rec); axp.IsNotFound(err) {
			return nil, s.orGone(ctx, rec, err)
		} else if err != nil {
			s.log.WarnContext(ctx, "AXP can't be told of session parameters now; it is tried again", "error", err)
			s.teller.Later(ctx, rec)
		}
	case news && !waiting: // else somebody has set the timer, or is telling
		s.teller.Later(ctx, rec)
	}
	return rec.GetSession(), nil
}

// TellParameters tells AXP what is left to tell of a session's parameters, when
// the interval is over.
func (s *Service) TellParameters(ctx context.Context, account, id string) error {
	ctx, cancel := patience.Detach(ctx)
	defer cancel()
	err := s.teller.Due(ctx, account, id)
	if !axp.IsNotFound(err) {
		return err
	}
	rec, _, err := s.bus.Sessions.Get(ctx, bus.SessionKeyOf(account, id))
	if err != nil {
		return records.Unavailable(err)
	}
	return s.Gone(ctx, rec)
}

// change stores a change and tells the session's clients of it.
func (s *Service) change(ctx context.Context, rec *busv1.SessionRecord, f func(*busv1.SessionRecord) error) (*axpchatv1.Session, error) {
	account, id := rec.GetSession().GetAccount(), rec.GetSession().GetSessionId()
	next, changed, err := s.records.ChangeSession(ctx, account, id, func(rec *busv1.SessionRecord) error {
		before := proto.CloneOf(rec)
		if err := f(rec); err != nil {
			return err
		}
		if proto.Equal(before, rec) {
			return bus.ErrNoChange
		}
		rec.Session.UpdateTime = timestamppb.New(s.now())
		return nil
	})
	if err != nil {
		return nil, records.Unavailable(err)
	}
	if changed {
		s.told(ctx, next)
	}
	return next.GetSession(), nil
}

// told tells the session's clients of a change. The instant of the change makes
// the event's id. A crash before it costs other devices the news, not the change.
func (s *Service) told(ctx context.Context, rec *busv1.SessionRecord) {
	if err := s.journal.SessionChanged(ctx, rec, uint64(rec.GetSession().GetUpdateTime().AsTime().UnixNano())); err != nil {
		s.log.WarnContext(ctx, "a change of a session could not be told", "error", err)
	}
}

// orGone closes the session where err says that AXP does not know it any more,
// and makes an answer of err.
func (s *Service) orGone(ctx context.Context, rec *busv1.SessionRecord, err error) error {
	if !axp.IsNotFound(err) {
		return err
	}
	if err := s.Gone(ctx, rec); err != nil {
		return err
	}
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED, "AXP has ended the session; create a new one").WithCause(err)
}

// OrGone makes an answer of the error of a command in a session: where AXP
// turns out to know the session no more, the session is closed and the error
// says so.
func (s *Service) OrGone(ctx context.Context, caller *orchestratorv1.Caller, id string, err error) error {
	if !axp.IsNotFound(err) {
		return err
	}
	rec, _, readErr := s.records.Session(ctx, caller, id)
	if readErr != nil {
		return readErr
	}
	return s.orGone(ctx, rec, err)
}

// Gone closes a session that AXP does not know any more, with all that is in it.
func (s *Service) Gone(ctx context.Context, rec *busv1.SessionRecord) error {
	if err := s.ender.AllGone(ctx, rec); err != nil {
		return err
	}
	_, err := s.close(ctx, rec, axpchatv1.CloseReason_CLOSE_REASON_UNKNOWN)
	return err
}

// close marks the session CLOSED. The event comes first: see package records.
func (s *Service) close(ctx context.Context, rec *busv1.SessionRecord, reason axpchatv1.CloseReason) (*axpchatv1.Session, error) {
	key := bus.SessionKeyOf(rec.GetSession().GetAccount(), rec.GetSession().GetSessionId())
	for {
		have, rev, err := s.bus.Sessions.Get(ctx, key)
		if err != nil {
			return nil, records.Unavailable(err)
		}
		if have.GetSession().GetStatus() == axpchatv1.SessionStatus_SESSION_STATUS_CLOSED {
			return have.GetSession(), nil
		}
		have.Session.Status = axpchatv1.SessionStatus_SESSION_STATUS_CLOSED
		have.Session.UpdateTime = timestamppb.New(s.now())
		if have.GetSession().GetCloseReason() == axpchatv1.CloseReason_CLOSE_REASON_UNSPECIFIED {
			have.Session.CloseReason = reason
		}
		if err := s.journal.SessionClosed(ctx, have); err != nil {
			return nil, records.Unavailable(err)
		}
		_, err = s.bus.Sessions.Update(ctx, key, have, rev)
		if err == nil {
			return have.GetSession(), nil
		}
		if !errors.Is(err, bus.ErrConflict) {
			return nil, records.Unavailable(err)
		}
	}
}
