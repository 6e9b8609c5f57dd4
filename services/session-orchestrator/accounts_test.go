package orchestrator_test

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

const second = "SECOND" // an account beside the rig's own

// tenant is the rig as another account's customer sees it, whose AXP is another one.
func (r *rig) tenant(account string) *rig {
	r.t.Helper()
	other := *r
	other.axp = axptest.Start(r.t)
	other.who = caller("ada")
	other.who.Account = account
	return &other
}

func (r *rig) account() axp.Account {
	a := r.axp.Account()
	a.AccountID = r.who.GetAccount()
	return a
}

// list has the orchestrator serve the accounts beside its own from now on.
func (r *rig) list(vars map[string]string, all ...axp.Account) {
	r.t.Helper()
	cfg, err := load(variables(r.axp.URL, vars))
	if err != nil {
		r.t.Fatal(err)
	}
	cfg.Accounts = all
	if ms := cfg.Validate(); len(ms) > 0 {
		r.t.Fatal(ms)
	}
	if err := r.o.Reload(r.t.Context(), cfg); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) subscribed(want int) {
	r.t.Helper()
	r.await("the webhook subscription", func() bool { return len(r.axp.Subscriptions()) == want })
}

func TestAnAccountIsAddedWhileRunning(t *testing.T) {
	r := newRig(t, nil)
	_, chat := r.chat()
	other := r.tenant(second)
	_, err := other.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: other.who, Request: &axpchatv1.CreateSessionRequest{}})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN)

	r.list(nil, other.account())
	other.subscribed(1)
	if sub := other.axp.Subscriptions()[0]; sub.ChannelProviderID != axptest.ProviderID || !strings.Contains(sub.CallbackURL, "/"+second+"/") {
		t.Errorf("subscription %+v", sub)
	}
	_, theirs := other.chat()
	m := other.mustSend(theirs, "c1", "hello from the new account")
	other.event(theirs.GetSessionId(), m.GetMessageId()+".sent")
	m = r.mustSend(chat, "c1", "hello from the old one")
	r.event(chat.GetSessionId(), m.GetMessageId()+".sent")

	if got := other.axp.Texts(theirs.GetAxpDialogId()); len(got) != 1 || got[0] != "hello from the new account" {
		t.Errorf("the new account's AXP has %q", got)
	}
	if got := r.axp.Texts(chat.GetAxpDialogId()); len(got) != 1 || got[0] != "hello from the old one" {
		t.Errorf("the old account's AXP has %q", got)
	}
	r.subscribed(1)
}

// TestASessionBelongsToItsAccount: the same subject with another account's token
// finds nothing, whatever is asked.
func TestASessionBelongsToItsAccount(t *testing.T) {
	r := newRig(t, nil)
	s, chat := r.chat()
	other := r.tenant(second)
	r.list(nil, other.account())
	_, err := other.client.GetSession(r.ctx(), &orchestratorv1.GetSessionRequest{Caller: other.who, Request: &axpchatv1.GetSessionRequest{SessionId: s.GetSessionId()}})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND)
	_, err = other.send(s.GetSessionId(), chat.GetEngagementId(), "c1", "not mine")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND)
	_, err = other.client.DeleteSession(r.ctx(), &orchestratorv1.DeleteSessionRequest{Caller: other.who, Request: &axpchatv1.DeleteSessionRequest{SessionId: s.GetSessionId()}})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND)
	_, err = other.client.EndEngagement(r.ctx(), &orchestratorv1.EndEngagementRequest{Caller: other.who, Request: &axpchatv1.EndEngagementRequest{
		SessionId: s.GetSessionId(), EngagementId: chat.GetEngagementId(),
	}})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND)
	mine := other.session(other.who)
	_, err = other.client.JoinEngagement(r.ctx(), &orchestratorv1.JoinEngagementRequest{Caller: other.who, Request: &axpchatv1.JoinEngagementRequest{
		SessionId: mine.GetSessionId(), OwnerSessionId: s.GetSessionId(), EngagementId: chat.GetEngagementId(),
	}})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND)
}

// TestAnAccountThatLeavesFinishesWhatItHas: in the grace an open chat goes on
// and nothing new begins.
func TestAnAccountThatLeavesFinishesWhatItHas(t *testing.T) {
	r := newRig(t, map[string]string{"ACCOUNT_REMOVAL_GRACE": "1h"})
	other := r.tenant(second)
	r.list(nil, other.account())
	s, chat := other.chat()
	other.subscribed(1)
	r.list(nil)

	_, err := other.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: other.who, Request: &axpchatv1.CreateSessionRequest{}})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN)
	m := other.mustSend(chat, "c1", "one more thing")
	other.event(s.GetSessionId(), m.GetMessageId()+".sent")
	if ended := other.end(chat); ended.GetStatus() == axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ACTIVE {
		t.Errorf("the chat is %v", ended.GetStatus())
	}
	other.event(s.GetSessionId(), chat.GetEngagementId()+".terminated")
	_, err = other.client.CreateEngagement(r.ctx(), &orchestratorv1.CreateEngagementRequest{Caller: other.who, Request: &axpchatv1.CreateEngagementRequest{SessionId: s.GetSessionId()}})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN)
	other.subscribed(1) // an agent may still write
}

// TestWhatAnAccountLeavesBehindIsToldOf: what was accepted and could not be sent
// until the grace is over has failed, with the reason; the subscription is gone.
// Another account's messages are sent as ever.
func TestWhatAnAccountLeavesBehindIsToldOf(t *testing.T) {
	r := newRig(t, map[string]string{"ACCOUNT_REMOVAL_GRACE": "1s"})
	_, ours := r.chat()
	other := r.tenant(second)
	r.list(nil, other.account())
	s, chat := other.chat()
	other.subscribed(1)
	for range 1000 {
		other.axp.Fail(axp.OpSendMessage, axptest.Fault{Status: 429, RetryAfter: "0"}) // so AXP has nothing of it
	}
	r.list(nil)
	<-time.After(500 * time.Millisecond) // so that it outlives the account by as much
	waits := other.mustSend(chat, "c1", "will you answer?")
	r.await("a try to send it", func() bool { return other.axp.Calls(axp.OpSendMessage) > 0 })

	failed := other.event(s.GetSessionId(), waits.GetMessageId()+".failed").GetMessageStatusChanged().GetFailure()
	if failed.GetReason() != "ACCOUNT_UNKNOWN" || failed.GetDetail() == "" || strings.Contains(failed.GetDetail(), "may have arrived") {
		t.Errorf("failure %v", failed)
	}
	other.subscribed(0)
	_, err := other.send(s.GetSessionId(), chat.GetEngagementId(), "c2", "hello?")
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN)

	m := r.mustSend(ours, "c1", "business as usual")
	r.event(ours.GetSessionId(), m.GetMessageId()+".sent")
	r.subscribed(1)
}

// TestAnAccountThatIsMissingAfterARestartIsToldOf: its subscription is still there,
// and nobody can delete it any more. One that was taken away by a reload has left
// nothing behind.
func TestAnAccountThatIsMissingAfterARestartIsToldOf(t *testing.T) {
	var logs logtest.Records
	r := &rig{t: t, axp: axptest.Start(t), nats: bustest.Server(t), log: slog.NewTextHandler(&logs, nil)}
	warned := func() int { return strings.Count(logs.String(), "configured any more") }
	vars := map[string]string{"ACCOUNT_REMOVAL_GRACE": "0s"}
	r.start(vars)
	other := r.tenant(second)
	r.list(vars, other.account())
	other.subscribed(1)
	r.stop()
	r.start(vars)
	r.await("a warning", func() bool { return warned() == 1 && strings.Contains(logs.String(), "account="+second) })
	if n := len(other.axp.Subscriptions()); n != 1 {
		t.Errorf("%d subscriptions: there is nothing to warn of", n)
	}
	r.list(vars, other.account())
	r.await("a call of AXP for it", func() bool { return other.axp.Calls(axp.OpListSubscriptions) > 1 })
	r.list(vars)
	other.subscribed(0)
	r.await("that it is forgotten", func() bool {
		keys, err := r.bus.Index.Keys(r.ctx(), "served")
		return err == nil && slices.Equal(keys, []string{"served." + axptest.AccountID})
	})
	r.stop()
	r.start(vars)
	r.await("another look", func() bool { return len(r.axp.Subscriptions()) == 1 })
	r.stop() // it waits for what was begun
	if n := warned(); n != 1 {
		t.Errorf("warned %d times, want once", n)
	}
}

// TestTheChatsOfAnAccountThatHasGoneEnd by the idle rules, and their sessions
// with them, although nobody can tell AXP.
func TestTheChatsOfAnAccountThatHasGoneEnd(t *testing.T) {
	r := newRig(t, map[string]string{"ACCOUNT_REMOVAL_GRACE": "0s", "IDLE_TIMEOUT": "1s", "IDLE_GRACE_PERIOD": "0s", "SESSION_TTL": "1s"})
	other := r.tenant(second)
	r.list(map[string]string{"IDLE_TIMEOUT": "1s", "IDLE_GRACE_PERIOD": "0s", "SESSION_TTL": "1s"}, other.account())
	s, chat := other.chat()
	r.list(map[string]string{"IDLE_TIMEOUT": "1s", "IDLE_GRACE_PERIOD": "0s", "SESSION_TTL": "1s"})
	other.event(s.GetSessionId(), chat.GetEngagementId()+".terminated")
	other.event(s.GetSessionId(), "session.closed")
}

// TestASecretIsRotatedWhileMessagesFlow: no message fails, and the next token is
// asked for with the new secret.
func TestASecretIsRotatedWhileMessagesFlow(t *testing.T) {
	r := newRig(t, nil)
	other := r.tenant(second)
	other.axp.Require("secret")
	r.list(nil, other.account())
	_, chat := other.chat()
	var ids []string
	for i := range 30 {
		if i == 10 {
			other.axp.Require("rotated")
			a := other.account()
			a.ClientSecret = "rotated"
			r.list(nil, a)
		}
		ids = append(ids, other.mustSend(chat, "c"+string(rune('A'+i)), "hello").GetMessageId())
	}
	for _, id := range ids {
		other.event(chat.GetSessionId(), id+".sent")
	}
	r.await("a token of the new secret", func() bool { return other.axp.Calls(axp.OpGenerateToken) >= 2 })
	for _, e := range other.journal(chat.GetSessionId()) {
		if change := e.GetMessageStatusChanged(); change.GetFailure() != nil {
			t.Errorf("failed: %v", change)
		}
	}
}

// TestIdleRulesOfAnAccountChangeWhileRunning: for sessions from then on.
func TestIdleRulesOfAnAccountChangeWhileRunning(t *testing.T) {
	r := newRig(t, nil)
	before := r.session(r.who)
	vars := map[string]string{"IDLE_TIMEOUT": "7m"}
	r.list(vars)
	after := r.session(r.who)
	if a, b := before.GetIdleRules().GetIdleTimeout().AsDuration(), after.GetIdleRules().GetIdleTimeout().AsDuration(); a.Minutes() != 15 || b.Minutes() != 7 {
		t.Errorf("before %v, after %v", a, b)
	}
}

// TestAnOutageOfOneAccountIsNotTheOthers: its calls hang, its backlog grows, and
// the other account's messages go as fast as ever.
func TestAnOutageOfOneAccountIsNotTheOthers(t *testing.T) {
	r := newRig(t, map[string]string{"AXP_CALL_TIMEOUT": "20s"})
	_, ours := r.chat()
	other := r.tenant(second)
	r.list(map[string]string{"AXP_CALL_TIMEOUT": "20s"}, other.account())
	other.subscribed(1)
	hang := make(chan struct{})
	defer close(hang)
	for range 200 {
		other.axp.Fail(axp.OpSendMessage, axptest.Fault{Wait: hang, Status: 503})
	}
	var chats []*axpchatv1.Engagement // in all partitions
	for range 20 {
		_, chat := other.chat()
		chats = append(chats, chat)
	}
	for _, chat := range chats {
		other.mustSend(chat, "c1", "into the void")
	}
	r.await("calls that hang", func() bool { return other.axp.Calls(axp.OpSendMessage) >= 16 })
	for i := range 20 {
		m := r.mustSend(ours, "c"+string(rune('A'+i)), "still here")
		r.event(ours.GetSessionId(), m.GetMessageId()+".sent")
	}
	if n := r.axp.Calls(axp.OpSendMessage); n != 20 {
		t.Errorf("%d calls for 20 messages", n)
	}
}

func TestTheConfigurationTellsAccountsApart(t *testing.T) {
	vars := variables("https://axp.example.com", nil)
	maps.Copy(vars, map[string]string{"CONFIG_FILE": "file"})
	cfg, err := load(vars)
	if err != nil {
		t.Fatal(err)
	}
	twin := axp.Account{AccountID: strings.ToLower(axptest.AccountID), ClientID: "c", ClientSecret: "s", AppKey: "k", ChannelProviderID: "provider"}
	cfg.Accounts = []axp.Account{twin}
	if ms := cfg.Validate(); len(ms) != 1 || ms[0].Key != "accounts[0].account_id" {
		t.Errorf("two accounts that differ in case alone: %v", ms)
	}
}
