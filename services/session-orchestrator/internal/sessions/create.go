package sessions

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
	"github.com/axpchat/connector/services/session-orchestrator/internal/convert"
	"github.com/axpchat/connector/services/session-orchestrator/internal/ident"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// maxName is AXP's limit on display names, in UTF-16 units.
const maxName = 70

// maxProviderCustomer is AXP's limit on providerCustomerId.
const maxProviderCustomer = 256

// Create opens a session for the caller.
func (s *Service) Create(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.CreateSessionRequest) (*axpchatv1.Session, error) {
	if err := s.accounts.Accepts(caller.GetAccount()); err != nil {
		return nil, err
	}
	client, err := s.accounts.Client(caller.GetAccount())
	if err != nil {
		return nil, err
	}
	rec, err := s.draft(client, caller, req)
	if err != nil {
		return nil, err
	}
	if s.bus.WasErased(caller.GetAccount(), rec.GetSession().GetSessionId()) {
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, "the session of this request id was erased; use a new one")
	}
	ctx, cancel := patience.Detach(ctx)
	defer cancel()

	rec, rev, err := s.claim(ctx, rec)
	if err != nil {
		return nil, err
	}
	if rev == 0 {
		return rec.GetSession(), nil // an earlier request has made it
	}
	return s.establish(ctx, client, rec, rev)
}

// A change of NATS's leader takes some seconds; what AXP has made is worth
// waiting for it.
const (
	storeMin = 50 * time.Millisecond
	storeMax = time.Second
)

// draft makes the record of a new session.
func (s *Service) draft(client *axp.Client, caller *orchestratorv1.Caller, req *axpchatv1.CreateSessionRequest) (*busv1.SessionRecord, error) {
	identifiers, err := merge(caller.GetIdentifiers(), req.GetCustomerIdentifiers())
	if err != nil {
		return nil, err
	}
	content := proto.CloneOf(req)
	content.RequestId = ""
	hash, err := ident.Hash(content)
	if err != nil {
		return nil, err
	}
	id, err := ident.ForRequest("session", req.GetRequestId(), caller.GetAccount(), caller.GetSubject())
	if err != nil {
		return nil, err
	}
	name := req.GetDisplayName()
	if name == "" {
		name = cut(caller.GetName(), maxName)
	}
	now := timestamppb.New(s.now())
	return &busv1.SessionRecord{
		Session: &axpchatv1.Session{
			SessionId: id, Account: caller.GetAccount(), Status: axpchatv1.SessionStatus_SESSION_STATUS_CREATING,
			DisplayName: name, CustomerIdentifiers: identifiers, SessionParameters: req.GetSessionParameters(),
			CreateTime: now, UpdateTime: now, IdleRules: s.policy.Rules(caller.GetAccount()), Anonymous: caller.GetAnonymous(),
		},
		ActivityTime: now,
		Subject:      caller.GetSubject(), ChannelProviderId: client.ChannelProviderID(), RequestHash: hash, AttemptTime: now,
	}, nil
}

// claim makes the caller the one who creates the session: it returns the
// record with its revision. Where the session is there already, the revision
// is 0.
func (s *Service) claim(ctx context.Context, draft *busv1.SessionRecord) (*busv1.SessionRecord, uint64, error) {
	key := bus.SessionKeyOf(draft.GetSession().GetAccount(), draft.GetSession().GetSessionId())
	var (
		rec *busv1.SessionRecord
		rev uint64
	)
	settled, err := patience.Until(ctx, patience.Others, nil, func(ctx context.Context) (bool, error) {
		var err error
		rev, err = s.bus.Sessions.Create(ctx, key, draft)
		if err == nil {
			rec = draft
			return true, nil
		}
		if !errors.Is(err, bus.ErrExists) {
			return false, records.Unavailable(err)
		}
		rec, rev, err = s.takeOver(ctx, key, draft)
		return rec != nil, err
	})
	switch {
	case err != nil:
		return nil, 0, err
	case !settled:
		return nil, 0, errs.New(axpchatv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS, "the same request is still under way").
			WithRetryAfter(patience.Advice)
	}
	return rec, rev, nil
}

// takeOver deals with a session that is there. It returns no record where it
// is worth another look.
func (s *Service) takeOver(ctx context.Context, key string, draft *busv1.SessionRecord) (*busv1.SessionRecord, uint64, error) {
	have, rev, err := s.bus.Sessions.Get(ctx, key)
	if errors.Is(err, bus.ErrNotFound) {
		return nil, 0, nil // the other attempt has just failed and cleaned up
	}
	if err != nil {
		return nil, 0, records.Unavailable(err)
	}
	if !bus.OwnedBy(have, draft.GetSubject(), draft.GetSession().GetAnonymous()) || !bytes.Equal(have.GetRequestHash(), draft.GetRequestHash()) {
		return nil, 0, errs.New(axpchatv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED, "the request id was used with other content")
	}
	if have.GetSession().GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_CREATING {
		return have, 0, nil
	}
	if s.now().Sub(have.GetAttemptTime().AsTime()) < patience.Leftover {
		return nil, 0, nil // somebody is at it
	}
	have.AttemptTime = timestamppb.New(s.now())
	rev, err = s.bus.Sessions.Update(ctx, key, have, rev)
	if errors.Is(err, bus.ErrConflict) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, records.Unavailable(err)
	}
	return have, rev, nil
}

// establish creates the session in AXP and stores what AXP says.
func (s *Service) establish(ctx context.Context, client *axp.Client, rec *busv1.SessionRecord, rev uint64) (*axpchatv1.Session, error) {
	account, id := rec.GetSession().GetAccount(), rec.GetSession().GetSessionId()
	key := bus.SessionKeyOf(account, id)
	request := axp.CreateSession{
		CustomerIdentifiers: convert.Identifiers(rec.GetSession().GetCustomerIdentifiers()),
		DisplayName:         rec.GetSession().GetDisplayName(),
		SessionParameters:   rec.GetSession().GetSessionParameters(),
		CorrelationID:       id,
	}
	if units(rec.GetSubject()) <= maxProviderCustomer {
		request.ProviderCustomerID = rec.GetSubject()
	}
	made, err := client.CreateSession(ctx, request)
	if err != nil {
		if axp.OutcomeOf(err) == axp.Unknown {
			s.orphans.Add(ctx, 1)
		}
		s.giveUp(ctx, key, rev)
		return nil, err
	}
	s.index(ctx, account, id, made.SessionID)
	rec.Session.AxpSessionId, rec.Session.ParticipantId = made.SessionID, made.ParticipantID
	rec.Session.Status = axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE
	rec.Session.UpdateTime = timestamppb.New(s.now())
	rec.AttemptTime = nil
	for n := 1; ; n++ {
		_, err = s.bus.Sessions.Update(ctx, key, rec, rev)
		switch {
		case err == nil:
			s.policy.Arm(ctx, rec, state.Chats{})
			return rec.GetSession(), nil
		case errors.Is(err, bus.ErrConflict):
			return s.lost(ctx, client, key, made.SessionID)
		case patience.Pause(ctx, patience.Backoff(n, storeMin, storeMax, 0), nil) != nil:
			s.orphans.Add(ctx, 1) // or it was stored and only the answer is lost
			return nil, records.Unavailable(err)
		}
	}
}

// giveUp removes a record that came to nothing, so that a repeat starts afresh.
// Failing is harmless: the record is taken over when it is old.
func (s *Service) giveUp(ctx context.Context, key string, rev uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.bus.Sessions.Delete(ctx, key, rev); err != nil {
		s.log.DebugContext(ctx, "an unfinished session stays until it is taken over", "error", err)
	}
}

// lost ends the AXP session of an attempt that somebody else has overtaken and
// returns what the other one made.
func (s *Service) lost(ctx context.Context, client *axp.Client, key, spare string) (*axpchatv1.Session, error) {
	have, _, err := s.bus.Sessions.Get(ctx, key)
	if err == nil && have.GetSession().GetAxpSessionId() == spare {
		return have.GetSession(), nil // our own write, whose answer was lost
	}
	if err := client.DeleteSession(ctx, spare, axp.ReasonSystemClosed); err != nil {
		s.spare(ctx, key, spare)
		s.log.WarnContext(ctx, "a spare session stays in AXP until the reaper comes", "error", err)
	}
	switch {
	case err != nil:
		return nil, records.Unavailable(err)
	case have.GetSession().GetStatus() == axpchatv1.SessionStatus_SESSION_STATUS_CREATING:
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS, "the same request is still under way").
			WithRetryAfter(patience.Advice)
	}
	return have.GetSession(), nil
}

// spare notes an AXP session that nobody uses and that could not be deleted.
func (s *Service) spare(ctx context.Context, key, axpSession string) {
	_, err := s.bus.Sessions.Modify(ctx, key, func(rec *busv1.SessionRecord) error {
		if slices.Contains(rec.GetSpareAxpSessionIds(), axpSession) {
			return bus.ErrNoChange
		}
		rec.SpareAxpSessionIds = append(rec.GetSpareAxpSessionIds(), axpSession)
		return nil
	})
	if err != nil {
		s.orphans.Add(ctx, 1) // now nobody will ever know it
	}
}

// index lets callbacks find the session by AXP's id, should they lack ours.
// Without it they end up in the stream of unrouted ones, so it is not worth
// failing for.
func (s *Service) index(ctx context.Context, account, id, axpSession string) {
	_, err := s.bus.Index.Create(ctx, bus.IndexSession(account, axpSession), &busv1.IndexRecord{Account: account, SessionId: id})
	if err != nil && !errors.Is(err, bus.ErrExists) {
		s.log.WarnContext(ctx, "a session could not be indexed", "error", err)
	}
}
