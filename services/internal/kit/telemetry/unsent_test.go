package telemetry_test

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TestSpansThatAreNotSentTakePartInTraces holds the spans of a process without an
// exporter against those of the SDK: other services see no difference.
func TestSpansThatAreNotSentTakePartInTraces(t *testing.T) {
	cleanEnv(t)
	ours, sdk := setup(t).Tracer.Tracer("test"), sdktrace.NewTracerProvider().Tracer("test")
	state, err := trace.ParseTraceState("vendor=1")
	if err != nil {
		t.Fatal(err)
	}
	for name, parent := range map[string]trace.SpanContextConfig{
		"no parent":            {},
		"sampled from afar":    {TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true},
		"not sampled, as well": {TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, Remote: true},
		"sampled here":         {TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled},
	} {
		for which, opts := range map[string][]trace.SpanStartOption{"": nil, ", but a new root": {trace.WithNewRoot()}} {
			at := func(tracer trace.Tracer) trace.SpanContext {
				ctx := context.WithoutCancel(t.Context())
				if parent.TraceID.IsValid() {
					ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(parent))
				}
				ctx, span := tracer.Start(ctx, "work", opts...)
				defer span.End()
				if !trace.SpanContextFromContext(ctx).Equal(span.SpanContext()) {
					t.Errorf("%s%s: the context has another span", name, which)
				}
				return span.SpanContext()
			}
			got, want := at(ours), at(sdk)
			going := parent.TraceID.IsValid() && opts == nil
			if !got.IsValid() || got.SpanID() == parent.SpanID || got.IsRemote() || (got.TraceID() == parent.TraceID) != going {
				t.Errorf("%s%s: ids %v", name, which, got)
			}
			if got.TraceFlags() != want.TraceFlags() || got.TraceState().String() != want.TraceState().String() {
				t.Errorf("%s%s: %v, the SDK makes %v", name, which, got, want)
			}
		}
	}
	_, span := ours.Start(t.Context(), "work")
	_, child := span.TracerProvider().Tracer("other").Start(trace.ContextWithSpan(t.Context(), span), "more")
	if span.IsRecording() || child.SpanContext().TraceID() != span.SpanContext().TraceID() {
		t.Errorf("%v and its child %v", span.SpanContext(), child.SpanContext())
	}
}

func TestANamedSamplerDecidesAlsoWhereNothingIsSent(t *testing.T) {
	cleanEnv(t)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	_, span := setup(t).Tracer.Tracer("test").Start(t.Context(), "work")
	if sc := span.SpanContext(); !sc.IsValid() || sc.IsSampled() {
		t.Errorf("%v", sc)
	}
}
