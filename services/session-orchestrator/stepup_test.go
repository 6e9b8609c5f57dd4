package orchestrator_test

import (
	"slices"
	"sync"
	"testing"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

const (
	sessionNotFound = axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND
	visitor         = "visitor-7c1d"
)

// stranger is the customer of an anonymous token.
func stranger(subject string) *orchestratorv1.Caller {
	return &orchestratorv1.Caller{
		Account: axptest.AccountID, Subject: subject, Anonymous: true, Name: "Visitor",
		Identifiers: map[string]*axpchatv1.CustomerIdentifierValues{"visitorIds": values(subject)},
	}
}

// formerly is a customer whose token names the anonymous one that he was.
func formerly(subject, anonymous string) *orchestratorv1.Caller {
	c := caller(subject)
	c.AnonymousSubject = anonymous
	return c
}

func (r *rig) stepUp(who *orchestratorv1.Caller, session string) (*axpchatv1.Session, error) {
	res, err := r.client.StepUp(r.ctx(), &orchestratorv1.StepUpRequest{Caller: who, Request: &axpchatv1.StepUpRequest{SessionId: session}})
	return res.GetResponse().GetSession(), err
}

func (r *rig) get(who *orchestratorv1.Caller, session string) error {
	_, err := r.client.GetSession(r.ctx(), &orchestratorv1.GetSessionRequest{Caller: who, Request: &axpchatv1.GetSessionRequest{SessionId: session}})
	return err
}

func TestAnAnonymousCustomerSignsInWithinTheChat(t *testing.T) {
	r := newRig(t, nil)
	made := r.session(stranger(visitor))
	id := made.GetSessionId()
	if !made.GetAnonymous() || made.GetDisplayName() != "Visitor" {
		t.Fatalf("session %v", made)
	}
	res, err := r.client.CreateEngagement(r.ctx(), &orchestratorv1.CreateEngagementRequest{Caller: stranger(visitor), Request: &axpchatv1.CreateEngagementRequest{SessionId: id}})
	if err != nil {
		t.Fatal(err)
	}
	chat := res.GetResponse().GetEngagement().GetEngagementId()
	// AXP does it, but the answer is lost.
	r.axp.Fail(axp.OpAppendIdentifiers, axptest.Fault{Status: 500, After: true})
	for range 2 { // safe to repeat
		s, err := r.stepUp(formerly("ada", visitor), id)
		if err != nil {
			t.Fatal(err)
		}
		if s.GetAnonymous() || s.GetDisplayName() != "Ada of the token" || s.GetSessionId() != id ||
			!slices.Equal(s.GetCustomerIdentifiers()["emailAddresses"].GetValues(), []string{"ada@example.com"}) {
			t.Fatalf("session %v", s)
		}
	}
	axpSession, _ := r.axp.Session(made.GetAxpSessionId())
	if got := axpSession.CustomerIdentifiers; !slices.Equal(got["emailAddresses"], []string{"ada@example.com"}) || !slices.Equal(got["visitorIds"], []string{visitor}) {
		t.Errorf("AXP has %v", got)
	}
	if n := r.axp.Calls(axp.OpAppendIdentifiers); n != 1 {
		t.Errorf("AXP was told %d times, want once", n)
	}
	r.refused(r.get(stranger(visitor), id), sessionNotFound)
	message, err := r.client.SendMessage(r.ctx(), &orchestratorv1.SendMessageRequest{Caller: ada, Request: &axpchatv1.SendMessageRequest{
		SessionId: id, EngagementId: chat, ClientMessageId: "m", Text: "It is me",
	}})
	if err != nil || message.GetResponse().GetMessage().GetSender().GetDisplayName() != "Ada of the token" {
		t.Errorf("message %v, %v", message, err)
	}
	told := 0
	for _, ev := range r.journal(id) {
		if s := ev.GetSessionChanged().GetSession(); s != nil && !s.GetAnonymous() && s.GetDisplayName() == "Ada of the token" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("clients were told %d times, want once", told)
	}
}

// TestNobodyStealsASessionByAStepUp: neither a token that names another anonymous
// customer, nor one that names nobody, nor an anonymous one gets a session, and
// that of a customer who is known is nobody else's for ever.
func TestNobodyStealsASessionByAStepUp(t *testing.T) {
	r := newRig(t, nil)
	anonymous, known := r.session(stranger(visitor)).GetSessionId(), r.session(ada).GetSessionId()
	elsewhere := formerly("mallory", visitor)
	elsewhere.Account = "ZZZZZZ"
	still := stranger("visitor-other")
	still.AnonymousSubject = visitor
	for _, c := range []struct {
		name    string
		who     *orchestratorv1.Caller
		session string
	}{
		{"without a proof", caller("mallory"), anonymous},
		{"with the proof of another visitor", formerly("mallory", "visitor-other"), anonymous},
		{"as an anonymous customer", still, anonymous},
		{"from another account", elsewhere, anonymous},
		{"a known customer's session", formerly("mallory", "ada"), known},
		{"a session that is not there", formerly("mallory", visitor), "nope"},
	} {
		t.Run(c.name, func(*testing.T) {
			_, err := r.stepUp(c.who, c.session)
			r.refused(err, sessionNotFound)
		})
	}
	if n := r.axp.Calls(axp.OpAppendIdentifiers); n != 0 {
		t.Errorf("AXP was told of %d of them", n)
	}
	// The proof opens nothing by itself.
	r.refused(r.get(formerly("ada", visitor), anonymous), sessionNotFound)
	// Of many who name the same visitor one gets the session, once for all.
	var mu sync.Mutex
	var winners []string
	var group sync.WaitGroup
	for _, who := range []string{"ada", "grace", "edsger", "barbara"} {
		group.Go(func() {
			_, err := r.stepUp(formerly(who, visitor), anonymous)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				winners = append(winners, who)
			} else if !errs.HasReason(err, sessionNotFound) {
				t.Errorf("%s: %v", who, err)
			}
		})
	}
	group.Wait()
	if len(winners) != 1 || r.get(caller(winners[0]), anonymous) != nil {
		t.Fatalf("winners %v", winners)
	}
	_, err := r.stepUp(formerly("mallory", visitor), anonymous)
	r.refused(err, sessionNotFound)
}

// TestAStepUpThatAXPDoesNotTakeChangesNothing: the customer goes on as he was and
// repeats it.
func TestAStepUpThatAXPDoesNotTakeChangesNothing(t *testing.T) {
	r := newRig(t, nil)
	id := r.session(stranger(visitor)).GetSessionId()
	r.axp.Fail(axp.OpAppendIdentifiers, axptest.Fault{Status: 503})
	_, err := r.stepUp(formerly("ada", visitor), id)
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE)
	if err := r.get(stranger(visitor), id); err != nil {
		t.Fatal(err)
	}
	if _, err := r.stepUp(formerly("ada", visitor), id); err != nil {
		t.Fatal(err)
	}
}

// TestAChosenNameOpensNoKnownCustomersSession: neither by its id nor by the request
// that has made it.
func TestAChosenNameOpensNoKnownCustomersSession(t *testing.T) {
	r := newRig(t, nil)
	create := func(who *orchestratorv1.Caller) (*axpchatv1.Session, error) {
		res, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: who, Request: &axpchatv1.CreateSessionRequest{RequestId: "first", DisplayName: "x"}})
		return res.GetResponse().GetSession(), err
	}
	known := caller("ada")
	made, err := create(known)
	if err != nil {
		t.Fatal(err)
	}
	chosen := stranger("ada")
	chosen.Identifiers = known.GetIdentifiers()
	r.refused(r.get(chosen, made.GetSessionId()), sessionNotFound)
	_, err = create(chosen)
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED)
	mine := r.session(chosen)
	_, err = r.client.JoinEngagement(r.ctx(), &orchestratorv1.JoinEngagementRequest{Caller: chosen, Request: &axpchatv1.JoinEngagementRequest{
		SessionId: mine.GetSessionId(), OwnerSessionId: made.GetSessionId(), EngagementId: "any",
	}})
	r.refused(err, sessionNotFound)
	// Who signs in under the name that he had keeps his session.
	if err := r.get(known, mine.GetSessionId()); err != nil {
		t.Error(err)
	}
}
