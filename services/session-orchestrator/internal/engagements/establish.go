package engagements

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// creations is how often Create Engagement is called for one command: again
// only where the list shows that the first call had no effect.
const creations = 2

// place is where an engagement lives in AXP.
type place struct {
	engagement string
	dialog     *axp.Dialog
}

// establish creates the engagement in AXP, or finds it there, and stores what
// AXP says. Where it comes to nothing for certain, the record is removed; where
// nobody knows, it stays for the next attempt, which looks first.
func (s *Service) establish(ctx context.Context, c claimed) (*busv1.EngagementRecord, error) {
	client, err := s.accounts.Client(c.rec.GetAccount())
	if err != nil {
		s.discard(ctx, records.RefOf(c.rec))
		return nil, err
	}
	s.index(ctx, bus.IndexCorrelation(c.rec.GetAccount(), c.rec.GetEngagement().GetEngagementId()), c.rec)
	tried := c.tried
	for range creations {
		if tried {
			switch found, err := s.find(ctx, client, c.rec); {
			case err != nil:
				s.release(ctx, c.rec)
				return nil, err
			case len(found) > 0:
				return s.adopt(ctx, client, c.rec, found)
			}
		}
		var made *axp.Engagement
		made, err = client.CreateEngagement(ctx, axp.CreateEngagement{
			SessionID:            c.rec.GetAxpSessionId(),
			Conversation:         c.rec.GetEngagement().GetConversation(),
			ProviderDialogID:     c.rec.GetProviderDialogId(),
			EngagementParameters: c.rec.GetEngagement().GetEngagementParameters(),
			CorrelationID:        c.rec.GetEngagement().GetEngagementId(),
		})
		if err == nil {
			return s.made(ctx, client, c.rec, made, tried)
		}
		if axp.OutcomeOf(err) == axp.NotApplied {
			if tried {
				s.release(ctx, c.rec) // the earlier call may still take effect
			} else {
				s.discard(ctx, records.RefOf(c.rec))
			}
			return nil, err
		}
		tried = true
	}
	found, lookErr := s.find(ctx, client, c.rec)
	if lookErr == nil && len(found) > 0 {
		return s.adopt(ctx, client, c.rec, found)
	}
	s.release(ctx, c.rec)
	return nil, err
}

// made takes over the answer to Create Engagement. Where an earlier call may
// have had an effect after all, the list is asked for a dialog too many.
func (s *Service) made(ctx context.Context, client *axp.Client, rec *busv1.EngagementRecord, e *axp.Engagement, tried bool) (*busv1.EngagementRecord, error) {
	var found []place
	d, ok := e.DialogByProviderID(rec.GetProviderDialogId())
	if !ok && len(e.Dialogs) == 1 && e.Dialogs[0].ProviderDialogID == "" {
		d, ok = &e.Dialogs[0], true // providerDialogId is optional in answers
	}
	if ok {
		found = append(found, place{e.EngagementID, d})
	}
	if tried || !ok {
		listed, err := s.find(ctx, client, rec)
		if err != nil && !ok {
			s.release(ctx, rec)
			return nil, err
		}
		for _, p := range listed {
			if !ok || p.dialog.DialogID != d.DialogID {
				found = append(found, p)
			}
		}
	}
	if len(found) == 0 {
		s.release(ctx, rec)
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE, "AXP does not show the new dialog yet")
	}
	return s.adopt(ctx, client, rec, found)
}

// find looks in AXP for the dialogs that carry our providerDialogId.
func (s *Service) find(ctx context.Context, client *axp.Client, rec *busv1.EngagementRecord) ([]place, error) {
	all, err := client.ListEngagements(ctx, rec.GetAxpSessionId())
	if err != nil {
		return nil, err
	}
	var found []place
	for i := range all {
		for j := range all[i].Dialogs {
			if d := &all[i].Dialogs[j]; d.ProviderDialogID == rec.GetProviderDialogId() {
				found = append(found, place{all[i].EngagementID, d})
			}
		}
	}
	return found, nil
}

// adopt binds the record to the first dialog found, unless a callback has
// bound it already, and disconnects the others.
func (s *Service) adopt(ctx context.Context, client *axp.Client, rec *busv1.EngagementRecord, found []place) (*busv1.EngagementRecord, error) {
	for _, p := range found {
		s.index(ctx, bus.IndexDialog(rec.GetAccount(), p.dialog.DialogID), rec)
		s.index(ctx, bus.IndexEngagement(rec.GetAccount(), p.engagement), rec)
	}
	next, err := s.records.Change(ctx, records.RefOf(rec), func(r *busv1.EngagementRecord) error {
		bound := found[0]
		if i := slices.IndexFunc(found, func(p place) bool { return p.dialog.DialogID == r.GetEngagement().GetAxpDialogId() }); i >= 0 {
			bound = found[i]
		}
		if !state.Adopt(r, bound.engagement, bound.dialog.DialogID) {
			return nil // bound to a dialog that is not among those found: ours are surplus
		}
		s.observe(r, bound.dialog)
		r.AttemptTime = nil
		return nil
	})
	if err != nil {
		return nil, records.Unavailable(err)
	}
	for _, p := range found {
		if p.dialog.DialogID != next.GetEngagement().GetAxpDialogId() {
			if err := s.drop(ctx, client, next, p.engagement, p.dialog.DialogID); err != nil {
				s.log.ErrorContext(ctx, "a surplus dialog stays in AXP", "error", err)
			}
		}
	}
	return next, nil
}

// observe takes over what a dialog says of itself.
func (s *Service) observe(rec *busv1.EngagementRecord, d *axp.Dialog) {
	if rec.GetEngagement().GetChannelId() == "" {
		rec.Engagement.ChannelId = d.ChannelID
	}
	ours := ourConnection(rec, d)
	if ours != nil && rec.GetCustomerConnectionId() == "" {
		rec.CustomerConnectionId = ours.ConnectionID
	}
	switch {
	case d.DialogStatus == axp.DialogTerminated, ours != nil && ours.ConnectionState == axp.ConnectionDisconnected:
		state.Terminate(rec, axpchatv1.CloseReason_CLOSE_REASON_UNKNOWN, s.now())
	case d.DialogStatus == axp.DialogActive:
		state.Activate(rec, s.now())
	}
}

// ourConnection is the place of the session that started the engagement.
func ourConnection(rec *busv1.EngagementRecord, d *axp.Dialog) *axp.Connection {
	var customers []*axp.Connection
	for i := range d.Connections {
		c := &d.Connections[i]
		if known := rec.GetCustomerConnectionId(); known != "" {
			if c.ConnectionID == known {
				return c
			}
			continue
		}
		if c.ParticipantType != axp.ParticipantCustomer {
			continue
		}
		if slices.Contains(c.SessionIDs, rec.GetAxpSessionId()) {
			return c
		}
		customers = append(customers, c)
	}
	if len(customers) == 1 && len(customers[0].SessionIDs) == 0 {
		return customers[0]
	}
	return nil
}

// drop disconnects a dialog too many, or AXP shows it to an agent as a customer
// who says nothing. One that stays is noted; an error says that it could not even
// be.
func (s *Service) drop(ctx context.Context, client *axp.Client, rec *busv1.EngagementRecord, axpEngagement, axpDialog string) error {
	s.surplus.Add(ctx, 1)
	err := client.DisconnectEngagement(ctx, axpEngagement, axp.DisconnectEngagement{
		SessionID: rec.GetAxpSessionId(), DialogID: axpDialog, Reason: axp.ReasonSystemClosed,
	})
	if err == nil {
		return nil
	}
	s.log.WarnContext(ctx, "a surplus dialog stays in AXP for now", "error", err)
	if !axp.Temporary(err) && !axp.IsCredentials(err) && s.gone(ctx, client, axpEngagement, axpDialog) {
		return nil
	}
	return s.leave(ctx, rec, axpEngagement, axpDialog)
}

// release lets the next attempt begin at once, unless somebody has taken the
// present one over.
func (s *Service) release(ctx context.Context, rec *busv1.EngagementRecord) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_, err := s.records.Change(ctx, records.RefOf(rec), func(r *busv1.EngagementRecord) error {
		if state.HalfMade(r) && r.GetAttemptTime().AsTime().Equal(rec.GetAttemptTime().AsTime()) {
			r.AttemptTime = timestamppb.New(r.GetEngagement().GetCreateTime().AsTime().AddDate(-1, 0, 0))
		}
		return nil
	})
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		s.log.DebugContext(ctx, "an unfinished engagement waits for its age", "error", err)
	}
}

// Resolve settles an attempt that a crash has left over: the dialog is adopted
// where AXP has it, else the engagement is removed, or over where its end was
// asked for meanwhile. It does nothing while the attempt may still be at work,
// and returns an error where AXP can't say.
func (s *Service) Resolve(ctx context.Context, ref records.Ref) error {
	rec, rev, err := s.records.Get(ctx, ref)
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err != nil {
		return records.Unavailable(err)
	}
	if !state.HalfMade(rec) {
		return nil
	}
	mine, err := s.takeOver(ctx, rec, rev)
	if err != nil || !mine {
		return err
	}
	client, err := s.accounts.Client(ref.Account)
	if err != nil {
		return err
	}
	found, err := s.find(ctx, client, rec)
	switch {
	case err != nil && !axp.IsNotFound(err):
		s.release(ctx, rec)
		return err
	case len(found) == 0:
		s.discard(ctx, ref)
		return nil
	}
	_, err = s.adopt(ctx, client, rec, found)
	return err
}

// Refresh asks AXP how an engagement stands, for the case that a callback got
// lost. It is for the moments when somebody waits in vain, not for polling.
func (s *Service) Refresh(ctx context.Context, ref records.Ref) error {
	rec, _, err := s.records.Get(ctx, ref)
	if err != nil || rec.GetEngagement().GetAxpEngagementId() == "" || state.Over(rec.GetEngagement().GetStatus()) {
		return err
	}
	client, err := s.accounts.Client(ref.Account)
	if err != nil {
		return err
	}
	e, err := client.GetEngagement(ctx, rec.GetEngagement().GetAxpEngagementId())
	forgotten := axp.IsNotFound(err)
	if err != nil && !forgotten {
		return err
	}
	_, err = s.records.Change(ctx, ref, func(r *busv1.EngagementRecord) error {
		if forgotten {
			state.Terminate(r, axpchatv1.CloseReason_CLOSE_REASON_UNKNOWN, s.now())
			return nil
		}
		if d, ok := e.DialogByID(r.GetEngagement().GetAxpDialogId()); ok {
			s.observe(r, d)
		}
		return nil
	})
	return err
}

// Surplus deals with a dialog that a callback shows to be created for an
// engagement which is bound to another dialog or was given up: it is
// disconnected, or an agent would be offered a customer who is not there. An error
// asks to be called again.
func (s *Service) Surplus(ctx context.Context, account string, e *axpchatv1.EngagementCreated) error {
	client, err := s.accounts.Client(account)
	if err != nil || e.GetAxpSessionId() == "" || e.GetAxpDialogId() == "" {
		return err
	}
	session, engagement, _ := strings.Cut(e.GetProviderDialogId(), ".")
	return s.drop(ctx, client, &busv1.EngagementRecord{
		Account: account, AxpSessionId: e.GetAxpSessionId(),
		Engagement: &axpchatv1.Engagement{SessionId: session, EngagementId: engagement},
	}, e.GetAxpEngagementId(), e.GetAxpDialogId())
}

// index lets callbacks find the engagement by something of AXP's, should they
// lack our own key. The newest engagement wins: AXP adds dialogs to an
// engagement that is there.
func (s *Service) index(ctx context.Context, key string, rec *busv1.EngagementRecord) {
	entry := &busv1.IndexRecord{
		Account: rec.GetAccount(), SessionId: rec.GetEngagement().GetSessionId(), EngagementId: rec.GetEngagement().GetEngagementId(),
	}
	_, err := s.bus.Index.Create(ctx, key, entry)
	if errors.Is(err, bus.ErrExists) {
		_, err = s.bus.Index.Modify(ctx, key, func(r *busv1.IndexRecord) error {
			if r.GetSessionId() == entry.GetSessionId() && r.GetEngagementId() == entry.GetEngagementId() {
				return bus.ErrNoChange
			}
			r.SessionId, r.EngagementId = entry.GetSessionId(), entry.GetEngagementId()
			return nil
		})
	}
	if err != nil {
		s.log.WarnContext(ctx, "an engagement could not be indexed", "error", err)
	}
}
