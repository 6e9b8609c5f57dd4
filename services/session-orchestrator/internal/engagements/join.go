package engagements

import (
	"context"
	"slices"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// Join brings a session into an engagement that another session of the same
// customer has started. It is safe to repeat.
func (s *Service) Join(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.JoinEngagementRequest) (*axpchatv1.Engagement, error) {
	session, _, err := s.records.OpenSession(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	owner, _, err := s.records.Session(ctx, caller, req.GetOwnerSessionId())
	if err != nil {
		return nil, err
	}
	rec, err := s.records.Engagement(ctx, owner, req.GetEngagementId())
	if err != nil {
		return nil, err
	}
	if rec.GetEngagement().GetSessionId() == req.GetSessionId() {
		return rec.GetEngagement(), nil // it is the session's own
	}
	switch status := rec.GetEngagement().GetStatus(); {
	case !state.TakesMessages(status):
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_ENDED, "the chat is over")
	case status == axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_CREATING:
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS, "the chat is still being created").
			WithRetryAfter(patience.Advice)
	}
	if err := s.accounts.Accepts(rec.GetAccount()); err != nil {
		return nil, err
	}
	ctx, cancel := patience.Detach(ctx)
	defer cancel()
	if err := s.join(ctx, rec, session.GetSession().GetAxpSessionId()); err != nil {
		return nil, err
	}
	ref := records.RefOf(rec)
	rec, err = s.records.Change(ctx, ref, func(r *busv1.EngagementRecord) error {
		if !slices.Contains(r.GetEngagement().GetJoinedSessionIds(), req.GetSessionId()) {
			r.Engagement.JoinedSessionIds = append(r.Engagement.JoinedSessionIds, req.GetSessionId())
		}
		return nil
	})
	if err != nil {
		return nil, records.Unavailable(err)
	}
	_, _, err = s.records.ChangeSession(ctx, caller.GetAccount(), req.GetSessionId(), func(r *busv1.SessionRecord) error {
		if slices.Contains(r.GetJoined(), ref.Joined()) {
			return bus.ErrNoChange
		}
		r.Joined = append(r.Joined, ref.Joined())
		return nil
	})
	if err != nil {
		return nil, records.Unavailable(err)
	}
	return rec.GetEngagement(), nil
}

// join calls AXP once. What a second Join does is not documented, so after an
// outcome that is not known, and before a repeat, AXP is asked who is in.
func (s *Service) join(ctx context.Context, rec *busv1.EngagementRecord, axpSession string) error {
	client, err := s.accounts.Client(rec.GetAccount())
	if err != nil {
		return err
	}
	engagement, dialog := rec.GetEngagement().GetAxpEngagementId(), rec.GetEngagement().GetAxpDialogId()
	inside := func() (bool, error) {
		e, err := client.GetEngagement(ctx, engagement)
		if err != nil {
			return false, err
		}
		d, ok := e.DialogByID(dialog)
		return ok && slices.ContainsFunc(d.Connections, func(c axp.Connection) bool {
			return c.ConnectionState == axp.ConnectionConnected && slices.Contains(c.SessionIDs, axpSession)
		}), nil
	}
	in, err := inside()
	if err != nil || in {
		return err
	}
	_, err = client.JoinEngagement(ctx, engagement, axp.JoinEngagement{
		SessionID: axpSession, DialogID: dialog, CorrelationID: rec.GetEngagement().GetEngagementId(),
	})
	if err != nil && axp.OutcomeOf(err) == axp.Unknown {
		if in, lookErr := inside(); lookErr == nil && in {
			return nil
		}
	}
	return err
}
