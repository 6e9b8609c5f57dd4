package limits

import (
	"context"
	"fmt"
	"net/http"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/internal/kit/httpx"
)

const (
	forwardedFor = "X-Forwarded-For"
	// originHeader carries an origin over the connection inside the process. From
	// outside it is not read.
	originHeader = "axpchat-origin"
)

type originKey struct{}

// WithOrigin returns a context of a call that comes from there.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf is where the call of the context comes from.
func OriginOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}

// HTTP lets requests in. It answers 429 with Retry-After where an address asks too
// much, before anything else is done for it: an upgrade to WebSocket, too. A body
// whose length is not said counts as the longest.
func (l *Limiter) HTTP(longest int64, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, o, length := r.Context(), l.From(r.RemoteAddr, r.Header.Values(forwardedFor)), r.ContentLength
		if length < 0 || length > longest {
			length = longest
		}
		if err := l.Arrive(ctx, o, length); err != nil {
			httpx.WriteProblem(w, r, err)
			return
		}
		h.ServeHTTP(w, r.WithContext(WithOrigin(ctx, o)))
	})
}

// Door lets gRPC calls in at the public server: their addresses before tokens are
// looked at, and then their customers.
func (l *Limiter) Door() auth.Door {
	return auth.Door{Admit: l.admit, Arrive: func(ctx context.Context, method string, req any) (context.Context, error) {
		if method == healthpb.Health_Check_FullMethodName {
			return ctx, nil // probes of the platform
		}
		var o Origin
		if p, ok := peer.FromContext(ctx); ok {
			o = l.FromAddr(p.Addr, metadata.ValueFromIncomingContext(ctx, forwardedFor))
		}
		return WithOrigin(ctx, o), l.Arrive(ctx, o, int64(size(req)))
	}}
}

// InnerDoor takes over what HTTP and Forward have found out about calls that come
// over the connection inside the process. HTTP has let them in already.
func (l *Limiter) InnerDoor() auth.Door {
	return auth.Door{Admit: l.admit, Arrive: func(ctx context.Context, _ string, _ any) (context.Context, error) {
		var o Origin
		for _, text := range metadata.ValueFromIncomingContext(ctx, originHeader) {
			if _, err := fmt.Sscanf(text, "%x-%x", &o.address, &o.connection); err != nil {
				o = Origin{}
			}
		}
		return WithOrigin(ctx, o), nil
	}}
}

// Forward carries origins over the connection inside the process.
func Forward() (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor) {
	add := func(ctx context.Context) context.Context {
		o := OriginOf(ctx)
		if o == (Origin{}) {
			return ctx
		}
		return metadata.AppendToOutgoingContext(ctx, originHeader, fmt.Sprintf("%x-%x", o.address, o.connection))
	}
	unary := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return invoke(add(ctx), method, req, reply, cc, opts...)
	}
	stream := func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return open(add(ctx), desc, cc, method, opts...)
	}
	return unary, stream
}

// admit takes a call off everybody whose it is.
func (l *Limiter) admit(ctx context.Context, req any) error {
	p, ok := auth.FromContext(ctx)
	if !ok {
		return nil
	}
	w := Who{Account: p.Account, Subject: p.Subject, Origin: OriginOf(ctx)}
	if of, ok := req.(interface{ GetSessionId() string }); ok {
		w.Session = of.GetSessionId()
	}
	return l.Call(ctx, w, costOf(req))
}

func costOf(req any) Cost {
	c := Cost{Frames: 1, Bytes: int64(size(req))}
	switch req.(type) {
	case *axpchatv1.SendMessageRequest:
		c[Messages] = 1
	case *axpchatv1.CreateSessionRequest:
		c[Sessions] = 1
	}
	return c
}

func size(req any) int {
	if m, ok := req.(proto.Message); ok {
		return proto.Size(m)
	}
	return 0
}
