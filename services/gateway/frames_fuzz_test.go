package gateway_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// rawCodec sends bytes as they are, and reads frames.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

func (rawCodec) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }

// frameSeeds are frames of every kind, and what is nearly one.
func frameSeeds(f *testing.F) [][]byte {
	f.Helper()
	long := strings.Repeat("x", 5000)
	var seeds [][]byte
	for _, r := range []*axpchatv1.ConnectRequest{
		hello("s1", ""), hello("another", "cursor"), hello("s1", strings.Repeat("A", 257)),
		{},
		{FrameId: "no payload"},
		{FrameId: strings.Repeat("i", 128), Payload: &axpchatv1.ConnectRequest_Ping{Ping: &axpchatv1.Ping{}}},
		{FrameId: strings.Repeat("i", 129), Payload: &axpchatv1.ConnectRequest_Ping{Ping: &axpchatv1.Ping{}}},
		{FrameId: "1", Payload: &axpchatv1.ConnectRequest_SendMessage{SendMessage: &axpchatv1.SendMessageRequest{EngagementId: "e-s1", ClientMessageId: "m", Text: "hi", CustomData: map[string]string{"a": "b"}}}},
		{FrameId: "2", Payload: &axpchatv1.ConnectRequest_SendMessage{SendMessage: &axpchatv1.SendMessageRequest{SessionId: "another", EngagementId: long, ClientMessageId: long, Text: long}}},
		{FrameId: "3", Payload: &axpchatv1.ConnectRequest_CreateEngagement{CreateEngagement: &axpchatv1.CreateEngagementRequest{Conversation: long}}},
		{FrameId: "4", Payload: &axpchatv1.ConnectRequest_EndEngagement{EndEngagement: &axpchatv1.EndEngagementRequest{EngagementId: "e-s1"}}},
		{FrameId: "5", Payload: &axpchatv1.ConnectRequest_UpdateSessionParameters{UpdateSessionParameters: &axpchatv1.UpdateSessionParametersRequest{SessionParameters: map[string]string{"": long}}}},
		{FrameId: "6", Payload: &axpchatv1.ConnectRequest_AppendCustomerIdentifiers{AppendCustomerIdentifiers: &axpchatv1.AppendCustomerIdentifiersRequest{}}},
		{FrameId: "7", Payload: &axpchatv1.ConnectRequest_DeleteSession{DeleteSession: &axpchatv1.DeleteSessionRequest{}}},
		{FrameId: "8", Payload: &axpchatv1.ConnectRequest_RefreshToken{RefreshToken: &axpchatv1.RefreshToken{Token: "e30.e30.AAAA"}}},
		{FrameId: "9", Payload: &axpchatv1.ConnectRequest_RefreshToken{RefreshToken: &axpchatv1.RefreshToken{Token: strings.Repeat("t", 16385)}}},
		{FrameId: "10", Payload: &axpchatv1.ConnectRequest_KeepAlive{KeepAlive: &axpchatv1.KeepAliveRequest{}}},
	} {
		data, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, data)
	}
	invalid := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "\xff\xfe\xed\xa0\x80")
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 1000, protowire.BytesType), []byte("unknown"))
	group := protowire.AppendTag(protowire.AppendTag(nil, 99, protowire.StartGroupType), 99, protowire.EndGroupType)
	deep := []byte(nil)
	for range 12000 {
		deep = protowire.AppendTag(deep, 99, protowire.StartGroupType)
	}
	twice := slices.Concat(seeds[5], seeds[7]) // the last of two payloads counts
	return append(seeds, invalid, unknown, group, deep, twice, []byte("\x0a\xff\xff\xff\xff\x0f"), []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), []byte("\x22\x05\x0a"))
}

// FuzzConnectFrames: whatever a client says on Connect, first or after a right
// hello, the stream goes on or ends with a status that blames the client, and the
// gateway goes on: no frame is answered by a fault of the server's, nothing comes
// that is not of the session, and another stream is served as before.
func FuzzConnectFrames(f *testing.F) {
	for _, seed := range frameSeeds(f) {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	s := start(f, map[string]string{
		"LIMIT_CUSTOMER_CONNECTS": "off", "LIMIT_SESSION_CONNECTS": "off", "LIMIT_ADDRESS_CONNECTS": "off", "LIMIT_ACCOUNT_CONNECTS": "off",
		"LIMIT_CUSTOMER_FRAMES": "off", "LIMIT_SESSION_FRAMES": "off", "LIMIT_ADDRESS_FRAMES": "off", "LIMIT_ACCOUNT_FRAMES": "off",
		"LIMIT_CUSTOMER_MESSAGES": "off", "LIMIT_SESSION_MESSAGES": "off", "LIMIT_ADDRESS_MESSAGES": "off", "LIMIT_ACCOUNT_MESSAGES": "off",
		"LIMIT_CUSTOMER_BYTES": "off", "LIMIT_SESSION_BYTES": "off", "LIMIT_ADDRESS_BYTES": "off", "LIMIT_ACCOUNT_BYTES": "off",
	})
	s.session("s1")
	mine := token(f, subject, nil)
	greeting, err := proto.Marshal(hello("s1", ""))
	if err != nil {
		f.Fatal(err)
	}
	ping, err := proto.Marshal(&axpchatv1.ConnectRequest{FrameId: "the end", Payload: &axpchatv1.ConnectRequest_Ping{Ping: &axpchatv1.Ping{}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, greeted bool) {
		said := [][]byte{data, ping}
		if greeted {
			said = slices.Insert(said, 0, greeting)
		}
		if _, err := converse(t.Context(), s, mine, said); err != nil {
			t.Errorf("%q (after hello: %v): %v", data, greeted, err)
		}
		if answered, err := converse(t.Context(), s, mine, [][]byte{greeting, ping}); !answered {
			t.Errorf("the next stream after %q was not served: %v", data, err)
		}
	})
}

// converse says frames on one stream, the last of them a ping, and hears its
// answer or the end. The error tells what should not be.
func converse(ctx context.Context, s *suite, token string, said [][]byte) (answered bool, err error) {
	ctx, cancel := context.WithTimeout(bearer(ctx, token), patience)
	defer cancel()
	stream, err := s.grpc.NewStream(ctx, &axpchatv1.ChatService_ServiceDesc.Streams[0], axpchatv1.ChatService_Connect_FullMethodName,
		grpc.ForceCodec(rawCodec{}))
	if err != nil {
		return false, err
	}
	for _, data := range said {
		_ = stream.SendMsg(data) // that the stream has ended tells RecvMsg
	}
	for n := 0; ; n++ {
		m := &axpchatv1.ConnectResponse{}
		if err := stream.RecvMsg(m); err != nil {
			return false, blame(err)
		}
		switch p := m.GetPayload().(type) {
		case *axpchatv1.ConnectResponse_Welcome:
			if got := p.Welcome.GetSession().GetSessionId(); n != 0 || got != "s1" {
				return false, fmt.Errorf("frame %d welcomes to session %q", n, got)
			}
		case *axpchatv1.ConnectResponse_Pong:
			if p.Pong.GetFrameId() == "the end" {
				return true, nil
			}
		case *axpchatv1.ConnectResponse_Reply:
			if got := p.Reply.GetProblem().GetReason(); got == axpchatv1.ErrorReason_ERROR_REASON_INTERNAL {
				return false, fmt.Errorf("reply %v", p.Reply)
			}
		case nil:
			return false, fmt.Errorf("frame %d holds nothing", n)
		}
	}
}

// blame is nil where a status is the client's fault.
func blame(err error) error {
	st := status.Convert(err)
	switch st.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.Unauthenticated, codes.ResourceExhausted, codes.FailedPrecondition:
		return nil
	case codes.Internal:
		// What gRPC itself can't decode it answers so.
		if strings.Contains(st.Message(), "failed to unmarshal") {
			return nil
		}
	}
	return fmt.Errorf("the stream ended: %w", err)
}
