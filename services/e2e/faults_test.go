package e2e

import (
	"context"
	"net/http"
	"testing"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/connector/dev"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// fault makes the sandbox do something wrong.
func fault(ctx context.Context, t *testing.T, s *suitetest.Suite, path string, what map[string]any) {
	t.Helper()
	if err := suitetest.CallJSON(ctx, http.MethodPost, s.Sandbox+path, "", what, nil); err != nil {
		t.Fatal(err)
	}
}

// begun is a story up to the point where customer and agent talk.
func begun(ctx context.Context, t *testing.T, s *suitetest.Suite, name string) *story {
	t.Helper()
	token, err := suitetest.Token(ctx, s.Sandbox, name, name)
	if err != nil {
		t.Fatal(err)
	}
	st := &story{suite: s, name: name, app: newGRPCCustomer(t, s.GRPC, token), desk: s.Desk("Tomas"), life: ctx}
	for _, step := range []func(context.Context, *testing.T){st.logIn, st.startChat, st.queueUp, st.agentAccepts} {
		if step(ctx, t); t.Failed() {
			t.FailNow()
		}
	}
	return st
}

// TestCallbacksThatOvertakeCreateEngagement: AXP's answer to Create Engagement
// takes its time, its callbacks do not. They reach the client all the same, and
// before the answer.
func TestCallbacksThatOvertakeCreateEngagement(t *testing.T) {
	t.Parallel()
	s := suitetest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	token, err := suitetest.Token(ctx, s.Sandbox, "Olga", "olga")
	if err != nil {
		t.Fatal(err)
	}
	watcher := &story{suite: s, name: "Olga", app: newGRPCCustomer(t, s.GRPC, token), life: ctx}
	if watcher.logIn(ctx, t); t.Failed() {
		return
	}
	fault(ctx, t, s, "/control/faults", map[string]any{"operation": "createDigitalEngagement", "kind": "latency", "delayMs": 4000, "afterEffect": true, "count": 1})
	caller := &restCustomer{base: s.HTTP, token: token}
	type outcome struct {
		engagement *axpchatv1.Engagement
		err        error
	}
	answered := make(chan outcome, 1)
	go func() {
		e, err := caller.createEngagement(ctx, &axpchatv1.CreateEngagementRequest{SessionId: watcher.session, RequestId: "slow"})
		answered <- outcome{e, err}
	}()
	created, err := watcher.box.event(ctx, "engagement_created", func(e *axpchatv1.Event) bool { return kind(e) == "engagement_created" })
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-answered:
		t.Fatal("the answer came first: the callbacks did not overtake it")
	default:
	}
	if _, err := watcher.box.event(ctx, "engagement_active", func(e *axpchatv1.Event) bool {
		return kind(e) == "engagement_active" && e.GetEngagementId() == created.GetEngagementId()
	}); err != nil {
		t.Fatal(err)
	}
	got := <-answered
	if got.err != nil || got.engagement.GetEngagementId() != created.GetEngagementId() {
		t.Errorf("the answer: %v, %v; the callbacks were of engagement %s", got.engagement, got.err, created.GetEngagementId())
	}
}

// TestMissedCallbacksAreFetched: AXP loses callbacks in the middle of a chat, at
// its end, and of the customer's own message. The client gets all of it, marked.
func TestMissedCallbacksAreFetched(t *testing.T) {
	t.Parallel()
	s := suitetest.Start(t, func(c *dev.Config) {
		b := &c.Connector.Orchestrator.Backfill
		b.HoleWait, b.EchoWait, b.QuietAfter = patience/60, patience/30, patience/10
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	st := begun(ctx, t, s, "Noor")
	arrives := func(what, text string, backfilled bool) {
		t.Helper()
		e, err := st.box.event(ctx, what, func(e *axpchatv1.Event) bool {
			return e.GetMessageArrived().GetBody().GetElementText().GetText() == text
		})
		if err != nil {
			t.Fatal(err)
		}
		if e.GetBackfilled() != backfilled {
			t.Errorf("%s: backfilled is %v", what, e.GetBackfilled())
		}
	}
	swallowAgent := map[string]any{"kind": "swallow", "eventType": "MESSAGES", "senderType": "AGENT", "count": 1}
	say := func(text string) {
		t.Helper()
		if err := st.desk.Say(ctx, st.dialog, text); err != nil {
			t.Fatal(err)
		}
	}

	fault(ctx, t, s, "/control/webhook-faults", swallowAgent)
	say("nobody hears this")
	say("but this")
	arrives("what came", "but this", false)
	arrives("what was lost in the middle", "nobody hears this", true)

	fault(ctx, t, s, "/control/webhook-faults", map[string]any{"kind": "swallow", "eventType": "MESSAGES", "senderType": "CUSTOMER", "count": 1})
	m, err := st.app.send(ctx, st.message("does this arrive?"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := st.box.event(ctx, "the lost echo", func(e *axpchatv1.Event) bool { return e.GetMessageDelivered().GetMessageId() == m.GetMessageId() })
	if err != nil {
		t.Fatal(err)
	}
	if !e.GetBackfilled() {
		t.Error("the echo was not lost, or is not marked")
	}

	fault(ctx, t, s, "/control/webhook-faults", swallowAgent)
	say("and this is the last word")
	arrives("what was lost at the end", "and this is the last word", true)

	st.box.mu.Lock()
	defer st.box.mu.Unlock()
	seen := map[string]int{}
	for _, e := range st.box.events {
		if id := e.GetMessageArrived().GetMessageId(); id != "" {
			if seen[id]++; seen[id] > 1 {
				t.Errorf("message %q came %d times", e.GetMessageArrived().GetBody().GetElementText().GetText(), seen[id])
			}
		}
	}
}
