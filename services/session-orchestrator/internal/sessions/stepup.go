package sessions

import (
	"context"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// StepUp makes an anonymous session the caller's, whose token names the anonymous
// subject. From then on the anonymous subject does not find the session any more.
//
// AXP gets the token's identifiers first and the session changes hands after: who
// is told of a failure still has the session as it was, and repeats. What AXP got
// by a step that was not finished is true all the same. A repeat by the owner
// brings AXP up to date and changes nothing else.
func (s *Service) StepUp(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.StepUpRequest) (*axpchatv1.Session, error) {
	rec, err := s.claimed(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	client, err := s.accounts.Client(caller.GetAccount())
	if err != nil {
		return nil, err
	}
	ctx, cancel := patience.Detach(ctx)
	defer cancel()
	if len(caller.GetIdentifiers()) > 0 {
		if err := s.appendMissing(ctx, client, rec, caller.GetIdentifiers()); err != nil {
			return nil, s.orGone(ctx, rec, err)
		}
	}
	return s.change(ctx, rec, func(rec *busv1.SessionRecord) error {
		// Of two customers who name the same anonymous one the first gets it.
		own := bus.OwnedBy(rec, caller.GetSubject(), caller.GetAnonymous())
		if !own && !mayClaim(rec, caller) {
			return noSession()
		}
		if state.Closed(rec.GetSession().GetStatus()) {
			return errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED, "the session is closed; create a new one")
		}
		rec.Subject, rec.Session.Anonymous = caller.GetSubject(), false
		if name := cut(caller.GetName(), maxName); name != "" && !own {
			rec.Session.DisplayName = name
		}
		rec.Session.CustomerIdentifiers = union(rec.GetSession().GetCustomerIdentifiers(), caller.GetIdentifiers())
		return nil
	})
}

// claimed reads the session that the caller owns or may have.
func (s *Service) claimed(ctx context.Context, caller *orchestratorv1.Caller, id string) (*busv1.SessionRecord, error) {
	rec, _, err := s.records.OpenSession(ctx, caller, id)
	if !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND) || caller.GetAnonymousSubject() == "" {
		return rec, err
	}
	before := &orchestratorv1.Caller{Account: caller.GetAccount(), Subject: caller.GetAnonymousSubject()}
	if rec, _, err = s.records.OpenSession(ctx, before, id); err != nil {
		return nil, err
	}
	if !mayClaim(rec, caller) {
		return nil, noSession()
	}
	return rec, nil
}

// mayClaim tells whether the session is anonymous and the caller its customer.
func mayClaim(rec *busv1.SessionRecord, caller *orchestratorv1.Caller) bool {
	return rec.GetSession().GetAnonymous() && !caller.GetAnonymous() &&
		caller.GetAnonymousSubject() != "" && rec.GetSubject() == caller.GetAnonymousSubject()
}

func noSession() error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, "there is no such session")
}
