package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/connector/dev"
)

// reasonOf is the code and the reason of a refusal.
func reasonOf(err error) string {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return st.Code().String() + " " + info.GetReason()
		}
	}
	return st.Code().String()
}

func (s *scene) dial(t *testing.T, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.GRPC, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func with(ctx context.Context, pairs ...string) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.Pairs(pairs...))
}

func bearer(ctx context.Context, token string) context.Context {
	return with(ctx, "authorization", "Bearer "+token)
}

// invoke calls a unary method, whatever its answer is made of.
func invoke(ctx context.Context, conn *grpc.ClientConn, m protoreflect.MethodDescriptor, req proto.Message, opts ...grpc.CallOption) (proto.Message, error) {
	out, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	if err != nil {
		return nil, err
	}
	resp := out.New().Interface()
	return resp, conn.Invoke(ctx, "/"+string(m.Parent().FullName())+"/"+string(m.Name()), req, resp, opts...)
}

func chatMethods() protoreflect.MethodDescriptors {
	return axpchatv1.File_axpchat_v1_chat_service_proto.Services().ByName("ChatService").Methods()
}

// onAnothers are requests that name the victim's session, by the name of their
// method.
func (s *scene) onAnothers() map[protoreflect.Name]proto.Message {
	ids := map[string]*axpchatv1.CustomerIdentifierValues{"a": {Values: []string{"b"}}}
	return map[protoreflect.Name]proto.Message{
		"GetSession":                &axpchatv1.GetSessionRequest{SessionId: s.session},
		"StepUp":                    &axpchatv1.StepUpRequest{SessionId: s.session},
		"UpdateSessionParameters":   &axpchatv1.UpdateSessionParametersRequest{SessionId: s.session, SessionParameters: map[string]string{"a": "b"}},
		"KeepAlive":                 &axpchatv1.KeepAliveRequest{SessionId: s.session},
		"AppendCustomerIdentifiers": &axpchatv1.AppendCustomerIdentifiersRequest{SessionId: s.session, CustomerIdentifiers: ids},
		"DeleteSession":             &axpchatv1.DeleteSessionRequest{SessionId: s.session},
		"CreateEngagement":          &axpchatv1.CreateEngagementRequest{SessionId: s.session},
		"GetEngagement":             &axpchatv1.GetEngagementRequest{SessionId: s.session, EngagementId: s.chat},
		"ListEngagements":           &axpchatv1.ListEngagementsRequest{SessionId: s.session},
		"JoinEngagement":            &axpchatv1.JoinEngagementRequest{SessionId: s.own, EngagementId: s.chat, OwnerSessionId: s.session},
		"EndEngagement":             &axpchatv1.EndEngagementRequest{SessionId: s.session, EngagementId: s.chat},
		"SendMessage":               &axpchatv1.SendMessageRequest{SessionId: s.session, EngagementId: s.chat, ClientMessageId: "x", Text: "I am the victim"},
		"ListMessages":              &axpchatv1.ListMessagesRequest{SessionId: s.session, EngagementId: s.chat},
		"CreateAttachment":          &axpchatv1.CreateAttachmentRequest{SessionId: s.session, Name: "a.png", ContentType: "image/png", Size: 1},
		"GetAttachment":             &axpchatv1.GetAttachmentRequest{SessionId: s.session, AttachmentId: "some"},
		"CreateTicket":              &axpchatv1.CreateTicketRequest{SessionId: s.session},
		"PollEvents":                &axpchatv1.PollEventsRequest{SessionId: s.session},
		"WatchEvents":               &axpchatv1.WatchEventsRequest{SessionId: s.session},
	}
}

// anothersByGRPC goes through the methods as the service describes them: one that
// is added must be attacked as well.
func (s *scene) anothersByGRPC(ctx context.Context, t *testing.T) {
	t.Helper()
	conn := s.dial(t)
	requests := s.onAnothers()
	for i := range chatMethods().Len() {
		m := chatMethods().Get(i)
		req, known := requests[m.Name()]
		switch {
		case m.Name() == "CreateSession": // names none
			continue
		case m.Name() == "Connect": // see anothersOnStreams
			continue
		case !known:
			t.Errorf("%s is not attacked", m.Name())
			continue
		}
		// The same request is the victim's right: it is refused for whose it is alone.
		for who, token := range map[string]string{"the thief": s.thief, "a customer of another account": s.stranger(t)} {
			var (
				resp proto.Message
				err  error
			)
			if m.IsStreamingServer() {
				resp, err = watch(bearer(ctx, token), conn, req)
			} else {
				resp, err = invoke(bearer(ctx, token), conn, m, req)
			}
			if got := reasonOf(err); got != "NotFound SESSION_NOT_FOUND" {
				t.Errorf("%s by %s: %s (%v)", m.Name(), who, got, resp)
			}
		}
	}
	s.goesOn(ctx, t)
	chat := axpchatv1.NewChatServiceClient(conn)
	got, err := chat.GetEngagement(bearer(ctx, s.victim), &axpchatv1.GetEngagementRequest{SessionId: s.session, EngagementId: s.chat})
	if err != nil || got.GetEngagement().GetStatus() == axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_TERMINATED {
		t.Errorf("the victim's chat after it all: %v, %v", got, err)
	}
}

// watch is the first frame of WatchEvents.
func watch(ctx context.Context, conn *grpc.ClientConn, req proto.Message) (proto.Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked, ok := req.(*axpchatv1.WatchEventsRequest)
	if !ok {
		return nil, errors.New("not of WatchEvents")
	}
	in, err := axpchatv1.NewChatServiceClient(conn).WatchEvents(ctx, asked)
	if err != nil {
		return nil, err
	}
	return in.Recv()
}

// TestMetadataIsNoWayAround: one header says who somebody is, and nothing else
// that a client can put beside it.
func TestMetadataIsNoWayAround(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	s := start(ctx, t, func(c *dev.Config) {
		if err := c.Connector.Gateway.Limits.AddressFrames.UnmarshalText([]byte("80/1h")); err != nil {
			t.Fatal(err)
		}
	})
	conn := s.dial(t)
	m := chatMethods().ByName("GetSession")
	req := &axpchatv1.GetSessionRequest{SessionId: s.session}
	victims, thiefs := "Bearer "+s.victim, "Bearer "+s.thief
	const refused, notThere = "Unauthenticated UNAUTHENTICATED", "NotFound SESSION_NOT_FOUND"
	for _, a := range []struct {
		name string
		md   []string
		want string
	}{
		{"nothing", nil, refused},
		{"as the REST gateway forwards headers", []string{"grpc-metadata-authorization", victims}, refused},
		{"as the REST gateway hands the header on", []string{"grpcgateway-authorization", victims}, refused},
		{"in binary", []string{"authorization-bin", victims}, refused},
		{"handed over", []string{"axpchat-customer", "victim", "axpchat-customer-bin", "victim"}, refused},
		{"for a proxy", []string{"proxy-authorization", victims}, refused},
		{"as a cookie", []string{"cookie", "authorization=" + victims}, refused},
		{"by another scheme", []string{"authorization", "Basic " + s.victim}, refused},
		{"without a scheme", []string{"authorization", s.victim}, refused},
		{"two in one", []string{"authorization", thiefs + ", " + victims}, refused},
		{"the victim's token after mine", []string{"authorization", thiefs, "authorization", victims}, refused},
		{"the victim's token before mine", []string{"authorization", victims, "authorization", thiefs}, refused},
		{"the victim's token twice", []string{"authorization", victims, "authorization", victims}, refused},
		{"mine, the victim's as REST would", []string{"authorization", thiefs, "grpc-metadata-authorization", victims, "grpcgateway-authorization", victims}, notThere},
		{"mine, from within", []string{"authorization", thiefs, "axpchat-origin", "7f000001-1", "axpchat-customer", "victim", "x-forwarded-for", "127.0.0.1", "forwarded", "for=127.0.0.1"}, notThere},
		{"mine, with the victim's name", []string{"authorization", thiefs, "x-forwarded-user", "victim", "x-forwarded-client-cert", "Subject=CN=gateway", "sub", "victim", "account", "SANDBX"}, notThere},
	} {
		_, err := invoke(with(ctx, a.md...), conn, m, req)
		if got := reasonOf(err); got != a.want {
			t.Errorf("%s: %s, want %s", a.name, got, a.want)
		}
	}
	for _, authority := range []string{"axpchat.orchestrator.v1", "localhost:8083", "127.0.0.1", "evil.example"} {
		_, err := invoke(bearer(ctx, s.thief), conn, m, req, grpc.CallAuthority(authority))
		if got := reasonOf(err); got != notThere {
			t.Errorf("authority %s: %s, want %s", authority, got, notThere)
		}
	}
	// Neither are the services behind it to be had at the same door.
	for _, method := range []string{"/axpchat.orchestrator.v1.OrchestratorService/GetSession", "/axpchat.orchestrator.v1.PrivacyService/EraseSession", "/axpchat.v1.ChatService/../GetSession", "/"} {
		err := conn.Invoke(bearer(ctx, s.thief), method, req, &axpchatv1.GetSessionResponse{})
		if code := status.Code(err); code != codes.NotFound && code != codes.Unimplemented {
			t.Errorf("%s: %v", method, err)
		}
	}
	s.forwarded(ctx, t)
	s.goesOn(ctx, t)
}

// forwarded: who claims another address with every call is still one address, and
// spends what it may have. The victim's is another one.
func (s *scene) forwarded(ctx context.Context, t *testing.T) {
	t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	conn := s.dial(t, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return from.DialContext(ctx, "tcp", addr) }))
	last := ""
	for i := range 120 {
		_, err := invoke(with(ctx, "authorization", "Bearer "+s.thief, "x-forwarded-for", fmt.Sprint("203.0.113.", i), "axpchat-origin", fmt.Sprintf("%x-%x", i, i)),
			conn, chatMethods().ByName("GetSession"), &axpchatv1.GetSessionRequest{SessionId: s.own})
		last = reasonOf(err)
		if err != nil {
			break
		}
	}
	if last != "ResourceExhausted RATE_LIMITED" {
		t.Errorf("120 calls, of which 80 are allowed: %s", last)
	}
}

// bombsByGRPC: GRPC_MAX_RECV_BYTES counts what comes out, and stops there.
func (s *scene) bombsByGRPC(ctx context.Context, t *testing.T) {
	t.Helper()
	conn := s.dial(t)
	chat := axpchatv1.NewChatServiceClient(conn)
	packed := grpc.UseCompressor(gzip.Name)
	// What is compressed and small is taken: the refusals are for the size.
	if _, err := chat.GetSession(bearer(ctx, s.victim), &axpchatv1.GetSessionRequest{SessionId: s.session}, packed); err != nil {
		t.Fatalf("a compressed call: %v", err)
	}
	bomb := strings.Repeat(" ", 2<<20)
	for who, token := range map[string]string{"the thief": s.thief, "a stranger": "none"} {
		_, err := chat.CreateSession(bearer(ctx, token), &axpchatv1.CreateSessionRequest{DisplayName: bomb}, packed)
		if code := status.Code(err); code != codes.ResourceExhausted {
			t.Errorf("a bomb in a call of %s: %v", who, err)
		}
		_, err = chat.CreateSession(bearer(ctx, token), &axpchatv1.CreateSessionRequest{DisplayName: strings.Repeat("a", 1<<20)})
		if code := status.Code(err); code != codes.ResourceExhausted {
			t.Errorf("a large call of %s: %v", who, err)
		}
	}
	up, err := chat.Connect(bearer(ctx, s.thief), packed)
	if err != nil {
		t.Fatal(err)
	}
	hello := &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Hello{Hello: &axpchatv1.Hello{SessionId: s.own}}}
	err = errors.Join(up.Send(hello), up.Send(&axpchatv1.ConnectRequest{FrameId: bomb}))
	if err != nil && !errors.Is(err, io.EOF) { // it may have ended meanwhile; reading tells why
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, err = up.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a bomb in a frame: %v", err)
	}
	s.goesOn(ctx, t)
}
