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

// Door is what else is done at the entrance; either may be nil.
type Door struct {
	// Arrive comes before anything is known of the caller; req is nil for streams.
	Arrive func(ctx context.Context, method string, req any) (context.Context, error)
	// Admit comes when the customer of a call is in the context. Streams are
	// admitted by whoever opens them.
	Admit func(ctx context.Context, req any) error
	// Handover is of the connection inside the process; a call whose customer it does
	// not have is looked at as all others are.
	Handover *Handover
}

// Interceptor puts the customer of the token into the context of every call,
// and refuses calls without a valid one.
func Interceptor(v *Verifier, d Door) grpcx.Interceptor {
	return grpcx.Interceptor{
		Name: "auth",
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			ctx, err := d.enter(ctx, v, info.FullMethod, req)
			if err != nil {
				return nil, err
			}
			return next(ctx, req)
		},
		Enter: func(ctx context.Context, method string) (context.Context, error) { return d.enter(ctx, v, method, nil) },
	}
}

// enter returns the context of a call that is let in.
func (d *Door) enter(ctx context.Context, v *Verifier, method string, req any) (_ context.Context, err error) {
	if d.Arrive != nil {
		if ctx, err = d.Arrive(ctx, method, req); err != nil {
			return nil, err
		}
	}
	if exempt(method) {
		return ctx, nil
	}
	if p := d.Handover.Take(ctx); p != nil {
		ctx = WithPrincipal(ctx, p)
	} else if ctx, err = v.authenticate(ctx); err != nil {
		return nil, err
	}
	if d.Admit != nil && req != nil {
		err = d.Admit(ctx, req)
	}
	return ctx, err
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

// VerifyRequest checks the token of an HTTP request, whose context tells where that
// was done before.
func (v *Verifier) VerifyRequest(r *http.Request) (*Principal, error) {
	if p, ok := FromContext(r.Context()); ok {
		return p, nil
	}
	if len(r.Header.Values("Authorization")) > 1 {
		return nil, refused("there is more than one token")
	}
	return v.VerifyHeader(r.Context(), r.Header.Get("Authorization"))
}
