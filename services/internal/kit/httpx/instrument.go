package httpx

import (
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

// scope is the name under which spans and instruments are made.
const scope = "github.com/axpchat/connector/services/internal/kit/httpx"

// Instrument makes a span and metrics of every request, by the names of
// OpenTelemetry. Unlike OpenTelemetry's own handler it leaves path, query and
// addresses out: paths of callbacks hold keys, queries hold tickets. The
// providers may be nil.
func Instrument(p *telemetry.Providers, h http.Handler) http.Handler {
	if p == nil {
		p = telemetry.Nop()
	}
	tracer := p.Tracer.Tracer(scope)
	meter := p.Meter.Meter(scope)
	// The names are constants that the SDK accepts; on an error it gives an
	// instrument that works all the same or records nothing.
	duration, _ := meter.Float64Histogram("http.server.request.duration", metric.WithUnit("s"),
		metric.WithDescription("How long requests took; streams count when they end."),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30))
	active, _ := meter.Int64UpDownCounter("http.server.active_requests",
		metric.WithDescription("Requests and streams that are under way."))
	running := telemetry.NewLabels(func(verb string) []attribute.KeyValue { return []attribute.KeyValue{verbKey.String(verb)} })
	ended := telemetry.NewLabels(answer.attributes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := p.Propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		verb := method(r)
		ctx, span := tracer.Start(ctx, verb, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(verbKey.String(verb)))
		t, w, r := followIn(ctx, w, r)
		active.Add(ctx, 1, running.Of(verb).Add...)
		began := time.Now()
		defer func() {
			active.Add(ctx, -1, running.Of(verb).Add...)
			a := answer{verb: verb, route: t.routeName(), code: t.code()}
			duration.Record(ctx, time.Since(began).Seconds(), ended.Of(a).Record...)
			a.describe(span)
			span.End()
		}()
		h.ServeHTTP(w, r)
	})
}

const (
	verbKey  = attribute.Key("http.request.method")
	routeKey = attribute.Key("http.route")
	codeKey  = attribute.Key("http.response.status_code")
)

// answer is what metrics and spans tell of a request that has ended.
type answer struct {
	verb, route string
	code        int
}

func (a answer) attributes() []attribute.KeyValue {
	return []attribute.KeyValue{verbKey.String(a.verb), routeKey.String(a.route), codeKey.Int(a.code)}
}

func (a answer) describe(span trace.Span) {
	if !span.IsRecording() {
		return
	}
	span.SetName(a.verb + " " + a.route)
	span.SetAttributes(routeKey.String(a.route), codeKey.Int(a.code))
	if a.code >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
}
