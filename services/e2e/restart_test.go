package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/connector/dev"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// TestRestartKeepsTheChat stops the one process in the middle of a chat and
// starts it again on the same data: the chat goes on where it was.
func TestRestartKeepsTheChat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := suitetest.StartAt(t, dir)
	sameAddresses := func(c *dev.Config) {
		bare := func(url string) string { return strings.TrimPrefix(url, "http://") }
		c.Connector.Gateway.GRPCAddr, c.Connector.Gateway.HTTPAddr = s.GRPC, bare(s.HTTP)
		c.Connector.Ingest.Addr, c.Sandbox.Addr, c.Connector.AdminAddr = bare(s.Webhook), bare(s.Sandbox), bare(s.Admin)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	token, err := suitetest.Token(ctx, s.Sandbox, "Ines", "ines")
	if err != nil {
		t.Fatal(err)
	}
	st := &story{suite: s, name: "Ines", app: newGRPCCustomer(t, s.GRPC, token), desk: s.Desk("Tomas"), life: ctx}
	for _, step := range []func(context.Context, *testing.T){st.logIn, st.browse, st.startChat, st.queue, st.agentAccepts, st.talk} {
		if step(ctx, t); t.Failed() {
			return
		}
	}
	s.Stop()
	if err := st.box.until(ctx, "the end of the stream", func() bool { return st.box.problem != nil }); err != nil {
		t.Fatal(err)
	}
	cursor := st.box.cursor()

	s = suitetest.StartAt(t, dir, sameAddresses)
	st.suite, st.app = s, newGRPCCustomer(t, s.GRPC, token)
	st.watch(ctx, t, cursor)
	if got := st.box.welcome.GetEngagements(); len(got) != 1 || got[0].GetStatus() != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ACTIVE {
		t.Fatalf("engagements after the restart: %v", got)
	}
	if err := st.desk.Say(ctx, st.dialog, "welcome back"); err != nil {
		t.Fatal(err)
	}
	if _, err := st.box.event(ctx, "what the agent says after the restart", func(e *axpchatv1.Event) bool {
		return e.GetMessageArrived().GetBody().GetElementText().GetText() == "welcome back"
	}); err != nil {
		t.Fatal(err)
	}
	again, err := st.app.send(ctx, st.message("question 0"))
	if err != nil {
		t.Fatalf("a message that was sent before the restart, sent again: %v", err)
	}
	m, err := st.app.send(ctx, st.message("and I am back, too"))
	if err != nil {
		t.Fatal(err)
	}
	if again.GetMessageId() == m.GetMessageId() {
		t.Error("two messages share an id")
	}
	if _, err := st.box.event(ctx, "delivery after the restart", func(e *axpchatv1.Event) bool {
		return e.GetMessageDelivered().GetMessageId() == m.GetMessageId()
	}); err != nil {
		t.Fatal(err)
	}
	chat, err := st.desk.Find(ctx, st.name, func(c suitetest.DeskChat) bool { return c.DialogID == st.dialog })
	if err != nil {
		t.Fatal(err)
	}
	want := "[early 0 early 1 early 2 question 0 question 1 question 2 question 3 question 4 and I am back, too]"
	if got := fmt.Sprint(chat.CustomerTexts()); got != want {
		t.Errorf("the agent has %s, want %s", got, want)
	}
}
