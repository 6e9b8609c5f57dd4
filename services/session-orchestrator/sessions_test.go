package orchestrator_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
	"github.com/axpchat/connector/services/session-orchestrator/internal/ident"
)

func values(v ...string) *axpchatv1.CustomerIdentifierValues {
	return &axpchatv1.CustomerIdentifierValues{Values: v}
}

func TestCreateSessionMergesTokenAndRequest(t *testing.T) {
	r := newRig(t, nil)
	res, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: ada, Request: &axpchatv1.CreateSessionRequest{
		CustomerIdentifiers: map[string]*axpchatv1.CustomerIdentifierValues{
			"emailAddresses": values("ada@example.com", "second@example.com"), "phoneNumbers": values("+4912345"),
		},
		SessionParameters: map[string]string{"page": "home"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := res.GetResponse().GetSession()
	made, ok := r.axp.Session(s.GetAxpSessionId())
	if !ok || s.GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE || s.GetParticipantId() == "" {
		t.Fatalf("got %v", s)
	}
	if made.DisplayName != "Ada of the token" || made.ProviderCustomerID != "ada" || made.SessionParameters["page"] != "home" {
		t.Errorf("AXP has %+v", made)
	}
	if got := made.CustomerIdentifiers["emailAddresses"]; !slices.Equal(got, []string{"ada@example.com", "second@example.com"}) {
		t.Errorf("e-mail addresses %v: each once, the token's first", got)
	}
	index, _, err := r.bus.Index.Get(r.ctx(), bus.IndexSession(axptest.AccountID, s.GetAxpSessionId()))
	if err != nil || index.GetSessionId() != s.GetSessionId() {
		t.Errorf("index %v, %v", index, err)
	}
}

func TestCreateSessionRefusesBadInput(t *testing.T) {
	r := newRig(t, nil)
	nobody := caller("nobody")
	nobody.Identifiers = nil
	stranger := caller("ada")
	stranger.Account = "ZZZZZZ"
	many := map[string]*axpchatv1.CustomerIdentifierValues{}
	for i := range 10 {
		many[fmt.Sprintf("kind%d", i)] = values("v")
	}
	cases := []struct {
		name string
		in   *orchestratorv1.CreateSessionRequest
		want axpchatv1.ErrorReason
	}{
		{"no identifiers at all", &orchestratorv1.CreateSessionRequest{Caller: nobody, Request: &axpchatv1.CreateSessionRequest{}}, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT},
		{"too many together with the token's", &orchestratorv1.CreateSessionRequest{Caller: ada, Request: &axpchatv1.CreateSessionRequest{CustomerIdentifiers: many}}, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT},
		{"a nested field over its limit", &orchestratorv1.CreateSessionRequest{Caller: ada, Request: &axpchatv1.CreateSessionRequest{DisplayName: string(make([]byte, 71))}}, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT},
		{"no caller", &orchestratorv1.CreateSessionRequest{Request: &axpchatv1.CreateSessionRequest{}}, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT},
		{"a caller without subject", &orchestratorv1.CreateSessionRequest{Caller: caller(""), Request: &axpchatv1.CreateSessionRequest{}}, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT},
		{"no request", &orchestratorv1.CreateSessionRequest{Caller: ada}, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT},
		{"an account that is not served", &orchestratorv1.CreateSessionRequest{Caller: stranger, Request: &axpchatv1.CreateSessionRequest{}}, axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN},
	}
	for _, c := range cases {
		t.Run(c.name, func(*testing.T) {
			_, err := r.client.CreateSession(r.ctx(), c.in)
			r.refused(err, c.want)
		})
	}
	if n := r.axp.Sessions(); n != 0 {
		t.Errorf("AXP has %d sessions, want none", n)
	}
}

func TestCreateSessionIsSafeToRepeat(t *testing.T) {
	r := newRig(t, nil)
	request := &axpchatv1.CreateSessionRequest{RequestId: "r-1", DisplayName: "Ada"}
	ids := make([]string, 8)
	var group sync.WaitGroup
	for i := range ids { // all at once
		group.Go(func() {
			res, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: ada, Request: request})
			if err != nil {
				t.Errorf("repeat: %v", err)
			}
			ids[i] = res.GetResponse().GetSession().GetSessionId()
		})
	}
	group.Wait()
	if slices.Sort(ids); ids[0] == "" || ids[0] != ids[len(ids)-1] {
		t.Errorf("different sessions: %v", ids)
	}
	if n := r.axp.Sessions(); n != 1 {
		t.Errorf("AXP has %d sessions, want 1", n)
	}
	other := proto.CloneOf(request)
	other.DisplayName = "Somebody else"
	_, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: ada, Request: other})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED)

	res, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: caller("bob"), Request: request})
	if err != nil || res.GetResponse().GetSession().GetSessionId() == ids[0] {
		t.Errorf("another customer's request of the same id: %v, %v", res, err)
	}
}

func TestAFailedCreationLeavesNothingBehind(t *testing.T) {
	r := newRig(t, nil)
	r.axp.Fail(axp.OpCreateSession, axptest.Fault{Status: 400})
	in := &orchestratorv1.CreateSessionRequest{Caller: ada, Request: &axpchatv1.CreateSessionRequest{RequestId: "r-1"}}
	_, err := r.client.CreateSession(r.ctx(), in)
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED)
	if _, err := r.client.CreateSession(r.ctx(), in); err != nil {
		t.Errorf("the same request once AXP takes it: %v", err)
	}
}

func TestACreationLeftOverByACrashIsTakenOver(t *testing.T) {
	r := newRig(t, nil)
	request := &axpchatv1.CreateSessionRequest{RequestId: "r-1"}
	hash, err := ident.Hash(&axpchatv1.CreateSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	id := ident.Derived("session", axptest.AccountID, "ada", "r-1")
	old := timestamppb.New(time.Now().Add(-time.Hour))
	_, err = r.bus.Sessions.Create(r.ctx(), bus.SessionKeyOf(axptest.AccountID, id), &busv1.SessionRecord{
		Session: &axpchatv1.Session{
			SessionId: id, Account: axptest.AccountID, Status: axpchatv1.SessionStatus_SESSION_STATUS_CREATING,
			CustomerIdentifiers: map[string]*axpchatv1.IdentifierValues{"emailAddresses": {Values: []string{"ada@example.com"}}},
		},
		Subject: "ada", RequestHash: hash, AttemptTime: old,
	})
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: ada, Request: request})
	if err != nil || res.GetResponse().GetSession().GetSessionId() != id {
		t.Fatalf("got %v, %v", res, err)
	}
}

func TestTheLoserOfTwoCreationsDeletesItsSpareSession(t *testing.T) {
	r := newRig(t, nil)
	slow := make(chan struct{})
	r.axp.Fail(axp.OpCreateSession, axptest.Fault{Wait: slow, Pass: true})
	in := &orchestratorv1.CreateSessionRequest{Caller: ada, Request: &axpchatv1.CreateSessionRequest{RequestId: "r-1"}}
	first := make(chan string, 1)
	go func() {
		res, _ := r.client.CreateSession(r.ctx(), in)
		first <- res.GetResponse().GetSession().GetSessionId()
	}()
	key := bus.SessionKeyOf(axptest.AccountID, ident.Derived("session", axptest.AccountID, "ada", "r-1"))
	r.await("the first attempt is under way", func() bool { return r.axp.Calls(axp.OpCreateSession) == 1 })
	_, err := r.bus.Sessions.Modify(r.ctx(), key, func(rec *busv1.SessionRecord) error {
		rec.AttemptTime = timestamppb.New(time.Now().Add(-time.Hour)) // it has been hanging for long
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.client.CreateSession(r.ctx(), in)
	if err != nil {
		t.Fatal(err)
	}
	close(slow)
	if got := <-first; got != second.GetResponse().GetSession().GetSessionId() {
		t.Errorf("the first attempt got %q", got)
	}
	r.await("the spare session is deleted", func() bool { return r.axp.Sessions() == 1 && len(r.axp.Deleted()) == 1 })
	if _, ok := r.axp.Session(second.GetResponse().GetSession().GetAxpSessionId()); !ok {
		t.Error("the session in use was deleted")
	}
}

func TestNobodyReachesAnothersSession(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	id, eid, mallory := s.GetSessionId(), e.GetEngagementId(), caller("mallory")
	calls := map[string]func() error{
		"get": func() error {
			_, err := r.client.GetSession(r.ctx(), &orchestratorv1.GetSessionRequest{Caller: mallory, Request: &axpchatv1.GetSessionRequest{SessionId: id}})
			return err
		},
		"update parameters": func() error {
			_, err := r.client.UpdateSessionParameters(r.ctx(), &orchestratorv1.UpdateSessionParametersRequest{Caller: mallory, Request: &axpchatv1.UpdateSessionParametersRequest{
				SessionId: id, SessionParameters: map[string]string{"a": "b"},
			}})
			return err
		},
		"append identifiers": func() error {
			_, err := r.client.AppendCustomerIdentifiers(r.ctx(), &orchestratorv1.AppendCustomerIdentifiersRequest{Caller: mallory, Request: &axpchatv1.AppendCustomerIdentifiersRequest{
				SessionId: id, CustomerIdentifiers: map[string]*axpchatv1.CustomerIdentifierValues{"a": values("b")},
			}})
			return err
		},
		"delete": func() error {
			_, err := r.client.DeleteSession(r.ctx(), &orchestratorv1.DeleteSessionRequest{Caller: mallory, Request: &axpchatv1.DeleteSessionRequest{SessionId: id}})
			return err
		},
		"create engagement": func() error {
			_, err := r.client.CreateEngagement(r.ctx(), &orchestratorv1.CreateEngagementRequest{Caller: mallory, Request: &axpchatv1.CreateEngagementRequest{SessionId: id}})
			return err
		},
		"get engagement": func() error {
			_, err := r.client.GetEngagement(r.ctx(), &orchestratorv1.GetEngagementRequest{Caller: mallory, Request: &axpchatv1.GetEngagementRequest{SessionId: id, EngagementId: eid}})
			return err
		},
		"list engagements": func() error {
			_, err := r.client.ListEngagements(r.ctx(), &orchestratorv1.ListEngagementsRequest{Caller: mallory, Request: &axpchatv1.ListEngagementsRequest{SessionId: id}})
			return err
		},
		"join from a session of her own": func() error {
			_, err := r.client.JoinEngagement(r.ctx(), &orchestratorv1.JoinEngagementRequest{Caller: mallory, Request: &axpchatv1.JoinEngagementRequest{
				SessionId: r.session(mallory).GetSessionId(), OwnerSessionId: id, EngagementId: eid,
			}})
			return err
		},
		"end": func() error {
			_, err := r.client.EndEngagement(r.ctx(), &orchestratorv1.EndEngagementRequest{Caller: mallory, Request: &axpchatv1.EndEngagementRequest{SessionId: id, EngagementId: eid}})
			return err
		},
		"send": func() error {
			_, err := r.client.SendMessage(r.ctx(), &orchestratorv1.SendMessageRequest{Caller: mallory, Request: &axpchatv1.SendMessageRequest{
				SessionId: id, EngagementId: eid, ClientMessageId: "m", Text: "x",
			}})
			return err
		},
		"create attachment": func() error {
			_, err := r.client.CreateAttachment(r.ctx(), &orchestratorv1.CreateAttachmentRequest{Caller: mallory, Request: &axpchatv1.CreateAttachmentRequest{
				SessionId: id, Name: "a", ContentType: "b", Size: 1,
			}})
			return err
		},
		"get attachment": func() error {
			_, err := r.client.GetAttachment(r.ctx(), &orchestratorv1.GetAttachmentRequest{Caller: mallory, Request: &axpchatv1.GetAttachmentRequest{SessionId: id, AttachmentId: "a"}})
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(*testing.T) { r.refused(call(), axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND) })
	}
	_, err := r.client.GetSession(r.ctx(), &orchestratorv1.GetSessionRequest{Caller: ada, Request: &axpchatv1.GetSessionRequest{SessionId: "*"}})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT)
	_, err = r.send("", eid, "m", "x")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT)
	_, err = r.send("*", eid, "m", "x")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND)
}

func (r *rig) update(s *axpchatv1.Session, params map[string]string) (*axpchatv1.Session, error) {
	res, err := r.client.UpdateSessionParameters(r.ctx(), &orchestratorv1.UpdateSessionParametersRequest{Caller: ada, Request: &axpchatv1.UpdateSessionParametersRequest{
		SessionId: s.GetSessionId(), SessionParameters: params,
	}})
	return res.GetResponse().GetSession(), err
}

func TestUpdateSessionParameters(t *testing.T) {
	r := newRig(t, map[string]string{"SESSION_PARAMETERS_INTERVAL": "0s"})
	s := r.session(ada)
	full := map[string]string{}
	for i := range 20 {
		full[fmt.Sprintf("k%d", i)] = "v"
	}
	if _, err := r.update(s, full); err != nil {
		t.Fatal(err)
	}
	got, err := r.update(s, map[string]string{"k3": "new"})
	if err != nil || got.GetSessionParameters()["k3"] != "new" {
		t.Errorf("a new value for a key that is there: %v, %v", got, err)
	}
	before := r.axp.Calls(axp.OpUpdateSessionParameters)
	if _, err := r.update(s, map[string]string{"k3": "new"}); err != nil {
		t.Error(err)
	}
	if n := r.axp.Calls(axp.OpUpdateSessionParameters); n != before {
		t.Error("AXP was told again what it knows")
	}
	if n := len(r.journal(s.GetSessionId())); n != 2 {
		t.Errorf("%d events, want one for each change", n)
	}
}

func TestAppendIdentifiersAddsOnlyWhatIsMissing(t *testing.T) {
	r := newRig(t, nil)
	s := r.session(ada)
	request := func(id string, m map[string]*axpchatv1.CustomerIdentifierValues) *orchestratorv1.AppendCustomerIdentifiersRequest {
		return &orchestratorv1.AppendCustomerIdentifiersRequest{Caller: ada, Request: &axpchatv1.AppendCustomerIdentifiersRequest{
			SessionId: s.GetSessionId(), RequestId: id, CustomerIdentifiers: m,
		}}
	}
	more := map[string]*axpchatv1.CustomerIdentifierValues{"emailAddresses": values("ada@example.com", "new@example.com"), "phoneNumbers": values("+49")}
	r.axp.Fail(axp.OpAppendIdentifiers, axptest.Fault{Status: 500, After: true}) // done, but the answer was lost
	for range 2 {
		if _, err := r.client.AppendCustomerIdentifiers(r.ctx(), request("r-1", more)); err != nil {
			t.Fatal(err)
		}
	}
	made, _ := r.axp.Session(s.GetAxpSessionId())
	if got := made.CustomerIdentifiers["emailAddresses"]; !slices.Equal(got, []string{"ada@example.com", "new@example.com"}) {
		t.Errorf("e-mail addresses %v", got)
	}
	if n := r.axp.Calls(axp.OpAppendIdentifiers); n != 1 {
		t.Errorf("AXP was told %d times, want once", n)
	}
	_, err := r.client.AppendCustomerIdentifiers(r.ctx(), request("r-2", map[string]*axpchatv1.CustomerIdentifierValues{"emailAddresses": values("1", "2", "3", "4")}))
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT)
}

func (r *rig) remove(s *axpchatv1.Session) (*axpchatv1.Session, error) {
	res, err := r.client.DeleteSession(r.ctx(), &orchestratorv1.DeleteSessionRequest{Caller: ada, Request: &axpchatv1.DeleteSessionRequest{SessionId: s.GetSessionId()}})
	return res.GetResponse().GetSession(), err
}

func TestDeleteSessionEndsTheChatFirst(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	m := r.mustSend(e, "m-1", "goodbye")
	r.axp.Fail(axp.OpDeleteSession, axptest.Fault{Status: 503})
	_, err := r.remove(s)
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE)
	_, err = r.update(s, map[string]string{"a": "b"})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED)
	for range 2 { // safe to repeat
		closed, err := r.remove(s)
		if err != nil || closed.GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_CLOSED ||
			closed.GetCloseReason() != axpchatv1.CloseReason_CLOSE_REASON_USER_CLOSED {
			t.Fatalf("got %v, %v", closed, err)
		}
	}
	want := []string{m.GetMessageId() + ".sent", e.GetEngagementId() + ".terminated", "session.closed"}
	ids := r.ids(s.GetSessionId())
	if got := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !slices.Contains(want, id) }); !slices.Equal(got, want) {
		t.Errorf("journal %v, want in this order %v", ids, want)
	}
	if d := r.axp.Dialogs(s.GetAxpSessionId()); d[0].DialogStatus != axp.DialogTerminated {
		t.Errorf("the dialog is %v", d[0].DialogStatus)
	}
	if n := r.axp.Calls(axp.OpDisconnectEngagement); n != 1 {
		t.Errorf("disconnected %d times", n)
	}
}

func TestASessionThatAXPForgotIsClosed(t *testing.T) {
	for name, call := range map[string]func(r *rig, s *axpchatv1.Session) error{
		"at an update": func(r *rig, s *axpchatv1.Session) error {
			_, err := r.update(s, map[string]string{"a": "b"})
			return err
		},
		"at a new chat": func(r *rig, s *axpchatv1.Session) error {
			_, err := r.client.CreateEngagement(r.ctx(), &orchestratorv1.CreateEngagementRequest{Caller: ada, Request: &axpchatv1.CreateEngagementRequest{SessionId: s.GetSessionId()}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			s := r.session(ada)
			r.axp.Forget(s.GetAxpSessionId())
			r.refused(call(r, s), axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED)
			ev := r.event(s.GetSessionId(), "session.closed")
			if got := ev.GetSessionChanged().GetSession().GetStatus(); got != axpchatv1.SessionStatus_SESSION_STATUS_CLOSED {
				t.Errorf("the event says %v", got)
			}
		})
	}
}

func TestTheWebhookIsProvisionedAtStart(t *testing.T) {
	r := newRig(t, nil)
	r.await("the subscription is made", func() bool { return len(r.axp.Subscriptions()) == 1 })
	r.stop()
	r.start(nil) // a second start finds it
	r.session(ada)
	if subs := r.axp.Subscriptions(); len(subs) != 1 || len(subs[0].EventTypes) != 5 {
		t.Errorf("got %+v", subs)
	}
}
