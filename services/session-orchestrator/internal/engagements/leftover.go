package engagements

import (
	"context"
	"errors"
	"fmt"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// noteTimeout bounds noting a dialog that is left, where the caller's time is up.
const noteTimeout = 2 * time.Second

// leave notes a dialog that should have ended and could not be made to, for Clear.
// bus.ErrNotFound says that there is no record to note it in.
func (s *Service) leave(ctx context.Context, rec *busv1.EngagementRecord, engagement, dialog string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	_, err := s.records.Change(ctx, records.RefOf(rec), func(r *busv1.EngagementRecord) error {
		state.Leave(r, engagement, dialog)
		return nil
	})
	if err != nil {
		return fmt.Errorf("note a dialog that is left in AXP: %w", err)
	}
	return nil
}

// Clear finishes what an engagement has left behind: turns that the journal was
// not told of, and dialogs in AXP that should have ended. An error says that
// something is still left; it is safe to repeat.
func (s *Service) Clear(ctx context.Context, ref records.Ref) error {
	rec, _, err := s.records.Get(ctx, ref) // which tells the journal
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err != nil {
		return records.Unavailable(err)
	}
	if !state.Unclear(rec) && len(rec.GetLeftDialogs()) == 0 {
		return nil
	}
	client, err := s.accounts.Client(ref.Account)
	if err != nil {
		return err
	}
	if state.Unclear(rec) {
		if rec, err = s.search(ctx, client, rec); err != nil {
			return err
		}
	}
	var faults []error
	for _, d := range rec.GetLeftDialogs() {
		faults = append(faults, s.disconnect(ctx, client, rec, d))
	}
	return errors.Join(faults...)
}

// search notes what AXP has of an engagement whose creation was never settled.
func (s *Service) search(ctx context.Context, client *axp.Client, rec *busv1.EngagementRecord) (*busv1.EngagementRecord, error) {
	found, err := s.find(ctx, client, rec)
	if err != nil && !axp.IsNotFound(err) {
		return nil, err
	}
	rec, err = s.records.Change(ctx, records.RefOf(rec), func(r *busv1.EngagementRecord) error {
		for _, p := range found {
			state.Leave(r, p.engagement, p.dialog.DialogID)
		}
		r.AttemptTime = nil
		return nil
	})
	if err != nil {
		return nil, records.Unavailable(err)
	}
	return rec, nil
}

// disconnect ends a dialog that was left and takes its note away.
func (s *Service) disconnect(ctx context.Context, client *axp.Client, rec *busv1.EngagementRecord, d *busv1.LeftDialog) error {
	engagement, dialog := d.GetAxpEngagementId(), d.GetAxpDialogId()
	err := client.DisconnectEngagement(ctx, engagement, axp.DisconnectEngagement{
		SessionID: rec.GetAxpSessionId(), DialogID: dialog, Reason: axp.ReasonSystemClosed,
	})
	if err != nil && (axp.Temporary(err) || axp.IsCredentials(err) || !s.gone(ctx, client, engagement, dialog)) {
		return err
	}
	_, err = s.records.Change(ctx, records.RefOf(rec), func(r *busv1.EngagementRecord) error {
		state.Gone(r, dialog)
		return nil
	})
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return records.Unavailable(err)
	}
	return nil
}
