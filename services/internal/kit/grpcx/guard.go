package grpcx

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/axpchat/connector/services/internal/kit/panics"
)

// guard does for streams, in the same order, what the kit's own links do for
// calls. It does all of it in one frame of the stack: a stream's handler may
// rest for hours, and Go gives half of a goroutine's stack back only when no
// more than a quarter of it is in use. As links of their own they were 1.5 KiB
// of that, and with it 8 KiB of every idle client.
type guard struct {
	watch
	panics    *panics.Watch
	validator *Validator
	self      map[string]bool // methods that check their messages themselves
	enters    []enter         // of the links behind
}

// enter is what a link does where a stream begins.
type enter func(ctx context.Context, fullMethod string) (context.Context, error)

// stream is the outermost interceptor.
func (g *guard) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	gs, err := g.admit(s, info)
	defer func() {
		if v := recover(); v != nil {
			err = fault(gs.ctx, g.panics, info.FullMethod, v)
		} else {
			err = convert(gs.ctx, g.log, info.FullMethod, err)
		}
		g.end(gs.ctx, gs.method, gs.began, err)
	}()
	if err != nil {
		return err
	}
	return next(srv, gs)
}

// admit accepts or makes the request id, tells it to the caller, counts the stream in,
// and lets the links behind say whether it may enter. It does so aside: what it needs
// of a stack, to check a token above all, the handler's goroutine would keep. For the
// same reason the message of a stream that takes one is read aside.
func (g *guard) admit(s grpc.ServerStream, info *grpc.StreamServerInfo) (*guardedStream, error) {
	gs, fullMethod := &guardedStream{ServerStream: s, ctx: s.Context(), began: time.Now()}, info.FullMethod
	if !info.IsClientStream {
		gs.aside = g.panics
	}
	return gs, g.panics.Aside(gs.ctx, "rpc", func() error {
		id := incomingRequestID(gs.ctx)
		// It can only fail when headers are gone already, which nothing before this
		// sends.
		_ = s.SetHeader(metadata.Pairs(RequestIDKey, id))
		gs.ctx = WithRequestID(gs.ctx, id)
		if !g.self[fullMethod] {
			gs.validator = g.validator
		}
		gs.method = g.begin(gs.ctx, fullMethod)
		return gs.enter(g.enters, fullMethod)
	}, "method", fullMethod)
}

// enter lets the links say whether the stream may enter, and add to its context.
func (s *guardedStream) enter(links []enter, fullMethod string) error {
	for _, link := range links {
		ctx, err := link(s.ctx, fullMethod)
		if err != nil {
			return err
		}
		s.ctx = ctx //nolint:fatcontext // each link adds its own, and there are few
	}
	return nil
}

// guardedStream is a stream whose context has the request id, and whose messages
// are checked.
type guardedStream struct {
	grpc.ServerStream
	ctx       context.Context //nolint:containedctx // gRPC hands the context over this way
	validator *Validator      // nil: the handler checks
	aside     *panics.Watch   // where the one message is read; nil: by whoever reads
	method    string
	began     time.Time
	in        incoming // while RecvMsg runs, which it does once at a time
}

// Context returns the context of the stream.
func (s *guardedStream) Context() context.Context { return s.ctx }

// RecvMsg reads and checks a message. A broken one ends Recv with the error; the
// handler may go on reading, or return it.
func (s *guardedStream) RecvMsg(m any) error {
	if s.aside == nil {
		return s.receive(m)
	}
	return s.aside.Aside(s.ctx, "rpc", func() error { return s.receive(m) }, "method", s.method)
}

func (s *guardedStream) receive(m any) error {
	s.in = incoming{into: m}
	err := s.ServerStream.RecvMsg(&s.in)
	if err == nil {
		err = s.in.fault
	}
	s.in = incoming{} // nothing of the message must stay until the next one comes
	arrived(s.ctx)
	if err != nil || s.validator == nil {
		return err
	}
	return validateMessage(s.validator, m)
}
