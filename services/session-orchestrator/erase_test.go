package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

const operatorToken = "an-operators-token-of-the-tests-0123456789"

// eraseRig is a rig whose NATS keeps its files where the test can read them, with
// the operators' service.
type eraseRig struct {
	*rig
	dir string
}

func newEraseRig(t *testing.T, vars map[string]string) *eraseRig {
	t.Helper()
	r := &eraseRig{dir: t.TempDir()}
	server, err := natsembed.Start(r.dir, natsembed.Options{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	r.rig = &rig{t: t, axp: axptest.Start(t), nats: server}
	r.start(withOperators(vars))
	return r
}

func withOperators(vars map[string]string) map[string]string {
	out := map[string]string{"OPERATOR_ADDR": "127.0.0.1:0", "OPERATOR_TOKEN": operatorToken}
	maps.Copy(out, vars)
	return out
}

// operator is a client of the operators' service.
func (r *rig) operator(token string) (orchestratorv1.PrivacyServiceClient, context.Context) {
	r.t.Helper()
	conn, err := grpc.NewClient(r.operators, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return orchestratorv1.NewPrivacyServiceClient(conn), metadata.AppendToOutgoingContext(r.ctx(), "authorization", "Bearer "+token)
}

func (r *rig) erase(session string) *orchestratorv1.Erasure {
	r.t.Helper()
	client, ctx := r.operator(operatorToken)
	resp, err := client.EraseSession(ctx, &orchestratorv1.EraseSessionRequest{Account: axptest.AccountID, SessionId: session})
	if err != nil {
		r.t.Fatalf("erase: %v", err)
	}
	return resp.GetErasure()
}

// erased checks that an erasure says that it is done.
func (r *rig) erased(e *orchestratorv1.Erasure) {
	r.t.Helper()
	if !e.GetDone() || len(e.GetLeft()) != 0 || e.GetDoneTime() == nil || e.GetPending() != "" {
		r.t.Errorf("erasure %v, want it done and nothing left", e)
	}
}

// stored is everything that NATS holds, by stream, as text.
func (r *rig) stored() map[string]string {
	r.t.Helper()
	out := map[string]string{}
	names := r.bus.JS.StreamNames(r.ctx())
	for name := range names.Name() {
		stream, err := r.bus.JS.Stream(r.ctx(), name)
		if err != nil {
			r.t.Fatal(err)
		}
		for at := uint64(0); ; {
			m, err := stream.GetMsg(r.ctx(), at, jetstream.WithGetMsgSubject(">"))
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break
			}
			if err != nil {
				r.t.Fatal(err)
			}
			out[name] += fmt.Sprintf("%s %v %s\n", m.Subject, m.Header, m.Data)
			at = m.Sequence + 1
		}
	}
	if err := names.Err(); err != nil {
		r.t.Fatal(err)
	}
	return out
}

// holds tells in which streams a text is.
func (r *rig) holds(text string) []string {
	r.t.Helper()
	var in []string
	for name, all := range r.stored() {
		if strings.Contains(all, text) {
			in = append(in, name)
		}
	}
	return in
}

// onDisk tells in which files of NATS a text is.
func (r *eraseRig) onDisk(text string) []string {
	r.t.Helper()
	var in []string
	err := filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), text) {
			in = append(in, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) { // NATS removes files meanwhile
		r.t.Fatal(err)
	}
	return in
}

// written is a chat in which everything is marked that could be told of somebody.
func (r *eraseRig) written() (*axpchatv1.Session, *axpchatv1.Engagement) {
	r.t.Helper()
	res, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: caller("Mark-subject"), Request: &axpchatv1.CreateSessionRequest{
		RequestId: "log-in", DisplayName: "Mark-name", SessionParameters: map[string]string{"page": "Mark-parameter"},
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	s := res.GetResponse().GetSession()
	// A creation that AXP refuses leaves the mark of a deletion behind.
	r.axp.Fail(axp.OpCreateEngagement, axptest.Fault{Status: http.StatusBadRequest})
	if _, err := r.client.CreateEngagement(r.ctx(), &orchestratorv1.CreateEngagementRequest{Caller: caller("Mark-subject"), Request: &axpchatv1.CreateEngagementRequest{
		SessionId: s.GetSessionId(), RequestId: "refused",
	}}); errs.From(err).Reason != axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED {
		r.t.Fatalf("a creation that AXP refuses: %v", err)
	}
	made, err := r.client.CreateEngagement(r.ctx(), &orchestratorv1.CreateEngagementRequest{Caller: caller("Mark-subject"), Request: &axpchatv1.CreateEngagementRequest{
		SessionId: s.GetSessionId(), EngagementParameters: map[string]string{"order": "Mark-order"},
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	e := made.GetResponse().GetEngagement()
	r.connect(e)
	m := r.says(e, "one", "Mark-text one")
	r.event(s.GetSessionId(), m.GetMessageId()+".sent")
	r.tell(e, "said", &axpchatv1.Event{Payload: &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{
		MessageId: "said", Body: &axpchatv1.MessageBody{ElementText: &axpchatv1.ElementText{Text: "Mark-answer"}},
		Attachments: []*axpchatv1.MessageAttachment{{MediaId: "file"}},
	}}})
	for _, raw := range []string{
		`{"eventType":"MESSAGES","dialogId":"` + e.GetAxpDialogId() + `","accountId":"` + axptest.AccountID + `","messageId":"x","body":"Mark-set-aside"}`,
		`{"note":"Mark-set-aside","of":"` + s.GetSessionId() + `"}`,
	} {
		if _, err := r.bus.PublishUnrouted(r.ctx(), &busv1.UnroutedRecord{Account: axptest.AccountID, Raw: []byte(raw)}, raw); err != nil {
			r.t.Fatal(err)
		}
	}
	r.keep(s.GetSessionId(), "Mark-aside")
	ticket := &busv1.TicketRecord{Account: axptest.AccountID, SessionId: s.GetSessionId(), Subject: "Mark-subject", Name: "Mark-name"}
	if _, err := r.bus.Tickets.Create(r.ctx(), "ticket", ticket, time.Minute); err != nil {
		r.t.Fatal(err)
	}
	return s, e
}

func (r *rig) says(e *axpchatv1.Engagement, id, text string) *axpchatv1.Message {
	r.t.Helper()
	res, err := r.client.SendMessage(r.ctx(), &orchestratorv1.SendMessageRequest{Caller: caller("Mark-subject"), Request: &axpchatv1.SendMessageRequest{
		SessionId: e.GetSessionId(), EngagementId: e.GetEngagementId(), ClientMessageId: id, Text: text, CustomData: map[string]string{"note": "Mark-data"},
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	return res.GetResponse().GetMessage()
}

// TestErasingARunningChatLeavesNothing: it is ended in AXP, and then gone from
// every stream and bucket; what was said is overwritten on the disk.
func TestErasingARunningChatLeavesNothing(t *testing.T) {
	t.Parallel()
	r := newEraseRig(t, nil)
	other, chat := r.chat()
	r.mustSend(chat, "stays", "somebody else's words")
	s, e := r.written()
	for _, text := range []string{"Mark-text", "Mark-answer", "Mark-set-aside", "Mark-aside", "Mark-name", "Mark-subject", "Mark-parameter", "Mark-order", "Mark-data"} {
		if len(r.holds(text)) == 0 {
			t.Errorf("%s is nowhere before it is erased: the test would prove nothing", text)
		}
	}
	if len(r.onDisk("Mark-text")) == 0 || len(r.onDisk("Mark-answer")) == 0 {
		t.Error("what was said is in no file before it is erased: the test would prove nothing")
	}
	proof := r.erase(s.GetSessionId())
	r.erased(proof)
	for kind, least := range map[string]int64{"events": 5, "unrouted": 2, "aside": 1, "tickets": 1, "sent": 1, "media": 1, "engagements": 1, "sessions": 1, "timers": 1} {
		if proof.GetErased()[kind] < least {
			t.Errorf("erased %d of %s, want at least %d (%v)", proof.GetErased()[kind], kind, least, proof.GetErased())
		}
	}
	if !proof.GetEndedInAxp() || r.axp.Calls(axp.OpDisconnectEngagement) == 0 {
		t.Errorf("the chat was not ended in AXP: %v", proof)
	}
	if got := r.axp.Deleted(); len(got) != 1 || got[0] != s.GetAxpSessionId() {
		t.Errorf("deleted in AXP: %v, want %s", got, s.GetAxpSessionId())
	}
	if in := r.holds("Mark-"); len(in) != 0 {
		t.Errorf("still in %v", in)
	}
	if in := r.holds(e.GetEngagementId() + " "); len(in) != 0 {
		t.Errorf("its engagement is still in %v", in)
	}
	for _, text := range []string{"Mark-text", "Mark-answer", "Mark-set-aside", "Mark-aside", "Mark-data"} {
		if in := r.onDisk(text); len(in) != 0 {
			t.Errorf("%s is still in %v", text, in)
		}
	}
	again := r.erase(s.GetSessionId())
	r.erased(again)
	if fmt.Sprint(again.GetErased()) != fmt.Sprint(proof.GetErased()) || !again.GetDoneTime().AsTime().Equal(proof.GetDoneTime().AsTime()) {
		t.Errorf("the second time: %v, want what the first one says: %v", again, proof)
	}
	if len(r.journal(other.GetSessionId())) == 0 || len(r.holds("somebody else's words")) == 0 {
		t.Error("another customer's chat is gone, too")
	}
	_, err := r.client.GetSession(r.ctx(), &orchestratorv1.GetSessionRequest{Caller: caller("Mark-subject"), Request: &axpchatv1.GetSessionRequest{SessionId: s.GetSessionId()}})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND)
	_, err = r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: caller("Mark-subject"), Request: &axpchatv1.CreateSessionRequest{
		RequestId: "log-in", DisplayName: "Mark-name", SessionParameters: map[string]string{"page": "Mark-parameter"},
	}})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND)
	_, err = r.send(s.GetSessionId(), e.GetEngagementId(), "late", "Mark-text late")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND)
}

// TestErasingAChatThatIsOver: nothing is left to be ended.
func TestErasingAChatThatIsOver(t *testing.T) {
	t.Parallel()
	r := newEraseRig(t, nil)
	s, _ := r.written()
	_, err := r.client.DeleteSession(r.ctx(), &orchestratorv1.DeleteSessionRequest{Caller: caller("Mark-subject"), Request: &axpchatv1.DeleteSessionRequest{SessionId: s.GetSessionId()}})
	if err != nil {
		t.Fatal(err)
	}
	r.erased(r.erase(s.GetSessionId()))
	if in := r.holds("Mark-"); len(in) != 0 {
		t.Errorf("still in %v", in)
	}
	if got := len(r.axp.Deleted()); got != 1 {
		t.Errorf("deleted %d times in AXP, want once", got)
	}
}

// TestErasingACustomer takes every session of his and nobody else's.
func TestErasingACustomer(t *testing.T) {
	t.Parallel()
	r := newEraseRig(t, nil)
	kept := r.session(caller("bob"))
	r.written()
	second, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: caller("Mark-subject"), Request: &axpchatv1.CreateSessionRequest{DisplayName: "Mark-name"}})
	if err != nil {
		t.Fatal(err)
	}
	client, ctx := r.operator(operatorToken)
	resp, err := client.EraseCustomer(ctx, &orchestratorv1.EraseCustomerRequest{Account: axptest.AccountID, Subject: "Mark-subject"})
	if err != nil {
		t.Fatal(err)
	}
	if !resp.GetDone() || len(resp.GetErasures()) != 2 {
		t.Errorf("answer %v, want two sessions, done", resp)
	}
	for _, e := range resp.GetErasures() {
		r.erased(e)
	}
	if in := r.holds("Mark-"); len(in) != 0 {
		t.Errorf("still in %v", in)
	}
	for _, id := range []string{second.GetResponse().GetSession().GetAxpSessionId()} {
		if !strings.Contains(fmt.Sprint(r.axp.Deleted()), id) {
			t.Errorf("session %s is still in AXP", id)
		}
	}
	if _, err := r.client.GetSession(r.ctx(), &orchestratorv1.GetSessionRequest{Caller: caller("bob"), Request: &axpchatv1.GetSessionRequest{SessionId: kept.GetSessionId()}}); err != nil {
		t.Errorf("another customer's session: %v", err)
	}
	resp, err = client.EraseCustomer(ctx, &orchestratorv1.EraseCustomerRequest{Account: axptest.AccountID, Subject: "Mark-subject"})
	if err != nil || !resp.GetDone() || len(resp.GetErasures()) != 0 {
		t.Errorf("the second time: %v, %v, want nothing to be done", resp, err)
	}
	// He may come back: it is what was that is erased.
	if _, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: caller("Mark-subject"), Request: &axpchatv1.CreateSessionRequest{RequestId: "anew"}}); err != nil {
		t.Errorf("a new session afterwards: %v", err)
	}
}

// TestErasingWaitsForAXP: the agent's side must be ended first, unless the operator
// insists.
func TestErasingWaitsForAXP(t *testing.T) {
	t.Parallel()
	r := newEraseRig(t, nil)
	s, _ := r.written()
	for _, operation := range []string{axp.OpDisconnectEngagement, axp.OpDeleteSession} {
		r.axp.Fail(operation, slices.Repeat([]axptest.Fault{{Status: http.StatusServiceUnavailable}}, 1000)...)
	}
	proof := r.erase(s.GetSessionId())
	if proof.GetDone() || proof.GetPending() == "" || proof.GetErased()["sessions"] != 0 {
		t.Errorf("proof %v, want it pending and the session there", proof)
	}
	if len(r.holds("Mark-text")) == 0 {
		t.Error("erased although AXP does not know")
	}
	client, ctx := r.operator(operatorToken)
	resp, err := client.EraseSession(ctx, &orchestratorv1.EraseSessionRequest{Account: axptest.AccountID, SessionId: s.GetSessionId(), Force: true})
	if err != nil {
		t.Fatal(err)
	}
	r.erased(resp.GetErasure())
	if resp.GetErasure().GetEndedInAxp() {
		t.Error("it says that AXP knows")
	}
	if in := r.holds("Mark-"); len(in) != 0 {
		t.Errorf("still in %v", in)
	}
}

// TestACrashInTheMiddleOfAnErasureIsMadeGood: whatever step it happens at, the
// reaper of another process carries the order out.
func TestACrashInTheMiddleOfAnErasureIsMadeGood(t *testing.T) {
	t.Parallel()
	for _, state := range []busv1.ErasureState{busv1.ErasureState_ERASURE_STATE_CLOSING, busv1.ErasureState_ERASURE_STATE_ERASING} {
		t.Run(state.String(), func(t *testing.T) {
			t.Parallel()
			r := newEraseRig(t, nil)
			s, _ := r.written()
			r.stop()
			// What the process had done when it died: the order, and a part of the rest.
			rest := bustest.Connect(t, r.nats, bustest.Config())
			order := &busv1.ErasureRecord{
				Account: axptest.AccountID, SessionId: s.GetSessionId(), State: state, OrderTime: timestamppb.New(time.Now().Add(-time.Hour)),
			}
			if _, err := rest.Erasures.Create(r.ctx(), bus.ErasedKey(axptest.AccountID, s.GetSessionId()), order); err != nil {
				t.Fatal(err)
			}
			if state == busv1.ErasureState_ERASURE_STATE_ERASING {
				if _, err := rest.Sessions.Erase(r.ctx(), bus.SessionKeyOf(axptest.AccountID, s.GetSessionId())); err != nil {
					t.Fatal(err)
				}
			}
			r.start(withOperators(map[string]string{"REAPER_INTERVAL": "1s", "REAPER_RATE": "100"}))
			r.await("the erasure", func() bool {
				rec, _, err := rest.Erasures.Get(r.ctx(), bus.ErasedKey(axptest.AccountID, s.GetSessionId()))
				return err == nil && rec.GetState() == busv1.ErasureState_ERASURE_STATE_DONE
			})
			if in := r.holds("Mark-"); len(in) != 0 {
				t.Errorf("still in %v", in)
			}
		})
	}
}

// TestAnInterruptedOrderIsGoneOnWith: the operator gives up in the middle.
func TestAnInterruptedOrderIsGoneOnWith(t *testing.T) {
	t.Parallel()
	r := newEraseRig(t, nil)
	s, _ := r.written()
	client, ctx := r.operator(operatorToken)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err := client.EraseSession(short, &orchestratorv1.EraseSessionRequest{Account: axptest.AccountID, SessionId: s.GetSessionId()})
	if err == nil {
		t.Fatal("it was done within 20ms: nothing was interrupted")
	}
	r.erased(r.erase(s.GetSessionId()))
	if in := r.holds("Mark-"); len(in) != 0 {
		t.Errorf("still in %v", in)
	}
}

// TestWhatComesLateForAnErasedSessionIsNotKept: webhook-ingest asks nobody before
// it stores an event, so the projector removes it.
func TestWhatComesLateForAnErasedSessionIsNotKept(t *testing.T) {
	t.Parallel()
	r := newEraseRig(t, nil)
	s, e := r.written()
	r.erased(r.erase(s.GetSessionId()))
	ingest := bustest.Connect(t, r.nats, bustest.Config()) // follows no erasures
	for i := range 20 {
		ev := &axpchatv1.Event{
			EventId: fmt.Sprint("late", i), SessionId: s.GetSessionId(), EngagementId: e.GetEngagementId(),
			Payload: &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{
				Body: &axpchatv1.MessageBody{ElementText: &axpchatv1.ElementText{Text: "Mark-late"}}, Attachments: []*axpchatv1.MessageAttachment{{MediaId: "late"}},
			}},
		}
		if _, err := ingest.PublishEvent(r.ctx(), &busv1.EventRecord{Account: axptest.AccountID, Event: ev}); err != nil {
			t.Fatal(err)
		}
	}
	r.await("the late events to go", func() bool { return len(r.holds("Mark-")) == 0 })
	if in := r.onDisk("Mark-late"); len(in) != 0 {
		t.Errorf("still in %v", in)
	}
	// The orchestrator itself does not even store them.
	_, err := r.bus.PublishEvent(r.ctx(), &busv1.EventRecord{Account: axptest.AccountID, Event: &axpchatv1.Event{EventId: "x", SessionId: s.GetSessionId()}})
	if !errors.Is(err, bus.ErrErased) {
		t.Errorf("the orchestrator's own event: %v, want it refused", err)
	}
	if err := r.bus.SetTimer(r.ctx(), bus.Timer{Kind: "idle", Account: axptest.AccountID, Session: s.GetSessionId()}, time.Now()); !errors.Is(err, bus.ErrErased) {
		t.Errorf("a timer: %v, want it refused", err)
	}
}

// TestWhatIsSetAsideLateIsNotKept: webhook-ingest keeps callbacks that no client may
// be told of for operators, also of a session that was erased.
func TestWhatIsSetAsideLateIsNotKept(t *testing.T) {
	t.Parallel()
	r := newEraseRig(t, map[string]string{"REAPER_INTERVAL": "1s"})
	s, e := r.written()
	r.erased(r.erase(s.GetSessionId()))
	for _, id := range []string{`"providerDialogId":"` + s.GetSessionId() + "." + e.GetEngagementId() + `"`, `"dialogId":"` + e.GetAxpDialogId() + `"`} {
		raw := `{"eventType":"MESSAGES",` + id + `,"messageId":"late","body":"Mark-late"}`
		if _, err := r.bus.PublishUnrouted(r.ctx(), &busv1.UnroutedRecord{Account: axptest.AccountID, Raw: []byte(raw), Cause: "staff-only"}, raw); err != nil {
			t.Fatal(err)
		}
	}
	kept := `{"eventType":"MESSAGES","dialogId":"somebody-elses","messageId":"x","body":"kept"}`
	if _, err := r.bus.PublishUnrouted(r.ctx(), &busv1.UnroutedRecord{Account: axptest.AccountID, Raw: []byte(kept)}, kept); err != nil {
		t.Fatal(err)
	}
	r.await("what was set aside to go", func() bool { return len(r.holds("Mark-")) == 0 })
	if len(r.holds("somebody-elses")) == 0 {
		t.Error("a callback of another chat is gone, too")
	}
}

// TestAMessageInWorkDoesNotComeBack: its call to AXP is under way while its session
// is erased, and ends after that.
func TestAMessageInWorkDoesNotComeBack(t *testing.T) {
	t.Parallel()
	r := newEraseRig(t, nil)
	s, e := r.written()
	r.axp.Fail(axp.OpSendMessage, axptest.Fault{Wait: make(chan struct{}), Pass: true})
	r.says(e, "held", "Mark-text held")
	r.await("the call to AXP", func() bool { return r.axp.Calls(axp.OpSendMessage) >= 2 })
	client, ctx := r.operator(operatorToken)
	proof, err := client.EraseSession(ctx, &orchestratorv1.EraseSessionRequest{Account: axptest.AccountID, SessionId: s.GetSessionId()})
	if err != nil {
		t.Fatal(err)
	}
	r.axp.Release()
	if !proof.GetErasure().GetDone() {
		proof.Erasure = r.erase(s.GetSessionId())
	}
	r.erased(proof.GetErasure())
	r.await("the outbox to be empty", func() bool { return len(r.holds("Mark-")) == 0 })
	m := r.mustSend(func() *axpchatv1.Engagement { _, other := r.chat(); return other }(), "next", "goes on")
	r.event(m.GetSessionId(), m.GetMessageId()+".sent")
	if in := r.holds("Mark-"); len(in) != 0 {
		t.Errorf("it came back in %v", in)
	}
}

// TestOnlyOperatorsErase: and they are told where there is nothing.
func TestOnlyOperatorsErase(t *testing.T) {
	t.Parallel()
	r := newEraseRig(t, nil)
	s, _ := r.chat()
	for _, token := range []string{"", "x", operatorToken + "x", strings.ToUpper(operatorToken)} {
		client, ctx := r.operator(token)
		_, err := client.EraseSession(ctx, &orchestratorv1.EraseSessionRequest{Account: axptest.AccountID, SessionId: s.GetSessionId()})
		r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED)
		_, err = client.EraseCustomer(ctx, &orchestratorv1.EraseCustomerRequest{Account: axptest.AccountID, Subject: "ada"})
		r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED)
	}
	client, ctx := r.operator(operatorToken)
	_, err := client.EraseSession(ctx, &orchestratorv1.EraseSessionRequest{Account: axptest.AccountID, SessionId: "nobodys"})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND)
	for _, session := range []string{"", "a.b", "*", ">", s.GetSessionId() + ".>"} {
		_, err = client.EraseSession(ctx, &orchestratorv1.EraseSessionRequest{Account: axptest.AccountID, SessionId: session})
		r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT)
	}
	// The gateway's own connection does not serve it at all.
	_, err = orchestratorv1.NewPrivacyServiceClient(r.conn).EraseSession(ctx, &orchestratorv1.EraseSessionRequest{Account: axptest.AccountID, SessionId: s.GetSessionId()})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_NOT_FOUND)
	if len(r.journal(s.GetSessionId())) == 0 {
		t.Error("the chat is gone")
	}
}

// TestOperatorsAreServedWithTheLimitsOfGRPC: their listener is open to whoever is on
// the machine, before any token is looked at.
func TestOperatorsAreServedWithTheLimitsOfGRPC(t *testing.T) {
	t.Parallel()
	r := newEraseRig(t, map[string]string{"GRPC_MAX_RECV_BYTES": "1KiB"})
	client, ctx := r.operator("")
	_, err := client.EraseCustomer(ctx, &orchestratorv1.EraseCustomerRequest{Account: axptest.AccountID, Subject: strings.Repeat("a", 2<<10)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a call that is too large: %v", err)
	}
}

func TestOperatorsAreServedOnLoopbackAlone(t *testing.T) {
	t.Parallel()
	for addr, fine := range map[string]bool{"127.0.0.1:9084": true, "localhost:9084": true, "[::1]:9084": true, ":9084": false, "0.0.0.0:9084": false, "10.0.0.1:9084": false, "example.com:1": false} {
		_, err := load(variables("http://axp", map[string]string{"OPERATOR_ADDR": addr, "OPERATOR_TOKEN": operatorToken}))
		if (err == nil) != fine {
			t.Errorf("OPERATOR_ADDR %s: %v", addr, err)
		}
	}
	if _, err := load(variables("http://axp", map[string]string{"OPERATOR_TOKEN": "short"})); err == nil {
		t.Error("a short OPERATOR_TOKEN was taken")
	}
}
