package auth

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/axpchat/connector/services/internal/kit/grpcx"
)

// exempt are services that probes and tools use without a token. They tell
// nothing of any customer.
func exempt(method string) bool {
	return strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
}

// Interceptor puts the customer of the token into the context of every call,
// and refuses calls without a valid one.
func Interceptor(v *Verifier) grpcx.Interceptor {
	return grpcx.Interceptor{
		Name: "auth",
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if exempt(info.FullMethod) {
				return next(ctx, req)
			}
			ctx, err := v.authenticate(ctx)
			if err != nil {
				return nil, err
			}
			return next(ctx, req)
		},
		Stream: func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if exempt(info.FullMethod) {
				return next(srv, ss)
			}
			ctx, err := v.authenticate(ss.Context())
			if err != nil {
				return err
			}
			return next(srv, &serverStream{ServerStream: ss, ctx: ctx})
		},
	}
}

func (v *Verifier) authenticate(ctx context.Context) (context.Context, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) > 1 {
		return nil, refused("there is more than one token")
	}
	header := ""
	if len(values) == 1 {
		header = values[0]
	}
	p, err := v.VerifyHeader(ctx, header)
	if err != nil {
		return nil, err
	}
	return WithPrincipal(ctx, p), nil
}

// VerifyHeader checks the value of the header Authorization.
func (v *Verifier) VerifyHeader(ctx context.Context, header string) (*Principal, error) {
	if header == "" {
		return nil, refused("there is no token")
	}
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return nil, refused("the header Authorization is not of the form: Bearer <token>")
	}
	return v.Verify(ctx, strings.TrimSpace(token))
}

// VerifyRequest checks the token of an HTTP request.
func (v *Verifier) VerifyRequest(r *http.Request) (*Principal, error) {
	if len(r.Header.Values("Authorization")) > 1 {
		return nil, refused("there is more than one token")
	}
	return v.VerifyHeader(r.Context(), r.Header.Get("Authorization"))
}

// serverStream is a stream whose context has the customer.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // grpc's own way of giving a stream another context
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }
