package e2e

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// TestStoryInOneProcess tells the whole chat against the all-in-one connector.
func TestStoryInOneProcess(t *testing.T) {
	t.Parallel()
	tellStory(t, suitetest.Start(t))
}

// TestStoryInSeparateProcesses tells it against the three services as in
// production: processes of their own over a standalone NATS server.
func TestStoryInSeparateProcesses(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and runs five processes")
	}
	tellStory(t, suitetest.StartProcesses(t))
}

func tellStory(t *testing.T, s *suitetest.Suite) {
	t.Run("start-up creates the webhook", func(t *testing.T) { webhookIsThere(t, s) })
	ways := []struct {
		name string
		open func(t *testing.T, token string) customer
	}{
		{"by gRPC Connect", func(t *testing.T, token string) customer { return newGRPCCustomer(t, s.GRPC, token) }},
		{"by REST and SSE", func(_ *testing.T, token string) customer { return &restCustomer{base: s.HTTP, token: token} }},
		{"by REST and WebSocket", func(_ *testing.T, token string) customer {
			return &restCustomer{base: s.HTTP, token: token, websocket: true}
		}},
	}
	for i, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("Maren %d", i)
			token, err := suitetest.Token(t.Context(), s.Sandbox, name, fmt.Sprintf("maren-%d", i))
			if err != nil {
				t.Fatal(err)
			}
			st := &story{suite: s, name: name, app: way.open(t, token), desk: s.Desk("Tomas")}
			st.tell(t)
		})
	}
}

func webhookIsThere(t *testing.T, s *suitetest.Suite) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var state struct {
		Subscriptions []struct {
			ChannelProviderID string   `json:"channelProviderId"`
			CallbackURL       string   `json:"callbackUrl"`
			EventTypes        []string `json:"eventTypes"`
		} `json:"subscriptions"`
	}
	err := suitetest.Await(ctx, "the webhook subscription", func(ctx context.Context) (bool, error) {
		err := suitetest.CallJSON(ctx, http.MethodGet, s.Sandbox+"/control/state", "", nil, &state)
		return len(state.Subscriptions) > 0, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Subscriptions) != 1 {
		t.Fatalf("%d subscriptions, want 1", len(state.Subscriptions))
	}
	sub := state.Subscriptions[0]
	if sub.ChannelProviderID != suitetest.Provider || len(sub.EventTypes) != 5 {
		t.Errorf("subscription %+v", sub)
	}
	prefix := s.Webhook + "/webhooks/axp/" + suitetest.Account + "/"
	if len(sub.CallbackURL) < len(prefix)+32 || sub.CallbackURL[:len(prefix)] != prefix {
		t.Error("the callback URL must be ours, with an unguessable end")
	}
}

// story is one customer's chat, told step by step.
type story struct {
	suite      *suitetest.Suite
	name       string
	app        customer
	desk       suitetest.Desk
	box        *inbox
	drop       context.CancelFunc // ends the stream as a tunnel does
	life       context.Context    // of the story
	session    string
	engagement string
	dialog     string
}

func (s *story) tell(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop() // ends the streams
	s.life = ctx
	steps := []struct {
		name string
		run  func(context.Context, *testing.T)
	}{
		{"log in", s.logIn},
		{"context while browsing", s.browse},
		{"start chat", s.startChat},
		{"queue", s.queue},
		{"agent accepts", s.agentAccepts},
		{"messages both ways", s.talk},
		{"a lost connection is resumed", s.resume},
		{"agent leaves and the customer is told", s.agentLeaves},
		{"a second agent goes on", s.secondAgent},
		{"customer ends and the agent is told", s.customerEnds},
		{"history after the end", s.history},
		{"log out", s.logOut},
	}
	for _, step := range steps {
		ok := t.Run(step.name, func(t *testing.T) {
			stepCtx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			step.run(stepCtx, t)
		})
		if !ok {
			return
		}
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	if s.box.closed.GetCode() != axpchatv1.CloseCode_CLOSE_CODE_SESSION_CLOSED && s.box.problem != nil {
		t.Errorf("stream: %v", s.box.problem)
	}
}

func (s *story) logIn(ctx context.Context, t *testing.T) {
	session, err := s.app.createSession(ctx, &axpchatv1.CreateSessionRequest{RequestId: "login-" + s.name, SessionParameters: map[string]string{"page": "/"}})
	if err != nil {
		t.Fatal(err)
	}
	if session.GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE || session.GetDisplayName() != s.name || session.GetAxpSessionId() == "" {
		t.Errorf("session %v", session)
	}
	again, err := s.app.createSession(ctx, &axpchatv1.CreateSessionRequest{RequestId: "login-" + s.name, SessionParameters: map[string]string{"page": "/"}})
	if err != nil || again.GetSessionId() != session.GetSessionId() {
		t.Errorf("a repeated log-in must find the same session: %v, %v", again, err)
	}
	s.session = session.GetSessionId()
	s.watch(ctx, t, "")
	if got := s.box.welcome.GetSession().GetSessionId(); got != s.session {
		t.Errorf("welcome to session %q", got)
	}
}

// watch begins to receive after the cursor. The stream outlives the step: it
// ends with the story, or when it is dropped.
func (s *story) watch(ctx context.Context, t *testing.T, cursor string) {
	t.Helper()
	life, drop := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(s.life, drop)
	box, err := s.app.watch(life, s.session, cursor)
	if err != nil {
		t.Fatal(err)
	}
	s.box, s.drop = box, drop
}

// resume: what is said while nobody listens comes after the cursor, once.
func (s *story) resume(ctx context.Context, t *testing.T) {
	before := s.box
	s.drop()
	var last uint64
	if err := before.until(ctx, "the end of the stream", func() bool { last = before.last; return before.problem != nil }); err != nil {
		t.Fatal(err)
	}
	cursor := before.cursor()
	texts := []string{"are you there?", "take your time"}
	for _, text := range texts {
		if err := s.desk.Say(ctx, s.dialog, text); err != nil {
			t.Fatal(err)
		}
	}
	s.watch(ctx, t, cursor)
	if _, err := s.box.event(ctx, "what was said meanwhile", func(e *axpchatv1.Event) bool {
		return e.GetMessageArrived().GetBody().GetElementText().GetText() == texts[1]
	}); err != nil {
		t.Fatal(err)
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	var got []string
	for _, e := range s.box.events {
		if e.GetSequence() <= last {
			t.Errorf("event %d was before the cursor", e.GetSequence())
		}
		got = append(got, e.GetMessageArrived().GetBody().GetElementText().GetText())
	}
	if fmt.Sprint(got) != fmt.Sprint(texts) {
		t.Errorf("after the cursor came %q, want %q", got, texts)
	}
}

func (s *story) browse(ctx context.Context, t *testing.T) {
	err := s.app.updateParameters(ctx, &axpchatv1.UpdateSessionParametersRequest{SessionId: s.session, SessionParameters: map[string]string{"page": "/tents", "interest": "family tents"}})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *story) startChat(ctx context.Context, t *testing.T) {
	req := &axpchatv1.CreateEngagementRequest{SessionId: s.session, RequestId: "chat-" + s.name, Conversation: "advice", EngagementParameters: map[string]string{"basket": "T-220"}}
	e, err := s.app.createEngagement(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	s.engagement = e.GetEngagementId()
	// Written before the dialog is ACTIVE: held, and sent in order.
	for i := range 3 {
		m, err := s.app.send(ctx, s.message(fmt.Sprint("early ", i)))
		if err != nil || m.GetStatus() != axpchatv1.MessageStatus_MESSAGE_STATUS_ACCEPTED {
			t.Fatalf("message %v, %v", m, err)
		}
	}
}

func (s *story) message(text string) *axpchatv1.SendMessageRequest {
	return &axpchatv1.SendMessageRequest{SessionId: s.session, EngagementId: s.engagement, ClientMessageId: "c-" + text, Text: text}
}

// queueUp waits until the desk has the chat.
func (s *story) queueUp(ctx context.Context, t *testing.T) {
	chat, err := s.desk.Find(ctx, s.name, func(c suitetest.DeskChat) bool { return c.Waiting && len(c.CustomerTexts()) == 3 })
	if err != nil {
		t.Fatal(err)
	}
	s.dialog = chat.DialogID
}

func (s *story) queue(ctx context.Context, t *testing.T) {
	for _, want := range []string{"engagement_created", "participant_added", "engagement_active"} {
		if _, err := s.box.event(ctx, want, func(e *axpchatv1.Event) bool { return kind(e) == want && e.GetEngagementId() == s.engagement }); err != nil {
			t.Fatal(err)
		}
	}
	chat, err := s.desk.Find(ctx, s.name, func(c suitetest.DeskChat) bool { return c.Waiting && len(c.CustomerTexts()) == 3 })
	if err != nil {
		t.Fatal(err)
	}
	s.dialog = chat.DialogID
	if got := fmt.Sprint(chat.CustomerTexts()); got != "[early 0 early 1 early 2]" {
		t.Errorf("the desk shows %s", got)
	}
	if chat.SessionParameters["page"] != "/tents" || chat.EngagementParameters["basket"] != "T-220" || chat.Conversation != "advice" {
		t.Errorf("the agent must see the context: %+v", chat)
	}
	if len(chat.Customer.Identifiers["emailAddresses"]) != 1 {
		t.Errorf("the agent must see who it is: %+v", chat.Customer)
	}
}

func (s *story) agentAccepts(ctx context.Context, t *testing.T) {
	if err := s.desk.Accept(ctx, s.dialog); err != nil {
		t.Fatal(err)
	}
	e, err := s.box.event(ctx, "agent joined", isParticipant("participant_added", "Tomas"))
	if err != nil {
		t.Fatal(err)
	}
	if p := e.GetParticipantAdded().GetParticipant(); p.GetParticipantType() != axpchatv1.ParticipantType_PARTICIPANT_TYPE_AGENT || !p.GetConnected() {
		t.Errorf("participant %v", p)
	}
}

func isParticipant(event, name string) func(*axpchatv1.Event) bool {
	return func(e *axpchatv1.Event) bool {
		p := e.GetParticipantAdded().GetParticipant()
		if event == "participant_disconnected" {
			p = e.GetParticipantDisconnected().GetParticipant()
		}
		return kind(e) == event && p.GetDisplayName() == name
	}
}

func (s *story) talk(ctx context.Context, t *testing.T) {
	for i := range 5 {
		text := fmt.Sprint("question ", i)
		m, err := s.app.send(ctx, s.message(text))
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.app.send(ctx, s.message(text))
		if err != nil || again.GetMessageId() != m.GetMessageId() {
			t.Fatalf("a repeated send must be the same message: %v, %v", again, err)
		}
		if _, err := s.box.event(ctx, "delivery of "+text, func(e *axpchatv1.Event) bool {
			return e.GetMessageDelivered().GetMessageId() == m.GetMessageId()
		}); err != nil {
			t.Fatal(err)
		}
		answer := fmt.Sprint("answer ", i)
		if err := s.desk.Say(ctx, s.dialog, answer); err != nil {
			t.Fatal(err)
		}
		e, err := s.box.event(ctx, answer, func(e *axpchatv1.Event) bool {
			return e.GetMessageArrived().GetBody().GetElementText().GetText() == answer
		})
		if err != nil {
			t.Fatal(err)
		}
		if sender := e.GetMessageArrived().GetSender(); sender.GetDisplayName() != "Tomas" {
			t.Errorf("sender %v", sender)
		}
	}
	chat, err := s.desk.Find(ctx, s.name, func(c suitetest.DeskChat) bool { return c.DialogID == s.dialog })
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(chat.CustomerTexts()), "[early 0 early 1 early 2 question 0 question 1 question 2 question 3 question 4]"; got != want {
		t.Errorf("the agent has %s, want %s", got, want)
	}
	s.checkStatuses(ctx, t)
}

// checkStatuses: each message went ACCEPTED, SENT and DELIVERED, once each.
func (s *story) checkStatuses(ctx context.Context, t *testing.T) {
	seen := map[string]string{}
	// The echo is a callback: it may overtake our own SENT, which then comes last.
	if err := s.box.until(ctx, "each message to be accepted, sent and delivered", func() bool {
		clear(seen)
		for _, e := range s.box.events {
			switch p := e.GetPayload().(type) {
			case *axpchatv1.Event_MessageAccepted:
				seen[p.MessageAccepted.GetMessageId()] += "A"
			case *axpchatv1.Event_MessageStatusChanged:
				if p.MessageStatusChanged.GetStatus() == axpchatv1.MessageStatus_MESSAGE_STATUS_SENT {
					seen[p.MessageStatusChanged.GetMessageId()] += "S"
				} else if !p.MessageStatusChanged.GetHeld() {
					seen[p.MessageStatusChanged.GetMessageId()] += p.MessageStatusChanged.GetStatus().String()
				}
			case *axpchatv1.Event_MessageDelivered:
				seen[p.MessageDelivered.GetMessageId()] += "D"
			}
		}
		for _, got := range seen {
			if len(got) < len("ASD") {
				return false
			}
		}
		return len(seen) >= 8
	}); err != nil {
		t.Errorf("%v: %v", err, seen)
	}
	if len(seen) != 8 {
		t.Errorf("%d messages, want 8", len(seen))
	}
	for id, got := range seen {
		if got != "ASD" && got != "ADS" {
			t.Errorf("message %s went %s", id, got)
		}
	}
}

func (s *story) agentLeaves(ctx context.Context, t *testing.T) {
	if err := s.desk.Leave(ctx, s.dialog); err != nil {
		t.Fatal(err)
	}
	if _, err := s.box.event(ctx, "agent left", isParticipant("participant_disconnected", "Tomas")); err != nil {
		t.Fatal(err)
	}
	// The chat goes on: an agent leaving may be a transfer.
	if _, err := s.app.send(ctx, s.message("still here")); err != nil {
		t.Fatal(err)
	}
}

func (s *story) secondAgent(ctx context.Context, t *testing.T) {
	ewa := s.suite.Desk("Ewa")
	if err := ewa.Accept(ctx, s.dialog); err != nil {
		t.Fatal(err)
	}
	if _, err := s.box.event(ctx, "second agent joined", isParticipant("participant_added", "Ewa")); err != nil {
		t.Fatal(err)
	}
}

func (s *story) customerEnds(ctx context.Context, t *testing.T) {
	if _, err := s.app.send(ctx, s.message("last words")); err != nil {
		t.Fatal(err)
	}
	err := s.app.endEngagement(ctx, &axpchatv1.EndEngagementRequest{SessionId: s.session, EngagementId: s.engagement, Reason: axpchatv1.CloseReason_CLOSE_REASON_USER_CLOSED})
	if err != nil {
		t.Fatal(err)
	}
	chat, err := s.desk.Find(ctx, s.name, func(c suitetest.DeskChat) bool { return c.DialogID == s.dialog && c.Status == "TERMINATED" })
	if err != nil {
		t.Fatal(err)
	}
	if texts := chat.CustomerTexts(); texts[len(texts)-1] != "last words" {
		t.Errorf("what was accepted before the end must be sent before it; the agent has %v", texts)
	}
	ended := func(e *axpchatv1.Event) bool { return kind(e) == "engagement_terminated" }
	if _, err := s.box.event(ctx, "end of the chat", ended); err != nil {
		t.Fatal(err)
	}
	if _, err := s.app.send(ctx, s.message("too late")); err == nil {
		t.Error("a message after the end must be refused")
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	count := 0
	for _, e := range s.box.events {
		if ended(e) {
			count++
		}
	}
	if count != 1 {
		t.Errorf("the end was told %d times", count)
	}
}

func (s *story) history(ctx context.Context, t *testing.T) {
	var texts []string
	token := ""
	for {
		page, err := s.app.listMessages(ctx, &axpchatv1.ListMessagesRequest{SessionId: s.session, EngagementId: s.engagement, PageSize: 4, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.GetMessages() {
			if m.GetSender().GetParticipantType() == axpchatv1.ParticipantType_PARTICIPANT_TYPE_SYSTEM {
				continue
			}
			texts = append(texts, m.GetBody().GetElementText().GetText())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	want := "[early 0 early 1 early 2 question 0 answer 0 question 1 answer 1 question 2 answer 2 question 3 answer 3 question 4 answer 4 are you there? take your time still here last words]"
	if got := fmt.Sprint(texts); got != want {
		t.Errorf("history %s\nwant    %s", got, want)
	}
}

func (s *story) logOut(ctx context.Context, t *testing.T) {
	if err := s.app.deleteSession(ctx, &axpchatv1.DeleteSessionRequest{SessionId: s.session, Reason: axpchatv1.CloseReason_CLOSE_REASON_USER_CLOSED}); err != nil {
		t.Fatal(err)
	}
	if err := s.box.until(ctx, "close of the stream", func() bool { return s.box.closed != nil }); err != nil {
		t.Fatal(err)
	}
	if c := s.box.closed; c.GetCode() != axpchatv1.CloseCode_CLOSE_CODE_SESSION_CLOSED || c.GetReconnect() {
		t.Errorf("close %v", c)
	}
}
