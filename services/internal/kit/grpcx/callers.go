package grpcx

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
)

// NameCallers is the link of [OnlyCallers].
const NameCallers = "callers"

// OnlyCallers lets in nobody but who has one of the names in a certificate that
// the server has checked: a DNS name or a URI, see [tlsx.Named]. Everything that
// the server does is behind it, health too.
//
// The refusal is UNAVAILABLE, since a caller passes it on to its own, to whom it
// is a part of the connector that can't be reached. The log says who came.
func OnlyCallers(names []string) Interceptor {
	return Interceptor{
		Name: NameCallers,
		Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := allowed(ctx, names); err != nil {
				return nil, err
			}
			return next(ctx, req)
		},
		Enter: func(ctx context.Context, _ string) (context.Context, error) { return ctx, allowed(ctx, names) },
	}
}

func allowed(ctx context.Context, names []string) error {
	const detail = "the caller's certificate is not one that may call here"
	refuse := func(cause error) error {
		return errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, detail).WithCause(cause)
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return refuse(errors.New("the connection is unknown"))
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return refuse(errors.New("the caller showed no certificate"))
	}
	if cert := info.State.PeerCertificates[0]; !tlsx.Named(cert, names) {
		return refuse(fmt.Errorf("the caller's certificate is of %s, allowed are %s",
			list(tlsx.Names(cert)), list(names)))
	}
	return nil
}

func list(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
