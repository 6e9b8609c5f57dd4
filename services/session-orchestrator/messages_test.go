package orchestrator_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

func (r *rig) wantTexts(e *axpchatv1.Engagement, want ...string) {
	r.t.Helper()
	if got := r.axp.Texts(e.GetAxpDialogId()); !slices.Equal(got, want) {
		r.t.Errorf("AXP has %v, want %v", got, want)
	}
}

func TestMessagesAreHeldUntilTheChatIsActive(t *testing.T) {
	r := newRig(t, nil)
	s := r.session(ada)
	e := r.engagement(s)
	var want []string
	var last *axpchatv1.Message
	for i := range 20 {
		text := fmt.Sprintf("message %d", i)
		want = append(want, text)
		last = r.mustSend(e, text, text)
		if last.GetStatus() != axpchatv1.MessageStatus_MESSAGE_STATUS_ACCEPTED || last.GetSender().GetDisplayName() != "Ada of the token" {
			t.Fatalf("answered %v", last)
		}
	}
	r.wantTexts(e)
	r.connect(e)
	r.event(s.GetSessionId(), last.GetMessageId()+".sent")
	r.wantTexts(e, want...)
	ids := r.ids(s.GetSessionId())
	if slices.Index(ids, last.GetMessageId()+".accepted") > slices.Index(ids, last.GetMessageId()+".sent") {
		t.Errorf("told in the wrong order: %v", ids)
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != len(r.ids(s.GetSessionId())) {
		t.Errorf("something is told twice: %v", ids)
	}
}

func TestALostCallbackIsMadeUpFor(t *testing.T) {
	r := newRig(t, map[string]string{"OUTBOX_REFRESH_AFTER": "50ms"})
	s := r.session(ada)
	e := r.engagement(s)
	r.axp.Activate(e.GetAxpDialogId()) // and nobody tells
	m := r.mustSend(e, "m-1", "hello")
	r.event(s.GetSessionId(), m.GetMessageId()+".sent")
	r.event(s.GetSessionId(), e.GetEngagementId()+".active")
}

func TestAMessageWaitsForItsChatOnlySoLong(t *testing.T) {
	r := newRig(t, map[string]string{"OUTBOX_HOLD_MAX": "200ms"})
	s := r.session(ada)
	e := r.engagement(s)
	m := r.mustSend(e, "m-1", "hello")
	ev := r.event(s.GetSessionId(), m.GetMessageId()+".failed").GetMessageStatusChanged()
	if ev.GetFailure().GetReason() != "MESSAGE_EXPIRED" || ev.GetClientMessageId() != "m-1" || ev.GetFailure().GetDetail() == "" {
		t.Errorf("got %v", ev)
	}
	r.wantTexts(e)
}

func TestARepeatedMessageIsSentOnce(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	first := r.mustSend(e, "m-1", "hello")
	again := r.mustSend(e, "m-1", "hello")
	if first.GetMessageId() != again.GetMessageId() || !first.GetReceiveTime().AsTime().Equal(again.GetReceiveTime().AsTime()) {
		t.Errorf("answered %v, then %v", first, again)
	}
	_, err := r.send(s.GetSessionId(), e.GetEngagementId(), "m-1", "something else")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED)
	r.event(s.GetSessionId(), first.GetMessageId()+".sent")

	r.end(e)
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	if late, err := r.send(s.GetSessionId(), e.GetEngagementId(), "m-1", "hello"); err != nil || late.GetMessageId() != first.GetMessageId() {
		t.Errorf("a repeat after the end: %v, %v", late, err)
	}
	_, err = r.send(s.GetSessionId(), e.GetEngagementId(), "m-2", "hello")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_ENDED)
	_, err = r.send(s.GetSessionId(), "no-such-chat", "m-3", "hello")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_NOT_FOUND)
	r.wantTexts(e, "hello")
}

func TestTheEndComesAfterWhatWasAccepted(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	r.axp.Fail(axp.OpSendMessage, axptest.Fault{Status: 503}, axptest.Fault{Status: 429, RetryAfter: "0"}) // so that there is something to wait for
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprintf("message %d", i))
		r.mustSend(e, want[i], want[i])
	}
	r.end(e)
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	r.wantTexts(e, want...)
	ids := r.ids(s.GetSessionId())
	if ids[len(ids)-1] != e.GetEngagementId()+".terminated" {
		t.Errorf("the end is not the last: %v", ids)
	}
	if d := r.axp.Dialogs(s.GetAxpSessionId()); d[0].DialogStatus != axp.DialogTerminated {
		t.Errorf("the dialog is %v", d[0].DialogStatus)
	}
}

func TestAnEndBeforeTheChatIsActiveDoesNotWait(t *testing.T) {
	r := newRig(t, nil)
	s := r.session(ada)
	e := r.engagement(s)
	m := r.mustSend(e, "m-1", "hello")
	r.end(e)
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	r.event(s.GetSessionId(), m.GetMessageId()+".sent")
}

func TestAMessageThatAXPRefusesFails(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	r.axp.Fail(axp.OpSendMessage, axptest.Fault{Status: 400})
	bad := r.mustSend(e, "m-1", "bad")
	good := r.mustSend(e, "m-2", "good")
	ev := r.event(s.GetSessionId(), bad.GetMessageId()+".failed").GetMessageStatusChanged()
	if ev.GetFailure().GetReason() != "AXP_REJECTED" || ev.GetStatus() != axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED {
		t.Errorf("got %v", ev)
	}
	r.event(s.GetSessionId(), good.GetMessageId()+".sent")
	r.wantTexts(e, "good")
}

func TestAMessageToADialogThatIsGoneFails(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	r.axp.Fail(axp.OpSendMessage, axptest.Fault{Status: 404})
	r.axp.Fail(axp.OpGetEngagement, axptest.Fault{Status: 404})
	m := r.mustSend(e, "m-1", "hello")
	ev := r.event(s.GetSessionId(), m.GetMessageId()+".failed").GetMessageStatusChanged()
	if ev.GetFailure().GetReason() != "AXP_NOT_FOUND" {
		t.Errorf("got %v", ev)
	}
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
}

func TestAnOutageHoldsMessages(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	r.axp.Fail(axp.OpSendMessage, slices.Repeat([]axptest.Fault{{Status: 429, RetryAfter: "0"}}, 5)...)
	m := r.mustSend(e, "m-1", "hello")
	held := r.event(s.GetSessionId(), m.GetMessageId()+".held").GetMessageStatusChanged()
	if !held.GetHeld() || held.GetStatus() != axpchatv1.MessageStatus_MESSAGE_STATUS_ACCEPTED {
		t.Errorf("got %v", held)
	}
	r.event(s.GetSessionId(), m.GetMessageId()+".sent")
	r.wantTexts(e, "hello")
	n := 0
	for _, id := range r.ids(s.GetSessionId()) {
		if strings.HasSuffix(id, ".held") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("told %d times that the message is held", n)
	}
}

func TestAnUnclearSendIsNotRepeatedBlindly(t *testing.T) {
	for name, fault := range map[string]axptest.Fault{
		"done, but AXP answered with a fault": {Status: 500, After: true},
		"done, but the answer was lost":       {After: true},
		"not done":                            {Status: 500},
		"not done, connection cut":            {},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			s, e := r.chat()
			r.axp.Fail(axp.OpSendMessage, fault)
			r.mustSend(e, "m-1", "one")
			last := r.mustSend(e, "m-2", "two")
			r.event(s.GetSessionId(), last.GetMessageId()+".sent")
			r.wantTexts(e, "one", "two")
		})
	}
}

// TestALookGrowsOld: AXP takes a message in late, between our look for it and the
// next try, which something else has put off. So each try needs a look of its own.
func TestALookGrowsOld(t *testing.T) {
	for name, vars := range map[string]map[string]string{
		"the try is repeated by the outbox":     {"AXP_MAX_ATTEMPTS": "1"},
		"the try is repeated by the AXP client": {"AXP_MAX_ATTEMPTS": "3", "AXP_BACKOFF_MIN": "10ms"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, vars)
			s, e := r.chat()
			held := make(chan struct{})
			r.axp.Fail(axp.OpSendMessage, axptest.Fault{Status: 500, Late: true}, axptest.Fault{Status: 429, RetryAfter: "0", Wait: held})
			r.mustSend(e, "m-1", "one")
			last := r.mustSend(e, "m-2", "two")
			r.await("the second try, after a look in vain", func() bool { return r.axp.Calls(axp.OpSendMessage) == 2 })
			r.axp.CatchUp()
			close(held)
			r.event(s.GetSessionId(), last.GetMessageId()+".sent")
			r.wantTexts(e, "one", "two")
		})
	}
}

// TestTheLastMomentIsLongEnoughToLook: the time of a message is over when the
// outcome of its only try is not clear. It is told to have failed only where AXP,
// given time to show it, does not.
func TestTheLastMomentIsLongEnoughToLook(t *testing.T) {
	r := newRig(t, map[string]string{"OUTBOX_MAX_AGE": "500ms", "OUTBOX_UNCERTAIN_WAIT": "1s"})
	s, e := r.chat()
	held := make(chan struct{})
	r.axp.Fail(axp.OpSendMessage, axptest.Fault{Status: 500, Late: true, Wait: held})
	m := r.mustSend(e, "m-1", "hello")
	<-time.After(600 * time.Millisecond) // its time is over
	close(held)
	r.await("AXP has taken it in", func() bool {
		r.axp.CatchUp()
		return len(r.axp.Texts(e.GetAxpDialogId())) > 0
	})
	r.event(s.GetSessionId(), m.GetMessageId()+".sent")
	r.wantTexts(e, "hello")
}

func TestARestartSendsWhatWasAcceptedOnce(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	stuck := make(chan struct{})
	defer close(stuck)
	// The first message takes effect, but the orchestrator ends before it hears.
	r.axp.Fail(axp.OpSendMessage, axptest.Fault{After: true})
	r.axp.Fail(axp.OpListMessages, axptest.Fault{Wait: stuck})
	r.mustSend(e, "m-1", "one")
	r.mustSend(e, "m-2", "two")
	last := r.mustSend(e, "m-3", "three")
	r.await("the orchestrator looks for the first message", func() bool { return r.axp.Calls(axp.OpListMessages) == 1 })
	r.stop()
	r.axp.Heal()
	r.start(nil)
	r.event(s.GetSessionId(), last.GetMessageId()+".sent")
	r.wantTexts(e, "one", "two", "three")
}

func TestAMessageThatIsTooOldFails(t *testing.T) {
	r := newRig(t, map[string]string{"OUTBOX_MAX_AGE": "300ms"})
	s, e := r.chat()
	r.axp.Fail(axp.OpSendMessage, slices.Repeat([]axptest.Fault{{Status: 429, RetryAfter: "0"}}, 1000)...)
	m := r.mustSend(e, "m-1", "hello")
	ev := r.event(s.GetSessionId(), m.GetMessageId()+".failed").GetMessageStatusChanged()
	if ev.GetFailure().GetReason() != "MESSAGE_EXPIRED" {
		t.Errorf("got %v", ev)
	}
}

func TestRefusedCredentialsKeepTheMessage(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	r.axp.Fail(axp.OpSendMessage, slices.Repeat([]axptest.Fault{{Status: 401}}, 4)...)
	m := r.mustSend(e, "m-1", "hello")
	r.event(s.GetSessionId(), m.GetMessageId()+".held")
	r.event(s.GetSessionId(), m.GetMessageId()+".sent") // once an operator has mended them
	r.wantTexts(e, "hello")
}

// TestAReplicaDies cuts one of two replicas off in the middle of its work: the
// other one takes over, and AXP has every message once and in order.
func TestAReplicaDies(t *testing.T) {
	r := newRig(t, nil)
	t.Cleanup(r.kill) // it can't end well: it has nothing to end with
	survivor := &rig{t: t, axp: r.axp, nats: r.nats}
	survivor.start(nil)
	const chats, each = 6, 15
	var (
		open []*axpchatv1.Engagement
		last []*axpchatv1.Message
		want []string
	)
	for range chats {
		_, e := survivor.chat()
		open = append(open, e)
	}
	for i := range each {
		want = append(want, fmt.Sprintf("message %d", i))
		last = last[:0]
		for _, e := range open {
			last = append(last, survivor.mustSend(e, want[i], want[i]))
		}
		if i == each/2 {
			r.bus.NC.Close() // as seen from outside, the process is dead
		}
	}
	for i, e := range open {
		survivor.event(e.GetSessionId(), last[i].GetMessageId()+".sent")
		survivor.wantTexts(e, want...)
	}
}
