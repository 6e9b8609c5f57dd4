package grpcx

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
)

// Interceptor is one link of the chain. It has both kinds, so that nothing that
// holds for calls can be forgotten for streams.
type Interceptor struct {
	// Name is unique within the chain.
	Name   string
	Unary  grpc.UnaryServerInterceptor
	Stream grpc.StreamServerInterceptor
	// Enter may take the place of Stream in links that only look at streams as they
	// begin, and add to their context. It keeps nothing on the stack of the handler's
	// goroutine. Such links come before those with Stream.
	Enter func(ctx context.Context, fullMethod string) (context.Context, error)

	guarded bool // the guard does on streams what this link does on calls
}

// Names of the links that every server has.
const (
	NameRequestID = "request_id"
	NameAccessLog = "access_log"
	NameRecover   = "recover"
	NameErrors    = "errors"
	NameValidate  = "validate"
)

// chain checks the links and returns them as gRPC takes them, outermost first.
func chain(links []Interceptor, g *guard) ([]grpc.UnaryServerInterceptor, []grpc.StreamServerInterceptor, error) {
	var (
		unary  []grpc.UnaryServerInterceptor
		stream = []grpc.StreamServerInterceptor{g.stream}
		faults []error
	)
	seen := make(map[string]bool, len(links))
	for i, l := range links {
		switch {
		case l.Name == "":
			faults = append(faults, fmt.Errorf("interceptor %d has no name", i))
		case seen[l.Name]:
			faults = append(faults, fmt.Errorf("interceptor %s comes twice", l.Name))
		case l.Unary == nil || l.Stream == nil && l.Enter == nil && !l.guarded:
			faults = append(faults, fmt.Errorf("interceptor %s must be for calls and for streams", l.Name))
		case l.Enter != nil && (l.Stream != nil || len(stream) > 1):
			faults = append(faults, fmt.Errorf("interceptor %s must come before those that are around streams, and be none of them", l.Name))
		}
		seen[l.Name] = true
		unary = append(unary, l.Unary)
		switch {
		case l.Enter != nil:
			g.enters = append(g.enters, l.Enter)
		case !l.guarded:
			stream = append(stream, l.Stream)
		}
	}
	return unary, stream, errors.Join(faults...)
}

// serverStream is a stream with another context.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // gRPC hands the context over this way
}

// Context returns the context of the stream.
func (s *serverStream) Context() context.Context { return s.ctx }

// WithContext returns the stream with another context, for interceptors that
// add to it.
func WithContext(ctx context.Context, s grpc.ServerStream) grpc.ServerStream {
	return &serverStream{ServerStream: s, ctx: ctx}
}
