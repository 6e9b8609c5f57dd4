package orchestrator_test

import (
	"fmt"
	"testing"
	"time"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

func TestAnOutageIsNotHammered(t *testing.T) {
	const open = 300 * time.Millisecond
	r := newRig(t, map[string]string{"AXP_BREAKER_FAILURES": "2", "AXP_BREAKER_OPEN": open.String(), "OUTBOX_RETRY_MAX": "5s", "AXP_CONCURRENCY_MAX": "4"})
	var chats []*axpchatv1.Engagement
	for range 6 {
		_, e := r.chat()
		chats = append(chats, e)
	}
	broken := make([]axptest.Fault, 1000)
	for i := range broken {
		broken[i] = axptest.Fault{Status: 500}
	}
	r.axp.Fail(axp.OpSendMessage, broken...)
	r.axp.Fail(axp.OpListMessages, broken...)
	calls := func() int { return r.axp.Calls(axp.OpSendMessage) + r.axp.Calls(axp.OpListMessages) }
	began := time.Now()
	for i, e := range chats {
		for j := range 3 {
			r.mustSend(e, fmt.Sprintf("m-%d", j), fmt.Sprintf("message %d.%d", i, j))
		}
	}
	// Two failures open the breaker, with three more calls under way at most;
	// then there is one call each time that it is half open.
	const trials = 5
	r.await("AXP is tried some times", func() bool { return calls() >= 5+trials })
	if took := time.Since(began); took < trials*open {
		t.Errorf("%d calls within %v, want them to be one each %v", calls(), took, open)
	}
	r.axp.Heal()
	for i, e := range chats {
		r.await("all messages are in AXP", func() bool { return len(r.axp.Texts(e.GetAxpDialogId())) == 3 })
		r.wantTexts(e, fmt.Sprintf("message %d.0", i), fmt.Sprintf("message %d.1", i), fmt.Sprintf("message %d.2", i))
	}
}

func TestAnOutageFailsCommandsAtOnce(t *testing.T) {
	r := newRig(t, map[string]string{"AXP_BREAKER_FAILURES": "1", "AXP_BREAKER_OPEN": "1m"})
	r.axp.Fail(axp.OpCreateSession, axptest.Fault{Status: 503})
	create := func() error {
		_, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: ada, Request: &axpchatv1.CreateSessionRequest{}})
		return err
	}
	r.refused(create(), axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE)
	for range 5 {
		err := create()
		r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE)
		if after := errs.From(err).RetryAfter; after <= 0 || after > time.Minute {
			t.Errorf("advised to wait %v, want what is left of the minute", after)
		}
	}
	if calls := r.axp.Calls(axp.OpCreateSession); calls != 1 {
		t.Errorf("AXP got %d calls, want 1: the others are held back", calls)
	}
}

func TestWaitingMessagesOfASessionAreBounded(t *testing.T) {
	r := newRig(t, map[string]string{"OUTBOX_MAX_PER_SESSION": "3"})
	s := r.session(ada)
	e := r.engagement(s) // not active yet: what is written waits
	var want []string
	for i := range 3 {
		want = append(want, fmt.Sprintf("message %d", i))
		r.mustSend(e, want[i], want[i])
	}
	_, err := r.send(s.GetSessionId(), e.GetEngagementId(), "more", "more")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED)
	if errs.From(err).RetryAfter <= 0 {
		t.Errorf("got %v, want advice when to try again", err)
	}
	if m, err := r.send(s.GetSessionId(), e.GetEngagementId(), want[0], want[0]); err != nil || m.GetMessageId() == "" {
		t.Errorf("a repeat of what was accepted: %v", err)
	}
	_, other := r.chat()
	r.mustSend(other, "m-1", "of another session")
	r.connect(e)
	r.await("there is room again", func() bool {
		_, err := r.send(s.GetSessionId(), e.GetEngagementId(), "more", "more")
		return err == nil
	})
	r.await("all is in AXP", func() bool { return len(r.axp.Texts(e.GetAxpDialogId())) == 4 })
	r.wantTexts(e, append(want, "more")...)
}
