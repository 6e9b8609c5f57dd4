package sessions

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/convert"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// Delete ends what is open in a session and deletes it in AXP. It is safe to
// repeat: a session that could not be deleted yet is CLOSING, takes no other
// command, and the repeat goes on where the first time had to stop.
func (s *Service) Delete(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.DeleteSessionRequest) (*axpchatv1.Session, error) {
	rec, _, err := s.records.Session(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	switch rec.GetSession().GetStatus() {
	case axpchatv1.SessionStatus_SESSION_STATUS_CLOSED:
		return rec.GetSession(), nil
	case axpchatv1.SessionStatus_SESSION_STATUS_CREATING:
		if s.now().Sub(rec.GetAttemptTime().AsTime()) >= patience.Leftover {
			// A crash has left it; should its creator still live, he finds it closed
			// and deletes what he has made in AXP.
			return s.close(ctx, rec, convert.OrUserClosed(req.GetReason()))
		}
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS, "the session is still being created").
			WithRetryAfter(patience.Advice)
	}
	if _, err := s.accounts.Client(caller.GetAccount()); err != nil {
		return nil, err
	}
	return s.finish(ctx, caller.GetAccount(), req.GetSessionId(), convert.OrUserClosed(req.GetReason()), nil)
}

// finish ends what is open in a session and deletes it. Where it is not being
// closed yet, still decides on its record whether it is to be; nil: it is.
func (s *Service) finish(ctx context.Context, account, id string, reason axpchatv1.CloseReason, still func(*busv1.SessionRecord) bool) (*axpchatv1.Session, error) {
	ctx, cancel := patience.Detach(ctx)
	defer cancel()

	rec, _, err := s.records.ChangeSession(ctx, account, id, func(rec *busv1.SessionRecord) error {
		if state.Closed(rec.GetSession().GetStatus()) || still != nil && !still(rec) {
			return bus.ErrNoChange
		}
		rec.Session.Status = axpchatv1.SessionStatus_SESSION_STATUS_CLOSING
		rec.Session.CloseReason = reason
		rec.Session.UpdateTime = timestamppb.New(s.now())
		return nil
	})
	if err != nil {
		return nil, records.Unavailable(err)
	}
	if rec.GetSession().GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_CLOSING {
		return rec.GetSession(), nil
	}
	reason = convert.OrUserClosed(rec.GetSession().GetCloseReason())
	// AXP does not say whether deleting a session ends its dialogs, so an agent
	// could be left talking to nobody.
	if err := s.ender.EndAll(ctx, rec, reason); err != nil {
		return nil, err
	}
	// A session whose account is not served any more ends here alone: there is
	// nothing left to ask AXP with.
	if client, err := s.accounts.Client(account); err == nil {
		if err := client.DeleteSession(ctx, rec.GetSession().GetAxpSessionId(), convert.Reason(reason)); err != nil {
			return nil, err
		}
	}
	return s.close(ctx, rec, reason)
}

// Expire deletes a session whose customer has gone, unless still, asked about
// its record as it is then, says otherwise; and goes on with one whose deletion
// had to stop. It is safe to repeat, and does nothing where there is none.
func (s *Service) Expire(ctx context.Context, account, id string, still func(*busv1.SessionRecord) bool) error {
	_, err := s.finish(ctx, account, id, axpchatv1.CloseReason_CLOSE_REASON_USER_INACTIVE, still)
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	return err
}

// Shut ends a session on an operator's order, in AXP as well. It is safe to
// repeat, and does nothing where there is none.
func (s *Service) Shut(ctx context.Context, account, id string) error {
	rec, _, err := s.bus.Sessions.Get(ctx, bus.SessionKeyOf(account, id))
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil
	case err != nil:
		return records.Unavailable(err)
	}
	switch rec.GetSession().GetStatus() {
	case axpchatv1.SessionStatus_SESSION_STATUS_CLOSED:
	case axpchatv1.SessionStatus_SESSION_STATUS_CREATING:
		if s.now().Sub(rec.GetAttemptTime().AsTime()) < patience.Leftover {
			return errs.New(axpchatv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS, "the session is still being created").
				WithRetryAfter(patience.Advice)
		}
		_, err = s.close(ctx, rec, axpchatv1.CloseReason_CLOSE_REASON_SYSTEM_CLOSED)
	default:
		_, err = s.finish(ctx, account, id, axpchatv1.CloseReason_CLOSE_REASON_SYSTEM_CLOSED, nil)
	}
	if err != nil || len(rec.GetSpareAxpSessionIds()) == 0 {
		return err
	}
	return s.DropSpares(ctx, account, id)
}

// Abandon removes a session whose creation a crash has left half-made, so that a
// repeat of the request starts afresh. AXP can't be asked whether it has one: it
// knows no way from our id to its own.
func (s *Service) Abandon(ctx context.Context, account, id string) error {
	key := bus.SessionKeyOf(account, id)
	rec, rev, err := s.bus.Sessions.Get(ctx, key)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil
	case err != nil:
		return records.Unavailable(err)
	case rec.GetSession().GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_CREATING,
		s.now().Sub(rec.GetAttemptTime().AsTime()) < patience.Leftover, len(rec.GetSpareAxpSessionIds()) > 0:
		return nil
	}
	err = s.bus.Sessions.Delete(ctx, key, rev)
	if errors.Is(err, bus.ErrConflict) {
		return nil // somebody has taken it over
	}
	if err != nil {
		return records.Unavailable(err)
	}
	s.orphans.Add(ctx, 1)
	return nil
}

// DropSpares deletes the AXP sessions that were made for nothing.
func (s *Service) DropSpares(ctx context.Context, account, id string) error {
	client, err := s.accounts.Client(account)
	if err != nil {
		return err
	}
	rec, _, err := s.bus.Sessions.Get(ctx, bus.SessionKeyOf(account, id))
	if err != nil {
		return records.Unavailable(err)
	}
	for _, spare := range rec.GetSpareAxpSessionIds() {
		// Else an answer that was lost would have us delete the session in use.
		if spare != rec.GetSession().GetAxpSessionId() {
			if err := client.DeleteSession(ctx, spare, axp.ReasonSystemClosed); err != nil {
				return err
			}
		}
		_, _, err := s.records.ChangeSession(ctx, account, id, func(rec *busv1.SessionRecord) error {
			i := slices.Index(rec.GetSpareAxpSessionIds(), spare)
			if i < 0 {
				return bus.ErrNoChange
			}
			rec.SpareAxpSessionIds = slices.Delete(rec.GetSpareAxpSessionIds(), i, i+1)
			return nil
		})
		if err != nil {
			return records.Unavailable(err)
		}
	}
	return nil
}
