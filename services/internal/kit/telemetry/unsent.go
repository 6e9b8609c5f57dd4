package telemetry

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// unsent makes the spans of a process that sends none. They have ids, for logs and
// for other services, and take part in a trace as the SDK's would: a span goes on
// with the trace that it finds and leaves the decision on it as it is, and the
// first of a trace decides that it is sampled. Otherwise a process without an
// exporter would take the spans behind it out of everybody's traces. All else
// that the SDK would do, which is to write down what nobody reads, is left out.
type unsent struct{ embedded.TracerProvider }

// Tracer returns the same for every name.
func (u unsent) Tracer(string, ...trace.TracerOption) trace.Tracer { return unsentTracer{} }

type unsentTracer struct{ embedded.Tracer }

// Start makes a span that is a name only.
func (unsentTracer) Start(ctx context.Context, _ string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	var parent trace.SpanContext
	if config := trace.NewSpanStartConfig(opts...); !config.NewRoot() {
		parent = trace.SpanContextFromContext(ctx)
	}
	c := trace.SpanContextConfig{
		TraceID: parent.TraceID(), SpanID: newSpanID(), TraceFlags: parent.TraceFlags(), TraceState: parent.TraceState(),
	}
	if !parent.IsValid() {
		c.TraceFlags |= trace.FlagsSampled
	}
	if !c.TraceID.IsValid() {
		c.TraceID = newTraceID()
	}
	span := &unsentSpan{context: trace.NewSpanContext(c)}
	return trace.ContextWithSpan(ctx, span), span
}

// unsentSpan records nothing.
type unsentSpan struct {
	tracenoop.Span

	context trace.SpanContext
}

// SpanContext returns the ids.
func (s *unsentSpan) SpanContext() trace.SpanContext { return s.context }

// TracerProvider returns the one that made the span.
func (s *unsentSpan) TracerProvider() trace.TracerProvider { return unsent{} }

// Ids of traces need not be hard to guess: the SDK makes them so as well.
func newTraceID() (id trace.TraceID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64()) //nolint:gosec // no secret
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64()) //nolint:gosec // no secret
	}
	return id
}

func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64()) //nolint:gosec // no secret
	}
	return id
}
