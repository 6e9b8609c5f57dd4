package axp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

const instrumentation = "github.com/axpchat/connector/services/session-orchestrator/internal/axp"

// observer makes the client's spans and metrics. It records no ids of
// customers and no addresses.
type observer struct {
	tracer   trace.Tracer
	duration metric.Float64Histogram
	retries  metric.Int64Counter
	renewals metric.Int64Counter
	throttle metric.Int64Counter
	gauges   gauges
	account  attribute.KeyValue
	server   attribute.KeyValue
}

func newObserver(p *telemetry.Providers, account, host string) (*observer, error) {
	var tracers trace.TracerProvider = tracenoop.NewTracerProvider()
	var meters metric.MeterProvider = metricnoop.NewMeterProvider()
	if p != nil && p.Tracer != nil {
		tracers = p.Tracer
	}
	if p != nil && p.Meter != nil {
		meters = p.Meter
	}
	meter := meters.Meter(instrumentation)
	duration, err := meter.Float64Histogram("axpchat_axp_call_duration_seconds",
		metric.WithUnit("s"),
		metric.WithDescription("Duration of one attempt of a call to AXP."),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30))
	if err != nil {
		return nil, fmt.Errorf("metric of call durations: %w", err)
	}
	retries, err := meter.Int64Counter("axpchat_axp_retries_total",
		metric.WithDescription("Calls to AXP that were repeated, by what came before."))
	if err != nil {
		return nil, fmt.Errorf("metric of retries: %w", err)
	}
	renewals, err := meter.Int64Counter("axpchat_axp_token_renewals_total",
		metric.WithDescription("Access tokens asked for, by result."))
	if err != nil {
		return nil, fmt.Errorf("metric of renewals: %w", err)
	}
	throttle, err := meter.Int64Counter("axpchat_axp_throttled_total",
		metric.WithDescription("Calls to AXP that were not made, or that AXP refused, because there were too many or AXP failed, by reason."))
	if err != nil {
		return nil, fmt.Errorf("metric of throttled calls: %w", err)
	}
	return &observer{
		tracer:   tracers.Tracer(instrumentation),
		duration: duration,
		retries:  retries,
		renewals: renewals,
		throttle: throttle,
		gauges:   gauges{meter: meter},
		account:  attribute.String("account", account),
		server:   attribute.String("server.address", host),
	}, nil
}

// start opens the span of a call, which covers all its attempts, and gives what
// closes it. The text of an error is not recorded, only what cannot hold a
// customer's data.
func (o *observer) start(ctx context.Context, op Operation) (context.Context, func(*Error)) {
	ctx, span := o.tracer.Start(ctx, "AXP "+op.Name, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(
			o.account,
			o.server,
			attribute.String("axp.operation", op.Name),
			attribute.String("http.request.method", op.Method),
			attribute.String("url.template", op.Path),
		))
	return ctx, func(fail *Error) {
		defer span.End()
		if fail == nil {
			return
		}
		span.SetAttributes(
			attribute.Int("http.response.status_code", fail.Status),
			attribute.Int("axp.attempts", fail.Attempts),
			attribute.String("axp.outcome", fail.Outcome.String()),
			attribute.String("axp.request_id", fail.RequestID),
		)
		span.SetStatus(codes.Error, statusClass(fail.Status, fail.Cause))
	}
}

// attempt records one exchange with AXP.
func (o *observer) attempt(ctx context.Context, op Operation, took time.Duration, status int, cause error) {
	o.duration.Record(ctx, took.Seconds(), metric.WithAttributes(
		attribute.String("operation", op.Name),
		attribute.String("status_class", statusClass(status, cause)),
	))
}

func (o *observer) retry(ctx context.Context, op Operation, fail *Error) {
	class := statusClass(fail.Status, fail.Cause)
	o.retries.Add(ctx, 1, metric.WithAttributes(
		attribute.String("operation", op.Name),
		attribute.String("status_class", class),
	))
	trace.SpanFromContext(ctx).AddEvent("repeat", trace.WithAttributes(attribute.String("after", class)))
}

func (o *observer) renewal(ctx context.Context, result string) {
	o.renewals.Add(ctx, 1, metric.WithAttributes(o.account, attribute.String("result", result)))
}

// throttled counts a call that was held back.
func (o *observer) throttled(ctx context.Context, reason string) {
	o.throttle.Add(ctx, 1, metric.WithAttributes(o.account, attribute.String("reason", reason)))
}

// statusClass sorts an exchange into a handful of classes.
func statusClass(status int, cause error) string {
	switch {
	case status >= 100 && status < 600:
		return string(rune('0'+status/100)) + "xx"
	case status != 0:
		return "other"
	case errors.Is(cause, context.Canceled), errors.Is(cause, context.DeadlineExceeded):
		return "cancelled"
	case errors.Is(cause, ErrTimeout):
		return "timeout"
	default:
		return "network"
	}
}
