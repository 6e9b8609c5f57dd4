package grpcx

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

// scope is the name under which instruments are made.
const scope = "github.com/axpchat/connector/services/internal/kit/grpcx"

// unknownMethod stands for every method that the server does not have. Callers
// choose such names freely, and each would become a time series of its own.
const unknownMethod = "unknown"

// metrics adds to the durations of otelgrpc what those lack: how many streams
// are open, and failures by reason.
type metrics struct {
	active metric.Int64UpDownCounter
	failed metric.Int64Counter
}

func newMetrics(p *telemetry.Providers) (*metrics, error) {
	meter := p.Meter.Meter(scope)
	active, err1 := meter.Int64UpDownCounter("axpchat.rpc.server.active",
		metric.WithDescription("Calls and streams that are under way."))
	failed, err2 := meter.Int64Counter("axpchat.rpc.server.errors",
		metric.WithDescription("Calls and streams that ended with an error, by code and reason."))
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return &metrics{active: active, failed: failed}, nil
}

// begin counts a call in.
func (m *metrics) begin(ctx context.Context, method string) {
	m.active.Add(ctx, 1, metric.WithAttributes(attribute.String("method", method)))
}

// end counts it out.
func (m *metrics) end(ctx context.Context, method string, code codes.Code, reason string) {
	attr := attribute.String("method", method)
	m.active.Add(ctx, -1, metric.WithAttributes(attr))
	if code != codes.OK {
		m.fail(ctx, method, code, reason)
	}
}

// fail counts a failure.
func (m *metrics) fail(ctx context.Context, method string, code codes.Code, reason string) {
	m.failed.Add(ctx, 1, metric.WithAttributes(attribute.String("method", method),
		attribute.String("code", code.String()), attribute.String("reason", reason)))
}

// methods knows which methods a server has. Services are registered after the
// interceptors are made and before the first call, so it looks at the first call.
type methods struct {
	once   sync.Once
	server *grpc.Server
	names  map[string]bool
	// streams are the methods that may last as long as their callers stay, and
	// listening those whose callers may send as long as that.
	streams, listening map[string]bool
}

func (m *methods) look() {
	m.names, m.streams, m.listening = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for service, info := range m.server.GetServiceInfo() {
		for _, method := range info.Methods {
			name := "/" + service + "/" + method.Name
			m.names[name] = true
			m.streams[name] = method.IsServerStream || method.IsClientStream
			m.listening[name] = method.IsClientStream
		}
	}
}

func (m *methods) has(fullMethod string) bool {
	m.once.Do(m.look)
	return m.names[fullMethod]
}

// isCall tells whether the server has the method, and it is no stream.
func (m *methods) isCall(fullMethod string) bool { return m.has(fullMethod) && !m.streams[fullMethod] }

// listens tells whether callers of the method may send for as long as they stay.
func (m *methods) listens(fullMethod string) bool {
	return m.has(fullMethod) && m.listening[fullMethod]
}

// label returns the method without its slash in front.
func (m *methods) label(fullMethod string) string {
	if !m.has(fullMethod) {
		return unknownMethod
	}
	return strings.TrimPrefix(fullMethod, "/")
}
