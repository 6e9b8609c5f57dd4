package sessions

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/convert"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
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
	client, err := s.accounts.Client(caller.GetAccount())
	if err != nil {
		return nil, err
	}
	ctx, cancel := patience.Detach(ctx)
	defer cancel()

	rec, _, err = s.records.ChangeSession(ctx, caller.GetAccount(), req.GetSessionId(), func(rec *busv1.SessionRecord) error {
		if rec.GetSession().GetStatus() >= axpchatv1.SessionStatus_SESSION_STATUS_CLOSING {
			return bus.ErrNoChange
		}
		rec.Session.Status = axpchatv1.SessionStatus_SESSION_STATUS_CLOSING
		rec.Session.CloseReason = convert.OrUserClosed(req.GetReason())
		rec.Session.UpdateTime = timestamppb.New(s.now())
		return nil
	})
	if err != nil {
		return nil, records.Unavailable(err)
	}
	reason := convert.OrUserClosed(rec.GetSession().GetCloseReason())
	// AXP does not say whether deleting a session ends its dialogs, so an agent
	// could be left talking to nobody.
	if err := s.ender.EndAll(ctx, rec, reason); err != nil {
		return nil, err
	}
	if err := client.DeleteSession(ctx, rec.GetSession().GetAxpSessionId(), convert.Reason(reason)); err != nil {
		return nil, err
	}
	return s.close(ctx, rec, reason)
}
