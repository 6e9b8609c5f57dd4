package engagements

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/ident"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// Create starts an engagement. Where AXP turns out to know the session no
// more, the error satisfies axp.IsNotFound.
func (s *Service) Create(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.CreateEngagementRequest) (*axpchatv1.Engagement, error) {
	session, _, err := s.records.OpenSession(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	draft, err := s.draft(session, req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := patience.Detach(ctx)
	defer cancel()

	if err := s.context(ctx, session); err != nil {
		return nil, err
	}
	claimed, err := s.claim(ctx, draft)
	if err != nil {
		return nil, err
	}
	if claimed.done {
		return claimed.rec.GetEngagement(), nil
	}
	if !claimed.tried { // else it may be there already
		err = s.accounts.Accepts(claimed.rec.GetAccount())
	}
	if err == nil {
		err = s.admit(ctx, records.RefOf(claimed.rec))
	}
	if err != nil {
		s.discard(ctx, records.RefOf(claimed.rec))
		return nil, err
	}
	rec, err := s.establish(ctx, claimed)
	if err != nil {
		return nil, err
	}
	return rec.GetEngagement(), nil
}

// tellTimeout bounds how long a new chat waits for AXP to know its context.
const tellTimeout = 5 * time.Second

// context tells AXP the session's newest parameters, so that the agent sees them.
// A chat without them is better than none, so only AXP having lost the session
// is an error.
func (s *Service) context(ctx context.Context, session *busv1.SessionRecord) error {
	if len(session.GetUnsentParameters()) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	err := s.teller.Now(ctx, session.GetSession().GetAccount(), session.GetSession().GetSessionId())
	if err != nil && !axp.IsNotFound(err) {
		s.log.WarnContext(ctx, "a chat begins before AXP knows all of its context", "error", err)
		return nil
	}
	return err
}

// draft makes the record of a new engagement.
func (s *Service) draft(session *busv1.SessionRecord, req *axpchatv1.CreateEngagementRequest) (*busv1.EngagementRecord, error) {
	account, sessionID := session.GetSession().GetAccount(), session.GetSession().GetSessionId()
	content := proto.CloneOf(req)
	content.RequestId = ""
	hash, err := ident.Hash(content)
	if err != nil {
		return nil, err
	}
	id, err := ident.ForRequest("engagement", req.GetRequestId(), account, sessionID)
	if err != nil {
		return nil, err
	}
	now := timestamppb.New(s.now())
	return &busv1.EngagementRecord{
		Engagement: &axpchatv1.Engagement{
			EngagementId: id, SessionId: sessionID, Status: axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_CREATING,
			Conversation: req.GetConversation(), EngagementParameters: req.GetEngagementParameters(), CreateTime: now,
		},
		Account: account, AxpSessionId: session.GetSession().GetAxpSessionId(),
		ProviderDialogId: s.minter.MintDialogID(account, sessionID, id),
		RequestHash:      hash, AttemptTime: now,
	}, nil
}

// claimed is the right to create an engagement in AXP.
type claimed struct {
	rec *busv1.EngagementRecord
	// done: it is there already, nothing is to be created.
	done bool
	// tried: an earlier attempt may have reached AXP.
	tried bool
}

// claim makes the caller the one who creates the engagement.
func (s *Service) claim(ctx context.Context, draft *busv1.EngagementRecord) (claimed, error) {
	ref := records.RefOf(draft)
	woken, off := s.watch.On(ref)
	defer off()
	var out claimed
	settled, err := patience.Until(ctx, patience.Others, woken, func(ctx context.Context) (bool, error) {
		_, err := s.bus.Engagements.Create(ctx, ref.Key(), draft)
		if err == nil {
			out = claimed{rec: draft}
			return true, nil
		}
		if !errors.Is(err, bus.ErrExists) {
			return false, records.Unavailable(err)
		}
		have, rev, err := s.records.Get(ctx, ref)
		switch {
		case errors.Is(err, bus.ErrNotFound):
			return false, nil // the other attempt has just failed and cleaned up
		case err != nil:
			return false, records.Unavailable(err)
		case !bytes.Equal(have.GetRequestHash(), draft.GetRequestHash()):
			return false, errs.New(axpchatv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED, "the request id was used with other content")
		case have.GetEngagement().GetStatus() != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_CREATING:
			out = claimed{rec: have, done: true}
			return true, nil
		}
		ok, err := s.takeOver(ctx, have, rev)
		out = claimed{rec: have, tried: true}
		return ok, err
	})
	switch {
	case err != nil:
		return claimed{}, err
	case !settled:
		return claimed{}, errs.New(axpchatv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS, "the same request is still under way").
			WithRetryAfter(patience.Advice)
	}
	return out, nil
}

// takeOver claims an attempt that was left over; false while it is fresh, or
// when somebody else was faster.
func (s *Service) takeOver(ctx context.Context, have *busv1.EngagementRecord, rev uint64) (bool, error) {
	if s.now().Sub(have.GetAttemptTime().AsTime()) < patience.Leftover {
		return false, nil
	}
	have.AttemptTime = timestamppb.New(s.now())
	_, err := s.bus.Engagements.Update(ctx, records.RefOf(have).Key(), have, rev)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, bus.ErrConflict):
		return false, nil
	default:
		return false, records.Unavailable(err)
	}
}

// admit enters the engagement in its session, provided that no other one is
// open: compare-and-set on the session's record lets one of two through.
func (s *Service) admit(ctx context.Context, ref records.Ref) error {
	key := bus.SessionKeyOf(ref.Account, ref.Session)
	for {
		session, rev, err := s.bus.Sessions.Get(ctx, key)
		if err != nil {
			return records.Unavailable(err)
		}
		if state.Closed(session.GetSession().GetStatus()) {
			return errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED, "the session is closed; create a new one")
		}
		if slices.Contains(session.GetEngagementIds(), ref.Engagement) {
			return nil
		}
		for _, other := range own(session) {
			if err := s.mustBeOver(ctx, other); err != nil {
				return err
			}
		}
		session.EngagementIds = append(session.EngagementIds, ref.Engagement)
		state.Touch(session, s.now())
		_, err = s.bus.Sessions.Update(ctx, key, session, rev)
		if err == nil {
			s.policy.Arm(ctx, session, state.Chats{Open: ref.Engagement})
			return nil
		}
		if !errors.Is(err, bus.ErrConflict) {
			return records.Unavailable(err)
		}
	}
}

// mustBeOver refuses a second chat while another one is open. One that is
// ending is given a moment, and one that a crash has left half-made is settled.
func (s *Service) mustBeOver(ctx context.Context, ref records.Ref) error {
	woken, off := s.watch.On(ref)
	defer off()
	over, err := patience.Until(ctx, patience.Others, woken, func(ctx context.Context) (bool, error) {
		rec, _, err := s.records.Get(ctx, ref)
		switch {
		case errors.Is(err, bus.ErrNotFound):
			return true, nil
		case err != nil:
			return false, records.Unavailable(err)
		}
		switch status := rec.GetEngagement().GetStatus(); {
		case state.Over(status):
			return true, nil
		case state.HalfMade(rec) && s.leftover(rec):
			return false, s.Resolve(ctx, ref)
		case status == axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ENDING:
			return false, nil
		default:
			return false, open(ref)
		}
	})
	if err == nil && !over {
		err = open(ref)
	}
	return err
}

func open(ref records.Ref) error {
	return errs.Newf(axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_OPEN, "the session has an open chat: %s", ref.Engagement).
		WithViolation("engagementId", ref.Engagement, "ENGAGEMENT_OPEN")
}

func (s *Service) leftover(rec *busv1.EngagementRecord) bool {
	return s.now().Sub(rec.GetAttemptTime().AsTime()) >= patience.Leftover
}

// discard removes an engagement that came to nothing, so that a repeat of the
// request starts afresh and the session is free for another one. Failing is
// harmless: what stays behind is settled when it is old.
func (s *Service) discard(ctx context.Context, ref records.Ref) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := s.remove(ctx, ref)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		s.log.DebugContext(ctx, "an unfinished engagement stays until it is settled", "error", err)
	}
}

func (s *Service) remove(ctx context.Context, ref records.Ref) error {
	rec, rev, err := s.records.Get(ctx, ref)
	switch {
	case errors.Is(err, bus.ErrNotFound): // its place in the session may still be there
	case err != nil:
		return err
	case !state.HalfMade(rec):
		return nil // a callback has shown that AXP has it, or it is over
	case rec.GetEngagement().GetStatus() != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_CREATING:
		// The customer was told that it ends, so it ends instead of vanishing.
		_, err := s.records.Change(ctx, ref, func(r *busv1.EngagementRecord) error {
			if state.HalfMade(r) {
				state.Terminate(r, r.GetEngagement().GetEndReason(), s.now())
				r.AttemptTime = nil // that AXP has nothing of it is known
			}
			return nil
		})
		return err
	default:
		if err := s.bus.Engagements.Delete(ctx, ref.Key(), rev); err != nil {
			return err
		}
	}
	_, _, err = s.records.ChangeSession(ctx, ref.Account, ref.Session, func(rec *busv1.SessionRecord) error {
		i := slices.Index(rec.GetEngagementIds(), ref.Engagement)
		if i < 0 {
			return bus.ErrNoChange
		}
		rec.EngagementIds = slices.Delete(rec.GetEngagementIds(), i, i+1)
		return nil
	})
	return err
}
