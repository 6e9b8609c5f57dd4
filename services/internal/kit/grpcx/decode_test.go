package grpcx_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
)

// raw sends bytes as they are.
type raw struct{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("%T", v)
	}
	return proto.Unmarshal(data.Materialize(), m)
}

func (raw) Name() string { return "proto" }

// broken are messages that no protobuf is, by what is wrong with them.
func broken() map[string][]byte {
	secret := "a customer's words"
	return map[string][]byte{
		"no protobuf":               []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" + secret),
		"cut off":                   append([]byte{1<<3 | 2, 100}, secret...),
		"a text that is not UTF-8":  append([]byte{1<<3 | 2, byte(len(secret) + 1), 0xff}, secret...),
		"a group that does not end": {1<<3 | 3},
		"no number of a field":      {0},
	}
}

// TestWhatCantBeDecodedIsRefusedByTheChain: with a reason, without what was sent,
// and after everything that is done for other calls, such as counting and limits.
func TestWhatCantBeDecodedIsRefusedByTheChain(t *testing.T) {
	passed := 0
	link := grpcx.Interceptor{
		Name: "count",
		Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			passed++
			if m, ok := req.(proto.Message); !ok || proto.Size(m) > 0 {
				t.Errorf("a part of the message is handed on: %v", req)
			}
			return next(ctx, req)
		},
		Stream: func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			passed++
			return next(srv, s)
		},
	}
	const connect = "/axpchat.v1.ChatService/Connect"
	f := start(t, &chat{
		send: func(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
			t.Error("the handler was called")
			return &axpchatv1.SendMessageResponse{}, nil
		},
		watch: func(*axpchatv1.WatchEventsRequest, grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
			t.Error("the handler was called")
			return nil
		},
		connect: func(s grpc.BidiStreamingServer[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse]) error {
			_, err := s.Recv()
			return err
		},
	}, func(p *grpcx.ServerParams) {
		p.Interceptors, p.SelfValidating = []grpcx.Interceptor{link}, []string{connect}
	})
	want := 0
	for name, data := range broken() {
		ctx := patient(t)
		_, watching := sendRaw(ctx, f.conn, "/axpchat.v1.ChatService/WatchEvents", false, data)
		_, connecting := sendRaw(ctx, f.conn, connect, true, data)
		for kind, err := range map[string]error{
			"a call":   f.conn.Invoke(ctx, "/axpchat.v1.ChatService/SendMessage", data, &axpchatv1.SendMessageResponse{}, grpc.ForceCodecV2(raw{})),
			"a watch":  watching,
			"a stream": connecting,
		} {
			want++
			if status.Code(err) != codes.InvalidArgument || !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT) ||
				!strings.Contains(errs.From(err).Detail, "axpchat.v1.") || strings.Contains(err.Error(), "words") {
				t.Errorf("%s in %s: %v", name, kind, err)
			}
		}
	}
	if passed != want {
		t.Errorf("%d of %d went through the chain", passed, want)
	}
	if logged := f.log.String(); strings.Contains(logged, "words") || !strings.Contains(logged, "INVALID_ARGUMENT") {
		t.Errorf("the log says %s", logged)
	}
}

// sendRaw sends a message over a stream and returns the answer.
func sendRaw(ctx context.Context, conn *grpc.ClientConn, method string, listens bool, data []byte) (*axpchatv1.ConnectResponse, error) {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: listens}, method, grpc.ForceCodecV2(raw{}))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.SendMsg(data), s.CloseSend()); err != nil {
		return nil, err
	}
	out := &axpchatv1.ConnectResponse{}
	return out, s.RecvMsg(out)
}

// unencodable panics when it is encoded.
type unencodable struct{ proto.Message }

// TestAnAnswerWhoseEncodingPanicsEndsItsCallAlone: gRPC encodes past the chain.
func TestAnAnswerWhoseEncodingPanicsEndsItsCallAlone(t *testing.T) {
	answer := func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return unencodable{}, nil
	}
	send := func(_ any, s grpc.ServerStream, _ *grpc.StreamServerInfo, _ grpc.StreamHandler) error {
		return s.SendMsg(unencodable{})
	}
	f := start(t, &chat{}, func(p *grpcx.ServerParams) {
		p.Interceptors = []grpcx.Interceptor{{Name: "broken", Unary: answer, Stream: send}}
	})
	ctx := patient(t)
	for range 2 { // the server goes on
		if _, err := f.client.SendMessage(ctx, message()); status.Code(err) != codes.Internal {
			t.Errorf("a call: %v", err)
		}
		stream, err := f.client.WatchEvents(ctx, &axpchatv1.WatchEventsRequest{SessionId: "s"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Internal {
			t.Errorf("a stream: %v", err)
		}
	}
	if n := strings.Count(f.log.String(), `"where":"encode"`); n != 4 {
		t.Errorf("%d panics are logged, want 4:\n%s", n, f.log)
	}
}
