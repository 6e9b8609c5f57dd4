package privacy

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// chat is what the story is about.
type chat struct {
	session, engagement, dialog string
	axpSession, axpDialog       string
	provider                    string // the providerDialogId, with its proof
}

// tell tells a chat with everything in it that is personal, and everything going
// wrong that makes services write more than usually.
func (s *stage) tell(ctx context.Context, t *testing.T) {
	hook := s.CallbackURL(ctx, t)
	s.marks.add("the callback key", hook[strings.LastIndexByte(hook, '/')+1:])
	c := s.begin(ctx, t)
	s.talk(ctx, t, c)
	s.attach(ctx, t, c)
	s.streams(ctx, t, c)
	s.badInput(ctx, t, c)
	s.strangers(ctx, t, c)
	s.callbacks(ctx, t, c, hook)
	s.axpFails(ctx, t, c)
	s.natsFails(ctx, t, c)
	s.goIdle(ctx, t, c)
	s.plant(ctx, t, c, hook)
	s.does(ctx, t, http.MethodDelete, "/v1/sessions/"+c.session+"?reason=CLOSE_REASON_USER_CLOSED", nil)
}

func (s *stage) begin(ctx context.Context, t *testing.T) *chat {
	t.Helper()
	s.axp.refuse("/sessions", http.StatusBadRequest)
	in := map[string]any{
		"displayName":         s.marks.of("DisplayName"),
		"customerIdentifiers": map[string]any{"emailAddresses": map[string]any{"values": []string{s.marks.of("SecondMail") + "@example.net"}}},
		"sessionParameters":   map[string]string{"page": s.marks.of("SessionParameter")},
	}
	if status, text := call(ctx, t, http.MethodPost, s.HTTP+"/v1/sessions", s.token, string(encode(t, in))); status < 400 {
		t.Fatalf("a session that AXP refuses: %d %s", status, text)
	}
	c := &chat{}
	made := s.does(ctx, t, http.MethodPost, "/v1/sessions", in)
	c.session, c.axpSession = at(made, "session", "sessionId"), at(made, "session", "axpSessionId")
	s.axp.refuse(":append-customer-identifiers", http.StatusInternalServerError)
	s.does(ctx, t, http.MethodPost, "/v1/sessions/"+c.session+":appendIdentifiers", map[string]any{
		"customerIdentifiers": map[string]any{"phoneNumbers": map[string]any{"values": []string{s.marks.add("the second phone number", "+4915558841276")}}},
	})
	s.does(ctx, t, http.MethodPost, "/v1/sessions/"+c.session+":updateParameters", map[string]any{
		"sessionParameters": map[string]string{"basket": s.marks.of("NewParameter")},
	})
	s.axp.refuse("/engagements", http.StatusConflict)
	eng := map[string]any{"conversation": s.marks.of("Conversation"), "engagementParameters": map[string]string{"order": s.marks.of("EngagementParameter")}}
	if status, text := call(ctx, t, http.MethodPost, s.HTTP+"/v1/sessions/"+c.session+"/engagements", s.token, string(encode(t, eng))); status < 400 {
		t.Fatalf("an engagement that AXP refuses: %d %s", status, text)
	}
	e := s.does(ctx, t, http.MethodPost, "/v1/sessions/"+c.session+"/engagements", eng)
	c.engagement, c.axpDialog = at(e, "engagement", "engagementId"), at(e, "engagement", "axpDialogId")
	return c
}

func (s *stage) message(c *chat, text string) map[string]any {
	return map[string]any{
		"clientMessageId": "m-" + text, "text": text, "senderName": s.marks.of("SenderName"),
		"customData": map[string]string{"note": s.marks.of("CustomData")}, "fallbackText": s.marks.of("FallbackText"),
	}
}

func (s *stage) says(ctx context.Context, t *testing.T, c *chat, text string) {
	t.Helper()
	s.does(ctx, t, http.MethodPost, "/v1/sessions/"+c.session+"/engagements/"+c.engagement+"/messages", s.message(c, text))
}

func (s *stage) talk(ctx context.Context, t *testing.T, c *chat) {
	t.Helper()
	desk := s.Desk(s.marks.of("AgentName"))
	found, err := desk.Find(ctx, mark("DisplayName"), func(d suitetest.DeskChat) bool { return d.Waiting && d.Status == "ACTIVE" })
	if err != nil {
		t.Fatal(err)
	}
	c.dialog, c.provider = found.DialogID, found.ProviderDialogID
	if err := desk.Accept(ctx, c.dialog); err != nil {
		t.Fatal(err)
	}
	s.says(ctx, t, c, s.marks.of("CustomerText"))
	if err := desk.Say(ctx, c.dialog, s.marks.of("AgentText")); err != nil {
		t.Fatal(err)
	}
	s.polled(ctx, t, c.session, mark("AgentText"))
	s.polled(ctx, t, c.session, "messageDelivered")
	s.does(ctx, t, http.MethodGet, "/v1/sessions/"+c.session+"/engagements/"+c.engagement+"/messages", nil)
}

func (s *stage) attach(ctx context.Context, t *testing.T, c *chat) {
	t.Helper()
	in := map[string]any{"name": s.marks.of("FileName") + ".png", "contentType": "image/png", "size": "100"}
	s.axp.refuse("/signed-upload-uri", http.StatusUnprocessableEntity)
	if status, text := call(ctx, t, http.MethodPost, s.HTTP+"/v1/sessions/"+c.session+"/attachments", s.token, string(encode(t, in))); status < 400 {
		t.Errorf("an attachment that AXP refuses: %d %s", status, text)
	}
	made := s.does(ctx, t, http.MethodPost, "/v1/sessions/"+c.session+"/attachments", in)
	upload := at(made, "attachment", "uploadUrl")
	if _, query, ok := strings.Cut(upload, "?"); ok {
		s.marks.add("the query of a signed address", query)
	} else {
		t.Errorf("upload address %q has no query", upload)
	}
	if status, text := call(ctx, t, http.MethodGet, s.HTTP+"/v1/sessions/"+c.session+"/attachments/"+s.marks.of("UnknownFile"), s.token, ""); status != http.StatusNotFound {
		t.Errorf("an attachment that is not there: %d %s", status, text)
	}
}

// streams opens one of each kind, with tickets where browsers need them.
func (s *stage) streams(ctx context.Context, t *testing.T, c *chat) {
	t.Helper()
	ticket := func() string {
		made := s.does(ctx, t, http.MethodPost, "/v1/sessions/"+c.session+":createTicket", map[string]any{"use": "TICKET_USE_CONNECT"})
		text := at(made, "ticket")
		return s.marks.add("ticket "+text[:4], text)
	}
	used := ticket()
	url := strings.Replace(s.HTTP, "http", "ws", 1) + "/v1/sessions/" + c.session + ":connect?ticket="
	ws, _, err := websocket.Dial(ctx, url+used, &websocket.DialOptions{Subprotocols: []string{"axpchat.v1+json"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, frame := range []string{`{"hello":{}}`, `{"frameId":"1","sendMessage":{"engagementId":"` + s.marks.of("UnknownEngagement") + `","text":"x"}}`, `{"` + s.marks.of("FrameField") + `":1}`} {
		if err := ws.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	for err = nil; err == nil; { // until the frame that is none has ended it
		_, _, err = ws.Read(ctx)
	}
	ws.CloseNow()
	s.stranger(ctx, t, http.StatusUnauthorized, http.MethodGet, s.HTTP+"/v1/sessions/"+c.session+"/events?ticket="+used, "", "")
	s.stranger(ctx, t, http.StatusUnauthorized, http.MethodGet, s.HTTP+"/v1/sessions/"+c.session+"/events?ticket="+s.marks.of("WrongTicket"), "", "")
	s.stranger(ctx, t, http.StatusUnauthorized, http.MethodGet, s.HTTP+"/v1/sessions/"+c.session+"/events?ticket="+ticket(), "", "") // not made for this use

	conn, err := grpc.NewClient("passthrough:///"+s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	streamCtx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.token))
	defer cancel()
	stream, err := axpchatv1.NewChatServiceClient(conn).Connect(streamCtx)
	if err != nil {
		t.Fatal(err)
	}
	hello := &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Hello{Hello: &axpchatv1.Hello{SessionId: c.session}}}
	if err := stream.Send(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	_, err = axpchatv1.NewChatServiceClient(conn).GetSession(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.marks.of("NoToken")), &axpchatv1.GetSessionRequest{SessionId: c.session})
	if err == nil {
		t.Error("a token that is none was taken over gRPC")
	}
	s.answers.add(fmt.Sprint(err))
}

// badInput: what is wrong with it may be told to the customer, and to nobody else.
func (s *stage) badInput(ctx context.Context, t *testing.T, c *chat) {
	t.Helper()
	messages := s.HTTP + "/v1/sessions/" + c.session + "/engagements/" + c.engagement + "/messages"
	long := strings.Repeat(s.marks.of("LongText"), 400)
	for _, in := range []struct{ method, url, body string }{
		{http.MethodPost, messages, `{"text":"` + long + `","clientMessageId":"a"}`},
		{http.MethodPost, messages, `{"text":"` + s.marks.of("BrokenJSON")},
		{http.MethodPost, messages, `{"` + s.marks.of("UnknownField") + `":"` + s.marks.of("UnknownValue") + `"}`},
		{http.MethodPost, messages, `{"text":"x","textFormat":"` + s.marks.of("Enumerator") + `"}`},
		{http.MethodPost, s.HTTP + "/v1/sessions/" + s.marks.of("PathSegment") + ":" + s.marks.of("Verb"), `{}`},
		{http.MethodGet, s.HTTP + "/v1/sessions/" + c.session + "?" + s.marks.of("QueryKey") + "=" + s.marks.of("QueryValue"), ""},
		{http.MethodGet, s.HTTP + "/" + s.marks.of("UnknownPath"), ""},
		{s.marks.of("METHOD"), s.HTTP + "/v1/sessions", ""},
		{http.MethodPost, s.HTTP + "/v1/sessions/" + c.session + ":updateParameters", `{"sessionParameters":{"` + strings.Repeat(s.marks.of("LongKey"), 40) + `":"x"}}`},
		{http.MethodGet, s.HTTP + "/v1/sessions/" + c.session + "/events:poll?cursor=" + s.marks.of("WrongCursor"), ""},
		{http.MethodPost, s.HTTP + "/v1/sessions", `{"displayName":"` + strings.Repeat(s.marks.of("LongName"), 20) + `"}`},
	} {
		status, text := call(ctx, t, in.method, in.url, s.token, in.body, "User-Agent", s.marks.of("UserAgent"), "Baggage", "customer="+s.marks.of("Baggage"))
		if status < 400 && !strings.Contains(in.url, mark("QueryKey")) {
			t.Errorf("%s %.80s: status %d, want a refusal: %s", in.method, in.url, status, text)
		}
	}
}

// strangers are those with no token, wrong ones, or one for somebody else.
func (s *stage) strangers(ctx context.Context, t *testing.T, c *chat) {
	t.Helper()
	claims := func() jwt.MapClaims {
		return jwt.MapClaims{"sub": s.marks.of("StrangerSubject"), "name": s.marks.of("StrangerName"), "account": suitetest.Account}
	}
	forged := s.sign(t, "another-secret-that-is-long-enough-for-hs256", time.Hour, claims())
	expired := s.sign(t, s.hs256, -time.Hour, claims())
	other := s.sign(t, s.hs256, time.Hour, claims())
	elsewhere := claims()
	elsewhere["account"] = "ZZZZZZ"
	session := s.HTTP + "/v1/sessions/" + c.session
	for _, token := range []string{"", forged, expired, s.marks.of("Garbage"), s.token + "x", strings.Repeat("a", 20000)} {
		s.stranger(ctx, t, http.StatusUnauthorized, http.MethodGet, session, token, "")
	}
	s.stranger(ctx, t, http.StatusNotFound, http.MethodGet, session, other, "")
	s.stranger(ctx, t, http.StatusNotFound, http.MethodGet, session, s.sign(t, s.hs256, time.Hour, elsewhere), "")
	s.stranger(ctx, t, http.StatusNotFound, http.MethodPost, session+":updateParameters", other, `{"sessionParameters":{"a":"`+s.marks.of("StrangersValue")+`"}}`)
	s.stranger(ctx, t, http.StatusNotFound, http.MethodGet, session+"/events", other, "")
}

// callbacks of AXP, and of those who would like to be taken for it.
func (s *stage) callbacks(ctx context.Context, t *testing.T, c *chat, hook string) {
	t.Helper()
	post := func(want int, url, body string) {
		t.Helper()
		s.stranger(ctx, t, want, http.MethodPost, url, "", body)
	}
	event := func(change ...string) string {
		e := map[string]any{
			"eventType": "MESSAGES", "eventDate": time.Now().UTC().Format(time.RFC3339Nano), "accountId": suitetest.Account, "messageId": "id-" + s.marks.of("CallbackText"),
			"body": map[string]any{"elementType": "text", "elementText": map[string]any{"text": mark("CallbackText")}}, "senderParticipantName": s.marks.of("CallbackName"),
			"dialogId": c.axpDialog, "senderParticipantType": "AGENT",
		}
		for i := 0; i < len(change); i += 2 {
			e[change[i]] = change[i+1]
		}
		return string(encode(t, e))
	}
	post(http.StatusOK, hook, event())
	post(http.StatusNotFound, hook+"x", event())
	post(http.StatusNotFound, s.Webhook+"/webhooks/axp/"+suitetest.Account+"/"+s.marks.of("WrongKey"), event())
	post(http.StatusNotFound, s.Webhook+"/webhooks/axp/"+s.marks.of("WrongAccount")+"/x", event())
	post(http.StatusNotFound, s.Webhook+"/"+s.marks.of("WrongHookPath"), event())
	post(http.StatusBadRequest, hook, "{"+s.marks.of("NoJSON"))
	post(http.StatusOK, hook, event("dialogId", s.marks.of("UnknownDialog")))                                                  // unrouted
	post(http.StatusOK, hook, event("eventType", s.marks.of("EVENTTYPE"), s.marks.of("EventField"), s.marks.of("EventValue"))) // of a later version
	post(http.StatusOK, hook, `["`+s.marks.of("NoEvent")+`"]`)                                                                 // not an event
	post(http.StatusForbidden, hook, event("accountId", "YYYYYY"))                                                             // of another account
	forger, err := keyring.New(keyring.Config{Secret: "a-secret-that-is-not-the-one-in-use-here"})
	if err != nil {
		t.Fatal(err)
	}
	post(http.StatusForbidden, hook, event("providerDialogId", forger.MintDialogID(suitetest.Account, c.session, c.engagement))) // a wrong proof
	post(http.StatusRequestEntityTooLarge, hook, `{"a":"`+strings.Repeat(s.marks.of("HugeBody"), 200_000)+`"}`)
	s.polled(ctx, t, c.session, mark("CallbackText"))
}

// axpFails: AXP refuses, and repeats all that it was told.
func (s *stage) axpFails(ctx context.Context, t *testing.T, c *chat) {
	t.Helper()
	s.axp.refuse("/token", http.StatusUnauthorized)
	if err := suitetest.CallJSON(ctx, http.MethodPost, s.Sandbox+"/control/tokens/revoke", "", struct{}{}, nil); err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{http.StatusInternalServerError, http.StatusTooManyRequests, http.StatusBadRequest} {
		s.axp.refuse("/messages", status)
		s.says(ctx, t, c, s.marks.of(fmt.Sprint("FailingText", status)))
	}
	s.polled(ctx, t, c.session, "MESSAGE_STATUS_FAILED")
	for _, fault := range []map[string]any{
		{"operation": "sendDigitalMessage", "kind": "resetAfter", "count": 1},
		{"operation": "updateSessionParametersInDigitalSession", "kind": "resetBefore", "count": 3},
	} {
		if err := suitetest.CallJSON(ctx, http.MethodPost, s.Sandbox+"/control/faults", "", fault, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.axp.refuse(":update-session-parameters", http.StatusBadGateway)
	s.does(ctx, t, http.MethodPost, "/v1/sessions/"+c.session+":updateParameters", map[string]any{"sessionParameters": map[string]string{"late": s.marks.of("LateParameter")}})
	s.says(ctx, t, c, s.marks.of("UncertainText"))
	err := suitetest.Await(ctx, "all refusals to be asked for", func(context.Context) (bool, error) {
		chats, err := s.Desk("").Chats(ctx)
		for _, d := range chats {
			if strings.Contains(fmt.Sprint(d.CustomerTexts()), mark("UncertainText")) {
				return true, err
			}
		}
		return false, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// natsFails: NATS goes away in the middle.
func (s *stage) natsFails(ctx context.Context, t *testing.T, c *chat) {
	t.Helper()
	s.NATS.Kill()
	short, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	path := "/v1/sessions/" + c.session + "/engagements/" + c.engagement + "/messages"
	if status, text := call(short, t, http.MethodPost, s.HTTP+path, s.token, string(encode(t, s.message(c, s.marks.of("TextWithoutNATS"))))); status < 500 {
		t.Errorf("without NATS: status %d: %s", status, text)
	}
	if err := s.NATS.Start(); err != nil {
		t.Fatal(err)
	}
	err := suitetest.Await(ctx, "NATS", func(ctx context.Context) (bool, error) {
		status, _ := call(ctx, t, http.MethodPost, s.HTTP+path, s.token, string(encode(t, s.message(c, s.marks.of("TextWithNATS")))))
		return status < http.StatusInternalServerError, nil // the chat may have ended for idleness
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goIdle waits until the customer has been warned and the chat is over.
func (s *stage) goIdle(ctx context.Context, t *testing.T, c *chat) {
	t.Helper()
	err := suitetest.Await(ctx, "the idle timeout", func(ctx context.Context) (bool, error) {
		_, body := call(ctx, t, http.MethodGet, s.HTTP+"/v1/sessions/"+c.session+"/events:poll?wait=0s&maxEvents=500", s.token, "")
		return strings.Contains(body, "idleTimeoutExpired") && strings.Contains(body, "engagementTerminated"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// plant sends what is written down on purpose, so that the search can be seen to
// find it.
func (s *stage) plant(ctx context.Context, t *testing.T, c *chat, hook string) {
	t.Helper()
	headers := []string{"X-Request-Id", planted, "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Tracestate", "test=" + planted}
	status, text := call(ctx, t, http.MethodPost, s.HTTP+"/v1/sessions/"+c.session+":updateParameters", s.token, `{"sessionParameters":{"a":"b"}}`, headers...)
	if status != http.StatusOK {
		t.Errorf("a call with a request id: %d %s", status, text)
	}
	if status, text := call(ctx, t, http.MethodPost, hook, "", "{", headers...); status != http.StatusBadRequest {
		t.Errorf("a callback with a request id: %d %s", status, text)
	}
}
