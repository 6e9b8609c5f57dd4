package orchestrator_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/status"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

func (r *rig) create(s *axpchatv1.Session, requestID, conversation string) (*axpchatv1.Engagement, error) {
	res, err := r.client.CreateEngagement(r.ctx(), &orchestratorv1.CreateEngagementRequest{Caller: ada, Request: &axpchatv1.CreateEngagementRequest{
		SessionId: s.GetSessionId(), RequestId: requestID, Conversation: conversation,
	}})
	return res.GetResponse().GetEngagement(), err
}

func TestCreateEngagementBindsTheDialogWithOurKey(t *testing.T) {
	r := newRig(t, nil)
	s := r.session(ada)
	e, err := r.create(s, "r-1", "bikes")
	if err != nil {
		t.Fatal(err)
	}
	d := r.axp.Dialogs(s.GetAxpSessionId())
	if len(d) != 1 || d[0].DialogID != e.GetAxpDialogId() || d[0].ProviderDialogID != r.record(e).GetProviderDialogId() {
		t.Fatalf("dialogs %+v, engagement %v", d, e)
	}
	if !strings.HasPrefix(d[0].ProviderDialogID, s.GetSessionId()+"."+e.GetEngagementId()+".") {
		t.Errorf("providerDialogId %q", d[0].ProviderDialogID)
	}
	if e.GetStatus() != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_PENDING || e.GetChannelId() != "Chat" || e.GetConversation() != "bikes" {
		t.Errorf("got %v", e)
	}
	if got := r.record(e).GetCustomerConnectionId(); got != d[0].Connections[0].ConnectionID {
		t.Errorf("our connection %q", got)
	}
	for _, key := range []string{bus.IndexDialog(axptest.AccountID, e.GetAxpDialogId()), bus.IndexEngagement(axptest.AccountID, e.GetAxpEngagementId())} {
		index, _, err := r.bus.Index.Get(r.ctx(), key)
		if err != nil || index.GetEngagementId() != e.GetEngagementId() {
			t.Errorf("index %v, %v", index, err)
		}
	}
	again, err := r.create(s, "r-1", "bikes")
	if err != nil || again.GetEngagementId() != e.GetEngagementId() {
		t.Errorf("a repeat: %v, %v", again, err)
	}
	_, err = r.create(s, "r-1", "cars")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED)
}

func TestASessionHasOneOpenChat(t *testing.T) {
	r := newRig(t, nil)
	s := r.session(ada)
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		made  []*axpchatv1.Engagement
	)
	for range 6 {
		group.Go(func() {
			e, err := r.create(s, "", "")
			if err != nil {
				r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_OPEN)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			made = append(made, e)
		})
	}
	group.Wait()
	if len(made) != 1 || len(r.axp.Dialogs(s.GetAxpSessionId())) != 1 {
		t.Fatalf("%d chats made, AXP has %d dialogs", len(made), len(r.axp.Dialogs(s.GetAxpSessionId())))
	}
	_, err := r.create(s, "", "")
	if st, _ := status.FromError(err); !strings.Contains(st.Message(), made[0].GetEngagementId()) {
		t.Errorf("the error does not name the open chat: %v", err)
	}
	r.connect(made[0])
	r.end(made[0])
	next, err := r.create(s, "", "") // at once: the end is waited for
	if err != nil || next.GetEngagementId() == made[0].GetEngagementId() {
		t.Errorf("after the end: %v, %v", next, err)
	}
	list, err := r.client.ListEngagements(r.ctx(), &orchestratorv1.ListEngagementsRequest{Caller: ada, Request: &axpchatv1.ListEngagementsRequest{SessionId: s.GetSessionId()}})
	if err != nil || len(list.GetResponse().GetEngagements()) != 2 || list.GetResponse().GetEngagements()[1].GetEngagementId() != next.GetEngagementId() {
		t.Errorf("list %v, %v", list, err)
	}
}

func TestAnUnclearCreationIsAdopted(t *testing.T) {
	for name, fault := range map[string]axptest.Fault{
		"AXP answered with a fault":   {Status: 500, After: true},
		"the connection was cut":      {After: true},
		"it did not reach AXP at all": {Status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			s := r.session(ada)
			r.axp.Fail(axp.OpCreateEngagement, fault)
			e, err := r.create(s, "", "")
			if err != nil {
				t.Fatal(err)
			}
			d := r.axp.Dialogs(s.GetAxpSessionId())
			if len(d) != 1 || d[0].DialogID != e.GetAxpDialogId() {
				t.Errorf("engagement %v, dialogs %+v", e, d)
			}
		})
	}
}

func TestACreationThatNobodyCanTellIsSettledByTheRepeat(t *testing.T) {
	r := newRig(t, nil)
	s := r.session(ada)
	r.axp.Fail(axp.OpCreateEngagement, axptest.Fault{Status: 500, After: true})
	r.axp.Fail(axp.OpListEngagements, axptest.Fault{Status: 500})
	_, err := r.create(s, "r-1", "")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE)
	e, err := r.create(s, "r-1", "")
	if err != nil || len(r.axp.Dialogs(s.GetAxpSessionId())) != 1 {
		t.Errorf("got %v, %v", e, err)
	}
}

func TestASurplusDialogIsDisconnected(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	// The first of two calls took effect after all, later.
	other := r.engagementInAXP(s, e)
	r.tell(e, "created", &axpchatv1.Event{Payload: &axpchatv1.Event_EngagementCreated{EngagementCreated: &axpchatv1.EngagementCreated{
		AxpEngagementId: e.GetAxpEngagementId(), AxpDialogId: other, AxpSessionId: s.GetAxpSessionId(),
		ProviderDialogId: s.GetSessionId() + "." + e.GetEngagementId(),
	}}})
	r.await("the surplus dialog is disconnected", func() bool {
		return slices.ContainsFunc(r.axp.Dialogs(s.GetAxpSessionId()), func(d axp.Dialog) bool {
			return d.DialogID == other && d.DialogStatus == axp.DialogTerminated
		})
	})
	if got := r.record(e).GetEngagement().GetStatus(); got != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ACTIVE {
		t.Errorf("the chat is %v", got)
	}
}

// engagementInAXP makes one more dialog with the engagement's key.
func (r *rig) engagementInAXP(s *axpchatv1.Session, e *axpchatv1.Engagement) string {
	r.t.Helper()
	return r.dialogInAXP(s, r.record(e).GetProviderDialogId())
}

// dialogInAXP makes a dialog behind the orchestrator's back.
func (r *rig) dialogInAXP(s *axpchatv1.Session, key string) string {
	r.t.Helper()
	had := map[string]bool{}
	for _, d := range r.axp.Dialogs(s.GetAxpSessionId()) {
		had[d.DialogID] = true
	}
	client, err := axp.NewClient(axp.Params{Account: r.axp.Account()})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	made, err := client.CreateEngagement(r.ctx(), axp.CreateEngagement{SessionID: s.GetAxpSessionId(), ProviderDialogID: key})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, d := range made.Dialogs {
		if !had[d.DialogID] {
			return d.DialogID
		}
	}
	r.t.Fatal("no new dialog")
	return ""
}

func TestTheEndIsToldOnce(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	if got := r.end(e).GetStatus(); got != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ENDING && got != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_TERMINATED {
		t.Errorf("answered %v", got)
	}
	ev := r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	if got := ev.GetEngagementTerminated().GetReason(); got != axpchatv1.CloseReason_CLOSE_REASON_USER_CLOSED {
		t.Errorf("reason %v", got)
	}
	r.disconnect(e) // AXP's callback of the same
	r.await("the callback is worked", func() bool {
		return len(r.record(e).GetEngagement().GetParticipants()) == 1 && !r.record(e).GetEngagement().GetParticipants()[0].GetConnected()
	})
	if got := r.end(e).GetStatus(); got != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_TERMINATED {
		t.Errorf("a repeat is answered %v", got)
	}
	n := 0
	for _, id := range r.ids(s.GetSessionId()) {
		if id == e.GetEngagementId()+".terminated" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the end is told %d times", n)
	}
}

func TestAnAgentsSideEnds(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	agent := func(connected bool) *axpchatv1.ParticipantChanged {
		return &axpchatv1.ParticipantChanged{AxpDialogId: e.GetAxpDialogId(), Participant: &axpchatv1.Participant{
			ConnectionId: "agent", ParticipantType: axpchatv1.ParticipantType_PARTICIPANT_TYPE_AGENT, Connected: connected,
		}}
	}
	r.tell(e, "agent", &axpchatv1.Event{Payload: &axpchatv1.Event_ParticipantAdded{ParticipantAdded: agent(true)}})
	r.tell(e, "agent-left", &axpchatv1.Event{Payload: &axpchatv1.Event_ParticipantDisconnected{ParticipantDisconnected: agent(false)}})
	r.await("the agent has left", func() bool {
		ps := r.record(e).GetEngagement().GetParticipants()
		return slices.ContainsFunc(ps, func(p *axpchatv1.Participant) bool {
			return p.GetConnectionId() == "agent" && !p.GetConnected() && p.GetLeaveTime() != nil
		})
	})
	if got := r.record(e).GetEngagement().GetStatus(); got != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ACTIVE {
		t.Fatalf("an agent leaving makes the chat %v", got)
	}
	r.disconnect(e)
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	_, err := r.send(s.GetSessionId(), e.GetEngagementId(), "late", "too late")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_ENDED)
}

func TestAnEngagementErrorFailsTheChat(t *testing.T) {
	r := newRig(t, nil)
	s := r.session(ada)
	e := r.engagement(s)
	m := r.mustSend(e, "m-1", "held")
	r.tell(e, "error", &axpchatv1.Event{Payload: &axpchatv1.Event_EngagementError{EngagementError: &axpchatv1.EngagementError{
		Type: "ENGAGEMENT_CREATION_FAILED", Title: "no queue",
	}}})
	ev := r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	if got := ev.GetEngagementTerminated().GetEngagement().GetStatus(); got != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_FAILED {
		t.Errorf("the event says %v", got)
	}
	failed := r.event(s.GetSessionId(), m.GetMessageId()+".failed")
	if got := failed.GetMessageStatusChanged().GetFailure().GetReason(); got != "ENGAGEMENT_ENDED" {
		t.Errorf("the held message failed with %q", got)
	}
}

func TestASecondDeviceJoins(t *testing.T) {
	r := newRig(t, nil)
	first, e := r.chat()
	second := r.session(ada)
	join := func() (*axpchatv1.Engagement, error) {
		res, err := r.client.JoinEngagement(r.ctx(), &orchestratorv1.JoinEngagementRequest{Caller: ada, Request: &axpchatv1.JoinEngagementRequest{
			SessionId: second.GetSessionId(), OwnerSessionId: first.GetSessionId(), EngagementId: e.GetEngagementId(),
		}})
		return res.GetResponse().GetEngagement(), err
	}
	_, err := r.send(second.GetSessionId(), e.GetEngagementId(), "m-0", "not yet")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_NOT_FOUND)
	for range 2 {
		got, err := join()
		if err != nil || !slices.Equal(got.GetJoinedSessionIds(), []string{second.GetSessionId()}) {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	if n := r.axp.Calls(axp.OpJoinEngagement); n != 1 {
		t.Errorf("AXP was asked %d times", n)
	}
	m, err := r.send(second.GetSessionId(), e.GetEngagementId(), "m-1", "from the second")
	if err != nil {
		t.Fatal(err)
	}
	r.event(first.GetSessionId(), m.GetMessageId()+".sent") // in the journal of the first
	res, err := r.client.GetEngagement(r.ctx(), &orchestratorv1.GetEngagementRequest{Caller: ada, Request: &axpchatv1.GetEngagementRequest{
		SessionId: second.GetSessionId(), EngagementId: e.GetEngagementId(),
	}})
	if err != nil || res.GetResponse().GetEngagement().GetSessionId() != first.GetSessionId() {
		t.Errorf("got %v, %v", res, err)
	}
}

func TestAttachmentsBelongToTheirSession(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	res, err := r.client.CreateAttachment(r.ctx(), &orchestratorv1.CreateAttachmentRequest{Caller: ada, Request: &axpchatv1.CreateAttachmentRequest{
		SessionId: s.GetSessionId(), Name: "bike.png", ContentType: "image/png", Size: 12,
	}})
	if err != nil {
		t.Fatal(err)
	}
	made := res.GetResponse().GetAttachment()
	if !strings.HasPrefix(made.GetUploadUrl(), r.axp.URL+"/api/media-store/v1/media/") {
		t.Errorf("upload address %q is not absolute", made.GetUploadUrl())
	}
	get := func(session, media string) (*axpchatv1.Attachment, error) {
		res, err := r.client.GetAttachment(r.ctx(), &orchestratorv1.GetAttachmentRequest{Caller: ada, Request: &axpchatv1.GetAttachmentRequest{
			SessionId: session, AttachmentId: media,
		}})
		return res.GetResponse().GetAttachment(), err
	}
	got, err := get(s.GetSessionId(), made.GetAttachmentId())
	if err != nil || got.GetName() != "bike.png" || got.GetSize() != 12 || !strings.HasPrefix(got.GetDownloadUrl(), r.axp.URL) {
		t.Errorf("got %v, %v", got, err)
	}
	other := r.session(ada)
	_, err = get(other.GetSessionId(), made.GetAttachmentId())
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_ATTACHMENT_NOT_FOUND)

	// A file in an agent's message may be opened once the message is there.
	r.tell(e, "file", &axpchatv1.Event{Payload: &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{
		MessageId: "axp-message", Attachments: []*axpchatv1.MessageAttachment{{MediaId: "unknown to AXP"}},
	}}})
	r.await("the file is known", func() bool {
		_, err := get(s.GetSessionId(), "unknown to AXP")
		return err != nil && r.axp.Calls(axp.OpSignedDownloadURI) == 2
	})
}
