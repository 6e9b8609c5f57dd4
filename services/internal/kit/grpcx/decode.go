package grpcx

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

// incoming is where a message is to be decoded to, and why it could not be. gRPC
// itself would call that INTERNAL, for calls before the first interceptor: what
// can't be decoded would be nobody's call, free of limits, logs and metrics.
type incoming struct {
	into  any
	fault error
}

// codec is gRPC's for protobuf, but that the fault of a message is no failure of
// reading one, and that a panic over a message ends its call alone: gRPC encodes
// answers past the chain, where nothing recovers.
type codec struct {
	encoding.CodecV2
	panics *panics.Watch
}

func newCodec(w *panics.Watch) codec { return codec{encoding.GetCodecV2(encodingproto.Name), w} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (data mem.BufferSlice, err error) {
	err = c.panics.Do(context.Background(), "encode", func() (err error) {
		data, err = c.CodecV2.Marshal(v)
		return err
	})
	return data, err
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*incoming)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	var fault error
	if broken := c.panics.Do(context.Background(), "decode", func() error {
		fault = c.CodecV2.Unmarshal(data, in.into)
		return nil
	}); broken != nil {
		return broken
	}
	if fault != nil {
		in.fault = undecodable(in.into, fault)
	}
	return nil
}

// undecodable empties a message that was decoded in part, and tells the sender
// what it is not; the decoder's own text stays here.
func undecodable(v any, cause error) error {
	m, ok := v.(proto.Message)
	if !ok {
		return cause
	}
	proto.Reset(m)
	return errs.Newf(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT,
		"the message can't be decoded: it is no %s in protobuf, or a text in it is not UTF-8", m.ProtoReflect().Descriptor().FullName()).WithCause(cause)
}

type undecodedKey struct{}

// undecoded is why the message of a call could not be decoded; nil: it was.
func undecoded(ctx context.Context) error {
	err, _ := ctx.Value(undecodedKey{}).(error)
	return err
}

// RegisterService registers a service; it implements grpc.ServiceRegistrar. Calls
// whose message can't be decoded go through the chain as all others do, with an
// empty message, and are refused where messages are checked.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	own := *desc
	own.Methods = slices.Clone(desc.Methods)
	for i := range own.Methods {
		own.Methods[i].Handler = decoding(own.Methods[i].Handler)
	}
	s.Server.RegisterService(&own, impl)
}

func decoding(h grpc.MethodHandler) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
		var in incoming
		return h(srv, ctx, func(m any) error {
			in.into = m
			return decode(&in)
		}, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if in.fault != nil {
				ctx = context.WithValue(ctx, undecodedKey{}, in.fault)
			}
			return chain(ctx, req, info, next)
		})
	}
}
