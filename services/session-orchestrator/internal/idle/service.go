package idle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/session-orchestrator/internal/journal"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// Engagements is what the service needs of package engagements.
type Engagements interface {
	// Chats tells how a session's engagements stand.
	Chats(ctx context.Context, session *busv1.SessionRecord) (state.Chats, error)
	// AskEnd orders the end of an engagement, behind what was accepted before.
	AskEnd(ctx context.Context, ref records.Ref, reason axpchatv1.CloseReason) error
}

// Sessions is what the service needs of package sessions.
type Sessions interface {
	// Expire deletes a session unless still says otherwise.
	Expire(ctx context.Context, account, id string, still func(*busv1.SessionRecord) bool) error
}

// Params is what New needs; all of it is required.
type Params struct {
	Policy      *Policy
	Bus         *bus.Bus
	Records     *records.Records
	Journal     *journal.Journal
	Engagements Engagements
	Sessions    Sessions
	Log         *slog.Logger
	Meter       metric.Meter
	Now         func() time.Time
}

// Service notes what customers do and acts where they do nothing. It is safe for
// concurrent use.
type Service struct {
	p     Params
	steps metric.Int64Counter
}

// New makes the service.
func New(p Params) (*Service, error) {
	steps, err := p.Meter.Int64Counter("axpchat_idle_steps", metric.WithDescription("What was done because a customer did nothing: warn, reset, disconnect, expire."))
	if err != nil {
		return nil, err
	}
	return &Service{p: p, steps: steps}, nil
}

func (s *Service) count(ctx context.Context, step string) {
	s.steps.Add(ctx, 1, metric.WithAttributes(attribute.String("step", step)))
}

// KeepAlive notes that the customer is there.
func (s *Service) KeepAlive(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.KeepAliveRequest) (*axpchatv1.KeepAliveResponse, error) {
	rec, _, err := s.p.Records.OpenSession(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	rec, err = s.touch(ctx, caller.GetAccount(), rec.GetSession().GetSessionId())
	if err != nil {
		return nil, records.Unavailable(err)
	}
	for _, joined := range rec.GetJoined() { // he is there for those chats as well
		if ref, ok := records.ParseJoined(caller.GetAccount(), joined); ok {
			s.Touch(ctx, ref.Account, ref.Session)
		}
	}
	out := &axpchatv1.KeepAliveResponse{}
	if idle := rec.GetSession().GetIdleRules().GetIdleTimeout().AsDuration(); idle > 0 {
		out.ExpireTime = timestamppb.New(state.LastActive(rec).Add(idle))
	}
	return out, nil
}

// Touch notes that the customer did something in a session. What he did is not
// worth failing for, so an error is only logged.
func (s *Service) Touch(ctx context.Context, account, session string) {
	if _, err := s.touch(ctx, account, session); err != nil && !errors.Is(err, bus.ErrNotFound) {
		s.p.Log.WarnContext(ctx, "an act of a customer could not be noted", "error", err)
	}
}

func (s *Service) touch(ctx context.Context, account, session string) (*busv1.SessionRecord, error) {
	var warned *timestamppb.Timestamp
	rec, _, err := s.p.Records.ChangeSession(ctx, account, session, func(rec *busv1.SessionRecord) error {
		s.p.Policy.fill(rec)
		warned = rec.GetIdleWarnTime()
		if _, changed := state.Touch(rec, s.p.Now()); !changed || state.Closed(rec.GetSession().GetStatus()) {
			return bus.ErrNoChange
		}
		return nil
	})
	if err != nil || warned == nil || state.Closed(rec.GetSession().GetStatus()) {
		return rec, err
	}
	chats, err := s.p.Engagements.Chats(ctx, rec)
	if err == nil && chats.Open != "" {
		err = s.p.Journal.IdleReset(ctx, rec, chats.Open, warned.AsTime())
		s.count(ctx, "reset")
	}
	if err != nil { // other devices show the warning until its time is over
		s.p.Log.WarnContext(ctx, "the end of a warning could not be told", "error", err)
	}
	return rec, nil
}

// Due looks at a session whose timer has come due. It is safe to repeat, and to
// be called at the wrong time.
func (s *Service) Due(ctx context.Context, account, session string) error {
	rec, chats, err := s.read(ctx, account, session)
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if rec.GetSession().GetStatus() == axpchatv1.SessionStatus_SESSION_STATUS_CLOSING {
		return s.p.Sessions.Expire(ctx, account, session, nil) // whoever began has stopped
	}
	step, at := state.Idle(rec, chats, s.p.Now())
	if step == state.IdleWarn || step == state.IdleDisconnect && rec.GetIdleWarnTime() == nil {
		if chats.LastAgent, err = s.lastAgent(ctx, account, session, chats.Open); err != nil {
			return records.Unavailable(err)
		}
		step, at = state.Idle(rec, chats, s.p.Now())
	}
	switch step {
	case state.IdleWarn:
		return s.warn(ctx, rec, chats)
	case state.IdleDisconnect:
		return s.disconnect(ctx, rec, chats)
	case state.IdleExpire:
		return s.expire(ctx, rec, chats)
	default:
		return s.p.Policy.set(ctx, rec, at)
	}
}

func (s *Service) read(ctx context.Context, account, session string) (*busv1.SessionRecord, state.Chats, error) {
	rec, _, err := s.p.Bus.Sessions.Get(ctx, bus.SessionKeyOf(account, session))
	if err != nil {
		return nil, state.Chats{}, err
	}
	s.p.Policy.fill(rec)
	chats, err := s.p.Engagements.Chats(ctx, rec)
	return rec, chats, err
}

func (s *Service) lastAgent(ctx context.Context, account, session, engagement string) (time.Time, error) {
	if !s.p.Policy.config.Load().AgentExtends {
		return time.Time{}, nil
	}
	return s.p.Journal.LastAgent(ctx, account, session, engagement)
}

// warn tells the customer, and then notes that it did: after a crash in between
// the same event is told again, and the time of disconnecting is later than told,
// never earlier. An act of the customer in between voids the warning.
func (s *Service) warn(ctx context.Context, rec *busv1.SessionRecord, chats state.Chats) error {
	now, grace := s.p.Now(), rec.GetSession().GetIdleRules().GetGracePeriod().AsDuration()
	since := state.LastActive(rec)
	if chats.LastAgent.After(since) {
		since = chats.LastAgent
	}
	if err := s.p.Journal.IdleExpired(ctx, rec, chats.Open, since, now.Add(grace)); err != nil {
		return records.Unavailable(err)
	}
	next, warned, err := s.p.Records.ChangeSession(ctx, rec.GetSession().GetAccount(), rec.GetSession().GetSessionId(), func(r *busv1.SessionRecord) error {
		s.p.Policy.fill(r)
		if step, _ := state.Idle(r, chats, now); step != state.IdleWarn {
			return bus.ErrNoChange
		}
		r.IdleWarnTime = timestamppb.New(now)
		return nil
	})
	if err != nil {
		return records.Unavailable(err)
	}
	if warned {
		s.count(ctx, "warn")
	} else if next.GetIdleWarnTime() == nil { // else another replica was faster
		if err := s.p.Journal.IdleReset(ctx, rec, chats.Open, now); err != nil {
			return records.Unavailable(err)
		}
	}
	_, at := state.Idle(next, chats, s.p.Now())
	return s.p.Policy.set(ctx, next, at)
}

// disconnect ends the chat behind what the customer has sent. An act of the
// customer at this very moment comes too late.
func (s *Service) disconnect(ctx context.Context, rec *busv1.SessionRecord, chats state.Chats) error {
	account, session := rec.GetSession().GetAccount(), rec.GetSession().GetSessionId()
	err := s.p.Engagements.AskEnd(ctx, records.Ref{Account: account, Session: session, Engagement: chats.Open},
		axpchatv1.CloseReason_CLOSE_REASON_USER_INACTIVE)
	if err != nil {
		return err
	}
	s.count(ctx, "disconnect")
	s.p.Log.InfoContext(ctx, "a chat of an idle customer is disconnected", "account", account, "engagement", chats.Open)
	ttl := rec.GetSession().GetIdleRules().GetSessionTtl().AsDuration()
	if ttl == 0 {
		return nil
	}
	return s.p.Policy.set(ctx, rec, s.p.Now().Add(ttl))
}

// expire deletes the session unless a client follows it.
func (s *Service) expire(ctx context.Context, rec *busv1.SessionRecord, chats state.Chats) error {
	account, session := rec.GetSession().GetAccount(), rec.GetSession().GetSessionId()
	here, err := s.p.Bus.Present(ctx, account, session)
	if err != nil {
		return fmt.Errorf("ask whether a client is there: %w", err)
	}
	if here {
		next, _, err := s.p.Records.ChangeSession(ctx, account, session, func(r *busv1.SessionRecord) error {
			s.p.Policy.fill(r)
			r.PresenceTime = timestamppb.New(s.p.Now())
			return nil
		})
		if err != nil {
			return records.Unavailable(err)
		}
		_, at := state.Idle(next, chats, s.p.Now())
		return s.p.Policy.set(ctx, next, at)
	}
	expired := false
	err = s.p.Sessions.Expire(ctx, account, session, func(r *busv1.SessionRecord) bool {
		s.p.Policy.fill(r)
		step, _ := state.Idle(r, chats, s.p.Now())
		expired = step == state.IdleExpire && len(r.GetEngagementIds()) == len(rec.GetEngagementIds())
		return expired
	})
	if err != nil {
		return err
	}
	if !expired {
		return s.p.Policy.set(ctx, rec, s.p.Now()) // something has happened; look again
	}
	s.count(ctx, "expire")
	return nil
}
