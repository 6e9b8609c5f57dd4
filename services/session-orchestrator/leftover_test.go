package orchestrator_test

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// ended tells whether a dialog has ended in AXP.
func (r *rig) ended(s *axpchatv1.Session, dialog string) bool {
	r.t.Helper()
	i := slices.IndexFunc(r.axp.Dialogs(s.GetAxpSessionId()), func(d axp.Dialog) bool { return d.DialogID == dialog })
	if i < 0 {
		r.t.Fatal("AXP has no such dialog")
	}
	return r.axp.Dialogs(s.GetAxpSessionId())[i].DialogStatus == axp.DialogTerminated
}

// wantNothingLeft checks that an engagement has nothing left behind.
func (r *rig) wantNothingLeft(e *axpchatv1.Engagement) {
	r.t.Helper()
	if rec := r.record(e); len(rec.GetLeftDialogs()) > 0 || state.Unclear(rec) || state.Untold(rec) {
		r.t.Errorf("left behind: %v", rec)
	}
}

// editChat changes an engagement's record as a crash might have left it.
func (r *rig) editChat(e *axpchatv1.Engagement, f func(*busv1.EngagementRecord)) {
	r.t.Helper()
	key := bus.EngagementKey(axptest.AccountID, e.GetSessionId(), e.GetEngagementId())
	_, err := r.bus.Engagements.Modify(r.ctx(), key, func(rec *busv1.EngagementRecord) error {
		f(rec)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestADialogWhoseEndIsGivenUpIsEndedLater: the outbox tells the customer that
// the chat is over, but an agent must not be left with it.
func TestADialogWhoseEndIsGivenUpIsEndedLater(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	r.axp.Fail(axp.OpDisconnectEngagement, axptest.Fault{Status: 400}, axptest.Fault{Status: 503})
	r.end(e)
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	if r.ended(s, e.GetAxpDialogId()) {
		t.Fatal("the dialog has ended, so nothing is shown here")
	}
	if err := r.reaper(alone("a")).Sweep(r.ctx()); err != nil || r.ended(s, e.GetAxpDialogId()) {
		t.Fatalf("AXP does not take it yet: %v", err)
	}
	r.sweep()
	if !r.ended(s, e.GetAxpDialogId()) {
		t.Error("the dialog goes on in AXP")
	}
	r.wantNothingLeft(e)
	if n := r.axp.Calls(axp.OpDisconnectEngagement); n != 3 {
		t.Errorf("%d calls to disconnect, want the two that failed and one more", n)
	}
}

// TestASurplusDialogThatStaysIsEndedLater: its disconnecting failed when a
// callback showed it.
func TestASurplusDialogThatStaysIsEndedLater(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	other := r.engagementInAXP(s, e)
	r.axp.Fail(axp.OpDisconnectEngagement, axptest.Fault{Status: 503})
	r.created(s, e, other)
	r.await("it is noted", func() bool { return len(r.record(e).GetLeftDialogs()) == 1 })
	r.sweep()
	if !r.ended(s, other) || r.ended(s, e.GetAxpDialogId()) {
		t.Errorf("AXP has %+v", r.axp.Dialogs(s.GetAxpSessionId()))
	}
	r.wantNothingLeft(e)
}

// TestADialogThatNoRecordKnowsIsEndedAllTheSame: there is nothing to note it in,
// so the event comes again until it is done.
func TestADialogThatNoRecordKnowsIsEndedAllTheSame(t *testing.T) {
	r := newRig(t, nil)
	s := r.session(ada)
	e := &axpchatv1.Engagement{SessionId: s.GetSessionId(), EngagementId: "given-up"}
	r.axp.Fail(axp.OpDisconnectEngagement, axptest.Fault{Status: 503}, axptest.Fault{Status: 503})
	dialog := r.dialogInAXP(s, s.GetSessionId()+"."+e.GetEngagementId()+".proof")
	r.created(s, e, dialog)
	r.await("the dialog has ended", func() bool { return r.ended(s, dialog) })
}

// created tells as AXP does that a dialog was created for an engagement.
func (r *rig) created(s *axpchatv1.Session, e *axpchatv1.Engagement, dialog string) {
	r.t.Helper()
	r.tell(e, "created-"+dialog, &axpchatv1.Event{Payload: &axpchatv1.Event_EngagementCreated{EngagementCreated: &axpchatv1.EngagementCreated{
		AxpEngagementId: r.axp.EngagementOf(dialog), AxpDialogId: dialog, AxpSessionId: s.GetAxpSessionId(),
		ProviderDialogId: e.GetSessionId() + "." + e.GetEngagementId(),
	}}})
}

// TestTheReaperSettlesACreationThatTheEndHasNotWaitedFor: AXP could not be asked
// for as long as the outbox tried.
func TestTheReaperSettlesACreationThatTheEndHasNotWaitedFor(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	r.editChat(e, func(rec *busv1.EngagementRecord) {
		rec.Engagement.AxpDialogId, rec.AttemptTime = "", timestamppb.New(time.Now().Add(-time.Hour))
		state.Terminate(rec, axpchatv1.CloseReason_CLOSE_REASON_USER_CLOSED, time.Now())
	})
	r.sweep()
	if !r.ended(s, e.GetAxpDialogId()) {
		t.Error("the dialog goes on in AXP")
	}
	r.wantNothingLeft(e)
}

func TestTheReaperTellsOfAnEndThatACrashHasKeptBack(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	r.editChat(e, func(rec *busv1.EngagementRecord) {
		state.Terminate(rec, axpchatv1.CloseReason_CLOSE_REASON_UNKNOWN, time.Now())
		rec.UntoldEndTime = timestamppb.Now()
	})
	r.sweep()
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	r.wantNothingLeft(e)
}
