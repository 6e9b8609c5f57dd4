package grpcx

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

// serviceConfig spreads calls over all addresses of the target; gRPC's own
// default sends everything to the first.
const serviceConfig = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// Reconnecting to a service that restarts must take less than callers' patience;
// gRPC's defaults of 1 s to 2 min are for the internet.
const (
	reconnectFirst   = 200 * time.Millisecond
	reconnectLast    = 5 * time.Second
	reconnectTimeout = 3 * time.Second
)

// Dial returns a connection to a service. It does not wait for the service to be
// there; calls fail with UNAVAILABLE while it is not, unless they are made with
// grpc.WaitForReady. The request id and the trace of a call's context go with
// it. Failures are *errs.Error by errs.From.
//
// Where authorities are configured, every connection is TLS with what the files
// hold at that moment; one that fails is told to the log.
//
// The target is host:port, resolved by DNS, or any target that gRPC knows. The
// providers may be nil. The options come last and win, such as a dialer of
// bufconn with the target "passthrough:///name". The caller closes the
// connection.
func Dial(target string, cfg ClientConfig, log *slog.Logger, p *telemetry.Providers, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if p == nil {
		p = telemetry.Nop()
	}
	cfg = cfg.withDefaults()
	creds, err := cfg.credentials(log)
	if err != nil {
		return nil, fmt.Errorf("gRPC client of %s: %w", target, err)
	}
	all := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithTracerProvider(p.Tracer),
			otelgrpc.WithMeterProvider(p.Meter),
			otelgrpc.WithPropagators(p.Propagator),
		)),
		grpc.WithChainUnaryInterceptor(unaryRequestID),
		grpc.WithChainStreamInterceptor(streamRequestID),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// Services of the suite are not behind the proxy for the internet, and
		// nobody keeps their policy in DNS.
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(int(cfg.MaxRecvBytes))),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: cfg.KeepaliveTime, Timeout: cfg.KeepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectLast},
			MinConnectTimeout: reconnectTimeout,
		}),
	}
	conn, err := grpc.NewClient(target, append(all, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("gRPC client of %s: %w", target, err)
	}
	return conn, nil
}

func unaryRequestID(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(outgoing(ctx), method, req, reply, cc, opts...)
}

func streamRequestID(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return stream(outgoing(ctx), desc, cc, method, opts...)
}
