package gateway_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	ws "github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/stream/streamtest"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

// rawCodec sends bytes as they are, and reads frames.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

func (rawCodec) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }

// pipe is a place without sockets, of which each waits for the system. It is none for
// HTTP, whose server breaks off a read by a deadline before it hands a connection
// over: a pipe that is late with that breaks off the WebSocket's first read instead.
func pipe() place {
	lis := bufconn.Listen(1 << 16)
	return place{lis, func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }}
}

// FuzzConnectFrames: whatever a client says, first or after a right hello, by gRPC
// or on a WebSocket, as bytes or as JSON, the stream goes on or ends with a status
// that blames the client, and the gateway goes on: no frame is answered by a fault
// of the server's, nothing comes that is not of the session, and another stream is
// served as before. It is the whole gateway with NATS; FuzzFrames tries a hundred
// times as many frames on what lies between.
func FuzzConnectFrames(f *testing.F) {
	for _, seed := range streamtest.Seeds(f) {
		for _, greeted := range []bool{true, false} {
			if seed.JSON {
				f.Add(seed.Data, greeted, byte(2))
				continue
			}
			f.Add(seed.Data, greeted, byte(0))
			f.Add(seed.Data, greeted, byte(1))
		}
	}
	unlimited := map[string]string{}
	for _, scope := range []string{"CONNECTION", "SESSION", "CUSTOMER", "ADDRESS", "ACCOUNT"} {
		for _, of := range []string{"CONNECTS", "FRAMES", "MESSAGES", "BYTES"} {
			unlimited["LIMIT_"+scope+"_"+of] = "off"
		}
	}
	s := startAt(f, bustest.Start(f), unlimited, pipe(), sockets(f))
	s.session("s1")
	s.session("s2")
	mine := token(f, subject, nil)
	neighbour, err := openConnect(f.Context(), s, mine, "s2", "")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(neighbour.leave)
	ways := []func(context.Context, *suite, string) (mouth, error){rawConnect, rawWebSocket("axpchat.v1+proto"), rawWebSocket("axpchat.v1+json")}
	f.Fuzz(func(t *testing.T, data []byte, greeted bool, by byte) {
		way := int(by) % len(ways)
		encode := proto.Marshal
		if way == 2 {
			encode = protojson.Marshal
		}
		var said [][]byte
		for _, frame := range []*axpchatv1.ConnectRequest{streamtest.Hello("s1", ""), nil, streamtest.Ping("the end")} {
			switch {
			case frame == nil:
				said = append(said, data)
			case greeted || frame.GetHello() == nil:
				right, err := encode(frame)
				if err != nil {
					t.Fatal(err)
				}
				said = append(said, right)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		peer, err := ways[way](ctx, s, mine)
		if err != nil {
			t.Fatal(err)
		}
		if err := converse(peer, said); err != nil {
			t.Errorf("way %d, %q (after hello: %v): %v", way, data, greeted, err)
		}
		if err := neighbour.(speaker).say(streamtest.Ping("still there")); err != nil {
			t.Fatalf("the neighbour's stream ended with %q: %v", data, err)
		}
		want(t, neighbour, "a pong", func(m *axpchatv1.ConnectResponse) (bool, bool) {
			return true, m.GetPong().GetFrameId() == "still there"
		})
	})
}

// mouth says frames as bytes, and tells by blame whether it is the client's
// fault that no more come.
type mouth struct {
	say   func([]byte) error
	next  func() (*axpchatv1.ConnectResponse, error)
	blame func(error) error
	leave func()
}

func rawConnect(ctx context.Context, s *suite, token string) (mouth, error) {
	ctx, cancel := context.WithCancel(bearer(ctx, token))
	stream, err := s.grpc.NewStream(ctx, &axpchatv1.ChatService_ServiceDesc.Streams[0], axpchatv1.ChatService_Connect_FullMethodName,
		grpc.ForceCodec(rawCodec{}))
	return mouth{
		say: func(data []byte) error { return stream.SendMsg(data) },
		next: func() (*axpchatv1.ConnectResponse, error) {
			m := &axpchatv1.ConnectResponse{}
			return m, stream.RecvMsg(m)
		},
		blame: blame, leave: cancel,
	}, err
}

func rawWebSocket(protocol string) func(context.Context, *suite, string) (mouth, error) {
	return func(ctx context.Context, s *suite, token string) (mouth, error) {
		f, err := dialWebSocket(ctx, s, protocol, token, "s1")
		if err != nil {
			return mouth{}, err
		}
		kind := ws.MessageText
		if f.binary {
			kind = ws.MessageBinary
		}
		return mouth{
			say: func(data []byte) error { return f.conn.Write(ctx, kind, data) }, next: f.next, leave: f.leave,
			blame: func(err error) error {
				if code := ws.CloseStatus(err); code == 4503 || code == 4502 || code == ws.StatusMessageTooBig {
					return nil
				}
				return fmt.Errorf("the stream ended: %w", err)
			},
		}, nil
	}
}

// converse says frames on one stream, the last of them a ping, and hears its
// answer or the end. The error tells what should not be.
func converse(peer mouth, said [][]byte) error {
	defer peer.leave()
	for _, data := range said {
		_ = peer.say(data) // that the stream has ended tells next
	}
	var why *axpchatv1.Close
	for n := 0; ; n++ {
		m, err := peer.next()
		if err != nil {
			if err = peer.blame(err); err != nil {
				err = fmt.Errorf("%w: %v", err, why)
			}
			return err
		}
		switch p := m.GetPayload().(type) {
		case *axpchatv1.ConnectResponse_Welcome:
			if got := p.Welcome.GetSession().GetSessionId(); n != 0 || got != "s1" {
				return fmt.Errorf("frame %d welcomes to session %q", n, got)
			}
		case *axpchatv1.ConnectResponse_Close:
			why = p.Close
		case *axpchatv1.ConnectResponse_Pong:
			if p.Pong.GetFrameId() == "the end" {
				return nil
			}
		case *axpchatv1.ConnectResponse_Reply:
			if got := p.Reply.GetProblem().GetReason(); got == axpchatv1.ErrorReason_ERROR_REASON_INTERNAL {
				return fmt.Errorf("reply %v", p.Reply)
			}
		case nil:
			return fmt.Errorf("frame %d holds nothing", n)
		}
	}
}

// blame is nil where a status is the client's fault.
func blame(err error) error {
	st := status.Convert(err)
	switch st.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.Unauthenticated, codes.ResourceExhausted, codes.FailedPrecondition:
		return nil
	}
	return fmt.Errorf("the stream ended: %w", err)
}
