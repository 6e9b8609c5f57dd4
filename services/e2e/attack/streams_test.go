package attack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// stranger is a token of the victim's subject in another account.
func (s *scene) stranger(t *testing.T) string {
	t.Helper()
	c := claims("victim")
	c["account"] = "OTHERS"
	return sign(t, jwt.SigningMethodHS256, []byte(suitetest.TokenSecret), c)
}

// line is a two-way stream, on whichever transport.
type line interface {
	say(ctx context.Context, f *axpchatv1.ConnectRequest) error
	// hear is the next frame; how the transport itself ended is the error.
	hear(ctx context.Context) (*axpchatv1.ConnectResponse, error)
	hangUp()
}

type grpcLine struct {
	up     grpc.BidiStreamingClient[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse]
	cancel context.CancelFunc
}

func (l *grpcLine) say(_ context.Context, f *axpchatv1.ConnectRequest) error { return l.up.Send(f) }
func (l *grpcLine) hear(context.Context) (*axpchatv1.ConnectResponse, error) { return l.up.Recv() }
func (l *grpcLine) hangUp()                                                  { l.cancel() }

type socketLine struct {
	conn   *websocket.Conn
	binary bool
}

func (l *socketLine) say(ctx context.Context, f *axpchatv1.ConnectRequest) error {
	if l.binary {
		data, err := proto.Marshal(f)
		return errors.Join(err, l.conn.Write(ctx, websocket.MessageBinary, data))
	}
	data, err := protojson.Marshal(f)
	return errors.Join(err, l.conn.Write(ctx, websocket.MessageText, data))
}

func (l *socketLine) hear(ctx context.Context) (*axpchatv1.ConnectResponse, error) {
	kind, data, err := l.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	f := &axpchatv1.ConnectResponse{}
	if kind == websocket.MessageBinary {
		return f, proto.Unmarshal(data, f)
	}
	return f, protojson.Unmarshal(data, f)
}

func (l *socketLine) hangUp() { _ = l.conn.Close(websocket.StatusNormalClosure, "") }

const (
	overGRPC  = "gRPC"
	overJSON  = "axpchat.v1+json"
	overProto = "axpchat.v1+proto"
)

// open opens a two-way stream: at the session's address where the transport has
// one. The ticket is used in place of the token where there is one.
func (s *scene) open(ctx context.Context, t *testing.T, over, token, session, ticket string) line {
	t.Helper()
	if over == overGRPC {
		ctx, cancel := context.WithCancel(ctx)
		up, err := axpchatv1.NewChatServiceClient(s.dial(t)).Connect(bearer(ctx, token))
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		t.Cleanup(cancel)
		return &grpcLine{up, cancel}
	}
	address, head := strings.Replace(s.HTTP, "http", "ws", 1)+"/v1/sessions/"+session+":connect", http.Header{}
	if ticket != "" {
		address += "?ticket=" + ticket
	} else {
		head.Set("Authorization", "Bearer "+token)
	}
	conn, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{Subprotocols: []string{over}, HTTPHeader: head})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &socketLine{conn, over == overProto}
}

func hello(session string) *axpchatv1.ConnectRequest {
	return &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Hello{Hello: &axpchatv1.Hello{SessionId: session}}}
}

// refusal says hello, reads to the end and tells how the stream ended: the code of
// its last frame and what the transport says.
func refusal(ctx context.Context, l line, session string) (string, error) {
	_ = l.say(ctx, hello(session)) // a stream that is refused may be closed already
	code := ""
	for {
		f, err := l.hear(ctx)
		switch {
		case err == nil && f.GetClose() != nil:
			code = strings.TrimPrefix(f.GetClose().GetCode().String(), "CLOSE_CODE_")
		case err == nil:
			return "", fmt.Errorf("was told %T", f.GetPayload())
		case websocket.CloseStatus(err) > 0:
			return fmt.Sprint(code, " ", int(websocket.CloseStatus(err))), nil
		default:
			return fmt.Sprint(code, " ", reasonOf(err)), nil
		}
	}
}

// anothersOnStreams: by Connect and by WebSocket in both of its forms, neither to
// be opened nor to be given commands for.
func (s *scene) anothersOnStreams(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, a := range []struct {
		name, over, token string
		address, hello    string
		want              string
	}{
		{"hello", overGRPC, s.thief, "", s.session, "SESSION_NOT_FOUND NotFound SESSION_NOT_FOUND"},
		{"hello without a session", overGRPC, s.thief, "", "", "SESSION_NOT_FOUND NotFound SESSION_NOT_FOUND"},
		{"hello with wildcards", overGRPC, s.thief, "", "*", "SESSION_NOT_FOUND NotFound SESSION_NOT_FOUND"},
		{"hello from another account", overGRPC, s.stranger(t), "", s.session, "SESSION_NOT_FOUND NotFound SESSION_NOT_FOUND"},
		{"no token", overGRPC, "", "", s.session, " Unauthenticated UNAUTHENTICATED"},
		{"address", overJSON, s.thief, s.session, "", "SESSION_NOT_FOUND 4502"},
		{"address", overProto, s.thief, s.session, "", "SESSION_NOT_FOUND 4502"},
		{"address and hello", overJSON, s.thief, s.session, s.session, "SESSION_NOT_FOUND 4502"},
		{"my address, the victim's hello", overJSON, s.thief, s.own, s.session, "PROTOCOL_ERROR 4503"},
		{"my address, the victim's hello", overProto, s.thief, s.own, s.session, "PROTOCOL_ERROR 4503"},
		{"the victim's address, my hello", overProto, s.thief, s.session, s.own, "PROTOCOL_ERROR 4503"},
		{"address from another account", overJSON, s.stranger(t), s.session, "", "SESSION_NOT_FOUND 4502"},
		{"no token", overProto, "", s.session, "", "UNAUTHENTICATED 4501"},
		{"a forged token", overJSON, s.victim[:len(s.victim)-4] + "AAAA", s.session, "", "UNAUTHENTICATED 4501"},
	} {
		got, err := refusal(ctx, s.open(ctx, t, a.over, a.token, a.address, ""), a.hello)
		if err != nil || got != a.want {
			t.Errorf("%s, %s: %q, %v, want %q", a.over, a.name, got, err, a.want)
		}
	}
	for _, over := range []string{overGRPC, overJSON, overProto} {
		l := s.open(ctx, t, over, s.thief, s.own, "")
		s.commandsForAnother(ctx, t, over, l)
		l.hangUp()
	}
	s.goesOn(ctx, t)
}

// commandsForAnother gives each command on the thief's own stream: with the
// victim's session, and with the victim's chat alone.
func (s *scene) commandsForAnother(ctx context.Context, t *testing.T, over string, l line) {
	t.Helper()
	if err := l.say(ctx, hello(s.own)); err != nil {
		t.Fatal(err)
	}
	type frame = axpchatv1.ConnectRequest
	ids := map[string]*axpchatv1.CustomerIdentifierValues{"a": {Values: []string{"b"}}}
	for i, c := range []struct {
		frame *frame
		want  string
	}{
		{&frame{Payload: &axpchatv1.ConnectRequest_SendMessage{SendMessage: &axpchatv1.SendMessageRequest{SessionId: s.session, EngagementId: s.chat, ClientMessageId: "x", Text: "I am the victim"}}}, "INVALID_ARGUMENT"},
		{&frame{Payload: &axpchatv1.ConnectRequest_CreateEngagement{CreateEngagement: &axpchatv1.CreateEngagementRequest{SessionId: s.session}}}, "INVALID_ARGUMENT"},
		{&frame{Payload: &axpchatv1.ConnectRequest_EndEngagement{EndEngagement: &axpchatv1.EndEngagementRequest{SessionId: s.session, EngagementId: s.chat}}}, "INVALID_ARGUMENT"},
		{&frame{Payload: &axpchatv1.ConnectRequest_UpdateSessionParameters{UpdateSessionParameters: &axpchatv1.UpdateSessionParametersRequest{SessionId: s.session, SessionParameters: map[string]string{"a": "b"}}}}, "INVALID_ARGUMENT"},
		{&frame{Payload: &axpchatv1.ConnectRequest_AppendCustomerIdentifiers{AppendCustomerIdentifiers: &axpchatv1.AppendCustomerIdentifiersRequest{SessionId: s.session, CustomerIdentifiers: ids}}}, "INVALID_ARGUMENT"},
		{&frame{Payload: &axpchatv1.ConnectRequest_DeleteSession{DeleteSession: &axpchatv1.DeleteSessionRequest{SessionId: s.session}}}, "INVALID_ARGUMENT"},
		{&frame{Payload: &axpchatv1.ConnectRequest_KeepAlive{KeepAlive: &axpchatv1.KeepAliveRequest{SessionId: s.session}}}, "INVALID_ARGUMENT"},
		{&frame{Payload: &axpchatv1.ConnectRequest_RefreshToken{RefreshToken: &axpchatv1.RefreshToken{Token: s.victim}}}, "UNAUTHENTICATED"},
		{&frame{Payload: &axpchatv1.ConnectRequest_RefreshToken{RefreshToken: &axpchatv1.RefreshToken{Token: s.stranger(t)}}}, "UNAUTHENTICATED"},
		{&frame{Payload: &axpchatv1.ConnectRequest_SendMessage{SendMessage: &axpchatv1.SendMessageRequest{EngagementId: s.chat, ClientMessageId: "x", Text: "I am the victim"}}}, "ENGAGEMENT_NOT_FOUND"},
		{&frame{Payload: &axpchatv1.ConnectRequest_EndEngagement{EndEngagement: &axpchatv1.EndEngagementRequest{EngagementId: s.chat}}}, "ENGAGEMENT_NOT_FOUND"},
	} {
		c.frame.FrameId = fmt.Sprint("f", i)
		if err := l.say(ctx, c.frame); err != nil {
			t.Fatal(err)
		}
		for answered := false; !answered; {
			f, err := l.hear(ctx)
			if err != nil {
				t.Fatalf("%s, %T: %v", over, c.frame.GetPayload(), err)
			}
			reply := f.GetReply()
			answered = reply.GetFrameId() == c.frame.GetFrameId()
			if got := strings.TrimPrefix(reply.GetProblem().GetReason().String(), "ERROR_REASON_"); answered && got != c.want {
				t.Errorf("%s, %T: %v, want %s", over, c.frame.GetPayload(), reply, c.want)
			}
		}
	}
}

// TestTicketsOpenNothingElse: a ticket is for one session and one use, once, and
// used up by who uses it wrongly.
func TestTicketsOpenNothingElse(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	s := start(ctx, t)
	s.goesOn(ctx, t)
	chat := axpchatv1.NewChatServiceClient(s.dial(t))
	ticket := func(token, session string, use axpchatv1.TicketUse) string {
		t.Helper()
		got, err := chat.CreateTicket(bearer(ctx, token), &axpchatv1.CreateTicketRequest{SessionId: session, Use: use})
		if err != nil {
			t.Fatal(err)
		}
		return got.GetTicket()
	}
	const events, connect = axpchatv1.TicketUse_TICKET_USE_EVENTS, axpchatv1.TicketUse_TICKET_USE_CONNECT
	theirs := ticket(s.victim, s.session, connect)
	spoilt := ticket(s.victim, s.session, connect)
	for _, a := range []struct{ name, session, ticket string }{
		{"my session's", s.session, ticket(s.thief, s.own, connect)},
		{"the victim's for my session", s.own, theirs},
		{"the same where it belongs, now", s.session, theirs},
		{"for events", s.session, ticket(s.victim, s.session, events)},
		{"for nothing in particular", s.session, ticket(s.victim, s.session, axpchatv1.TicketUse_TICKET_USE_UNSPECIFIED)},
		{"a token", s.session, s.victim},
		{"made up", s.session, strings.Repeat("A", 43)},
		{"a wildcard", s.session, "*"},
	} {
		for _, over := range []string{overJSON, overProto} {
			got, err := refusal(ctx, s.open(ctx, t, over, "", a.session, a.ticket), "")
			if err != nil || got != "UNAUTHENTICATED 4501" {
				t.Errorf("%s, %s: %q, %v", over, a.name, got, err)
			}
		}
	}
	s.try(ctx, t, []attack{
		{"events by a ticket to connect", sse(s.session, spoilt), http.StatusUnauthorized, "TICKET_INVALID"},
		{"events by my ticket", sse(s.session, ticket(s.thief, s.own, events)), http.StatusUnauthorized, "TICKET_INVALID"},
		{"a call by a ticket", request{method: http.MethodGet, path: "/v1/sessions/" + s.session + "?ticket=" + ticket(s.victim, s.session, events)}, http.StatusUnauthorized, "UNAUTHENTICATED"},
	})
	// One that is used rightly opens the stream, so that the others show something.
	good := s.open(ctx, t, overProto, "", s.session, ticket(s.victim, s.session, connect))
	if err := good.say(ctx, hello("")); err != nil {
		t.Fatal(err)
	}
	defer good.hangUp()
	if f, err := good.hear(ctx); err != nil || f.GetWelcome().GetSession().GetSessionId() != s.session {
		t.Errorf("the victim's own ticket: %v, %v", f, err)
	}
}

func sse(session, ticket string) request {
	return request{method: http.MethodGet, path: "/v1/sessions/" + session + "/events?ticket=" + ticket, headers: map[string]string{"Accept": "text/event-stream"}}
}
