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
	"github.com/axpchat/connector/services/session-orchestrator/internal/ident"
)

// creating begins an engagement whose creation hangs in AXP until the channel
// is closed; the second result gets how it ends.
func (r *rig) creating(s *axpchatv1.Session, fault axptest.Fault) (*axpchatv1.Engagement, <-chan error) {
	r.t.Helper()
	r.axp.Fail(axp.OpCreateEngagement, fault)
	done := make(chan error, 1)
	go func() {
		_, err := r.create(s, "r-1", "")
		done <- err
	}()
	r.t.Cleanup(r.axp.Release) // else a test that gives up would wait for it
	r.await("the creation is under way", func() bool { return r.axp.Calls(axp.OpCreateEngagement) == 1 })
	return &axpchatv1.Engagement{
		SessionId:    s.GetSessionId(),
		EngagementId: ident.Derived("engagement", axptest.AccountID, s.GetSessionId(), "r-1"),
	}, done
}

func TestAnEndWhileTheChatIsBeingCreated(t *testing.T) {
	t.Run("which then succeeds", func(t *testing.T) {
		r := newRig(t, nil)
		s, slow := r.session(ada), make(chan struct{})
		e, done := r.creating(s, axptest.Fault{Wait: slow, Pass: true})
		r.end(e)
		close(slow)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
		if d := r.axp.Dialogs(s.GetAxpSessionId()); len(d) != 1 || d[0].DialogStatus != axp.DialogTerminated {
			t.Errorf("AXP has %+v", d)
		}
	})
	t.Run("which then fails", func(t *testing.T) {
		r := newRig(t, nil)
		s, slow := r.session(ada), make(chan struct{})
		e, done := r.creating(s, axptest.Fault{Wait: slow, Status: 400})
		r.end(e)
		close(slow)
		r.refused(<-done, axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED)
		r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
		if _, err := r.create(s, "r-2", ""); err != nil {
			t.Errorf("the next chat: %v", err)
		}
	})
}

// TestAnEndOfAChatThatACrashHasLeftHalfMade: AXP has the dialog, but nobody has
// noted it.
func TestAnEndOfAChatThatACrashHasLeftHalfMade(t *testing.T) {
	r := newRig(t, nil)
	s, slow := r.session(ada), make(chan struct{})
	defer close(slow)
	e, _ := r.creating(s, axptest.Fault{Wait: slow, Status: 500})
	made := r.dialogInAXP(s, r.record(e).GetProviderDialogId())
	_, err := r.bus.Engagements.Modify(r.ctx(), bus.EngagementKey(axptest.AccountID, s.GetSessionId(), e.GetEngagementId()),
		func(rec *busv1.EngagementRecord) error {
			rec.AttemptTime = timestamppb.New(time.Now().Add(-time.Hour))
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	r.end(e)
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	if d := r.axp.Dialogs(s.GetAxpSessionId()); len(d) != 1 || d[0].DialogID != made || d[0].DialogStatus != axp.DialogTerminated {
		t.Errorf("AXP has %+v", d)
	}
}

func TestASessionIsNotDeletedBeforeItsChatIsMade(t *testing.T) {
	r := newRig(t, map[string]string{"AXP_CALL_TIMEOUT": "20s"})
	s, slow := r.session(ada), make(chan struct{})
	e, done := r.creating(s, axptest.Fault{Wait: slow, Pass: true})
	_, err := r.remove(s)
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS)
	if r.axp.Sessions() != 1 {
		t.Fatal("AXP's session is gone before its dialog")
	}
	close(slow)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := r.remove(s); err != nil {
		t.Fatal(err)
	}
	ids := r.ids(s.GetSessionId())
	if end, closed := slices.Index(ids, e.GetEngagementId()+".terminated"), slices.Index(ids, "session.closed"); end < 0 || closed < end {
		t.Errorf("journal %v", ids)
	}
	if d := r.axp.Dialogs(s.GetAxpSessionId()); d[0].DialogStatus != axp.DialogTerminated || r.axp.Sessions() != 0 {
		t.Errorf("AXP has %+v and %d sessions", d, r.axp.Sessions())
	}
}

func TestADialogThatComesAfterTheEndIsDisconnected(t *testing.T) {
	r := newRig(t, nil)
	s, slow := r.session(ada), make(chan struct{})
	e, done := r.creating(s, axptest.Fault{Wait: slow, Status: 400})
	key := r.record(e).GetProviderDialogId()
	r.end(e)
	close(slow)
	<-done
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	late := r.dialogInAXP(s, key)
	r.tell(e, "created", &axpchatv1.Event{Payload: &axpchatv1.Event_EngagementCreated{EngagementCreated: &axpchatv1.EngagementCreated{
		AxpEngagementId: r.axp.EngagementOf(late), AxpDialogId: late, AxpSessionId: s.GetAxpSessionId(),
		ProviderDialogId: s.GetSessionId() + "." + e.GetEngagementId(),
	}}})
	r.await("the late dialog is disconnected", func() bool {
		return r.axp.Dialogs(s.GetAxpSessionId())[0].DialogStatus == axp.DialogTerminated
	})
}

func TestALostCallbackOfTheEndIsMadeUpFor(t *testing.T) {
	r := newRig(t, map[string]string{"OUTBOX_REFRESH_AFTER": "50ms"})
	s := r.session(ada)
	e := r.engagement(s)
	r.axp.Activate(e.GetAxpDialogId())
	r.axp.Drop(e.GetAxpDialogId()) // and nobody tells
	m := r.mustSend(e, "m-1", "hello")
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	ev := r.event(s.GetSessionId(), m.GetMessageId()+".failed")
	if got := ev.GetMessageStatusChanged().GetFailure().GetReason(); got != "ENGAGEMENT_ENDED" {
		t.Errorf("the message failed with %q", got)
	}
}

func TestASessionThatACrashHasLeftHalfMadeCanBeDeleted(t *testing.T) {
	r := newRig(t, nil)
	put := func(id string, age time.Duration) *axpchatv1.Session {
		s := &axpchatv1.Session{SessionId: id, Account: axptest.AccountID, Status: axpchatv1.SessionStatus_SESSION_STATUS_CREATING}
		_, err := r.bus.Sessions.Create(r.ctx(), bus.SessionKeyOf(axptest.AccountID, id), &busv1.SessionRecord{
			Session: s, Subject: ada.GetSubject(), AttemptTime: timestamppb.New(time.Now().Add(-age)),
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	_, err := r.remove(put("fresh", 0))
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS)
	got, err := r.remove(put("old", time.Hour))
	if err != nil || got.GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_CLOSED {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAMessageWhoseTimeIsOverIsLookedForBeforeItFails(t *testing.T) {
	r := newRig(t, map[string]string{"OUTBOX_MAX_AGE": "600ms", "OUTBOX_UNCERTAIN_WAIT": "1s"})
	s, e := r.chat()
	r.axp.Fail(axp.OpSendMessage, axptest.Fault{After: true}) // done, but the answer was lost
	m := r.mustSend(e, "m-1", "hello")
	r.event(s.GetSessionId(), m.GetMessageId()+".sent")
	r.wantTexts(e, "hello")
}

func TestAnEntryThatNobodyCanWorkStopsNobody(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	bad := &busv1.OutboxEntry{
		Account: axptest.AccountID, SessionId: s.GetSessionId(), EngagementId: e.GetEngagementId(),
		Command: &busv1.OutboxEntry_Message{Message: &busv1.OutboxMessage{}},
	}
	if _, err := r.bus.PublishOutbox(r.ctx(), bad, "bad"); err != nil {
		t.Fatal(err)
	}
	m := r.mustSend(e, "m-1", "hello")
	r.event(s.GetSessionId(), m.GetMessageId()+".sent")
}
