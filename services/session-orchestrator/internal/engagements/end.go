package engagements

import (
	"context"
	"errors"
	"time"

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

// flush is how long the end of a session waits for what was accepted to be
// sent, before it disconnects all the same.
const flush = 5 * time.Second

// End asks for the end of an engagement: what was accepted before is sent
// first. It returns at once; the end itself is told by an event. It is safe to
// repeat.
func (s *Service) End(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.EndEngagementRequest) (*axpchatv1.Engagement, error) {
	session, _, err := s.records.OpenSession(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	rec, err := s.records.Engagement(ctx, session, req.GetEngagementId())
	if err != nil {
		return nil, err
	}
	if !state.Over(rec.GetEngagement().GetStatus()) {
		rec, err = s.askEnd(ctx, records.RefOf(rec), req.GetSessionId(), convert.OrUserClosed(req.GetReason()))
		switch {
		case errors.Is(err, bus.ErrNotFound): // its creation has come to nothing meanwhile
			return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_NOT_FOUND, "the session has no such engagement")
		case err != nil:
			return nil, records.Unavailable(err)
		}
	}
	return rec.GetEngagement(), nil
}

// askEnd puts the order into the outbox before the record says ENDING: after a
// crash in between the engagement still ends.
func (s *Service) askEnd(ctx context.Context, ref records.Ref, asking string, reason axpchatv1.CloseReason) (*busv1.EngagementRecord, error) {
	if err := s.order(ctx, ref, asking, reason, ""); err != nil {
		return nil, err
	}
	return s.records.Change(ctx, ref, func(rec *busv1.EngagementRecord) error {
		state.AskEnd(rec, reason)
		return nil
	})
}

// AskEnd orders the end of an engagement on nobody's behalf, behind everything
// that was accepted. It is safe to repeat, and does nothing for one that is over
// or not there.
func (s *Service) AskEnd(ctx context.Context, ref records.Ref, reason axpchatv1.CloseReason) error {
	over, err := s.isOver(ctx, ref)
	if err != nil || over {
		return err
	}
	_, err = s.askEnd(ctx, ref, ref.Session, reason)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return records.Unavailable(err)
	}
	return nil
}

// AskEndAgain repeats the order for an engagement that should have ended: the
// outbox may have lost it. round tells one repeat from another; of one round the
// outbox takes one.
func (s *Service) AskEndAgain(ctx context.Context, ref records.Ref, round string) error {
	rec, _, err := s.records.Get(ctx, ref)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil
	case err != nil:
		return records.Unavailable(err)
	case rec.GetEngagement().GetStatus() != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ENDING:
		return nil
	}
	if err := s.order(ctx, ref, ref.Session, rec.GetEngagement().GetEndReason(), "."+round); err != nil {
		return records.Unavailable(err)
	}
	return nil
}

// order puts the order to end into the outbox.
func (s *Service) order(ctx context.Context, ref records.Ref, asking string, reason axpchatv1.CloseReason, round string) error {
	_, err := s.bus.PublishOutbox(ctx, &busv1.OutboxEntry{
		Command: &busv1.OutboxEntry_End{End: &busv1.OutboxEnd{Reason: reason}},
		Account: ref.Account, SessionId: ref.Session, EngagementId: ref.Engagement,
		AcceptTime: timestamppb.New(s.now()), SenderSessionId: asking,
	}, "end."+ref.Key()+round)
	return err
}

// Disconnect ends the dialog in AXP and then the engagement. One that is gone
// already counts as ended. It is safe to repeat. A dialog that could not be ended
// is noted as left, so that it is found should the caller give up.
func (s *Service) Disconnect(ctx context.Context, ref records.Ref, reason axpchatv1.CloseReason) error {
	rec, _, err := s.records.Get(ctx, ref)
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err != nil {
		return records.Unavailable(err)
	}
	if state.Over(rec.GetEngagement().GetStatus()) {
		return nil
	}
	client, err := s.accounts.Client(ref.Account)
	if err != nil {
		return err
	}
	e := rec.GetEngagement()
	err = client.DisconnectEngagement(ctx, e.GetAxpEngagementId(), axp.DisconnectEngagement{
		SessionID: rec.GetAxpSessionId(), DialogID: e.GetAxpDialogId(), Reason: convert.Reason(reason),
		CorrelationID: e.GetEngagementId(),
	})
	if err != nil && (axp.Temporary(err) || axp.IsCredentials(err) || !s.gone(ctx, client, e.GetAxpEngagementId(), e.GetAxpDialogId())) {
		return errors.Join(err, s.leave(ctx, rec, e.GetAxpEngagementId(), e.GetAxpDialogId()))
	}
	_, err = s.records.Change(ctx, ref, func(rec *busv1.EngagementRecord) error {
		state.Terminate(rec, reason, s.now())
		state.Gone(rec, e.GetAxpDialogId())
		return nil
	})
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return records.Unavailable(err)
	}
	return nil
}

// gone asks AXP whether a dialog that could not be disconnected has ended: the
// answer to disconnecting one twice is not documented.
func (s *Service) gone(ctx context.Context, client *axp.Client, engagement, dialog string) bool {
	e, err := client.GetEngagement(ctx, engagement)
	if err != nil {
		return axp.IsNotFound(err)
	}
	d, ok := e.DialogByID(dialog)
	return !ok || d.DialogStatus == axp.DialogTerminated || d.DialogStatus == axp.DialogTerminating
}

// EndAll ends every open engagement of a session. What was accepted is sent
// first where that takes no longer than a moment.
func (s *Service) EndAll(ctx context.Context, session *busv1.SessionRecord, reason axpchatv1.CloseReason) error {
	for _, ref := range own(session) {
		if err := s.endNow(ctx, ref, reason); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) endNow(ctx context.Context, ref records.Ref, reason axpchatv1.CloseReason) error {
	woken, off := s.watch.On(ref)
	defer off()
	over, err := s.isOver(ctx, ref)
	if err != nil || over {
		return err
	}
	_, err = s.askEnd(ctx, ref, ref.Session, reason)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return records.Unavailable(err)
	}
	over, err = patience.Until(ctx, flush, woken, func(ctx context.Context) (bool, error) {
		over, err := s.isOver(ctx, ref)
		return err == nil && over, nil
	})
	if err != nil || over {
		return err
	}
	if err := s.Resolve(ctx, ref); err != nil { // a crash may have left it half-made
		return err
	}
	rec, _, err := s.records.Get(ctx, ref)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return nil
	case err != nil:
		return records.Unavailable(err)
	case state.HalfMade(rec):
		// Its creation is under way. Its end is in the outbox already, but AXP's
		// session must not go before its dialog.
		return errs.New(axpchatv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS, "a chat of the session is still being created").
			WithRetryAfter(patience.Advice)
	}
	return s.Disconnect(ctx, ref, reason)
}

// isOver tells whether an engagement has ended, or is not there any more.
func (s *Service) isOver(ctx context.Context, ref records.Ref) (bool, error) {
	rec, _, err := s.records.Get(ctx, ref)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return true, nil
	case err != nil:
		return false, records.Unavailable(err)
	}
	return state.Over(rec.GetEngagement().GetStatus()), nil
}

// AllGone notes that AXP knows none of a session's engagements any more.
func (s *Service) AllGone(ctx context.Context, session *busv1.SessionRecord) error {
	for _, ref := range own(session) {
		_, err := s.records.Change(ctx, ref, func(rec *busv1.EngagementRecord) error {
			if !state.Over(rec.GetEngagement().GetStatus()) {
				state.Terminate(rec, axpchatv1.CloseReason_CLOSE_REASON_UNKNOWN, s.now())
			}
			return nil
		})
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return records.Unavailable(err)
		}
	}
	return nil
}
