package callback

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

// Results of a call, the metric's label. What is set aside has its cause there.
const (
	resultStored      = "stored"
	resultDuplicate   = "duplicate"
	resultErased      = "erased"
	resultUnrouted    = "unrouted"
	resultKey         = "wrong-key"
	resultPath        = "wrong-path"
	resultAddress     = "wrong-address"
	resultMethod      = "wrong-method"
	resultEncoding    = "wrong-encoding"
	resultSignature   = "wrong-signature"
	resultForged      = "forged"
	resultAccount     = "wrong-account"
	resultMalformed   = "malformed"
	resultTooLarge    = "too-large"
	resultSlow        = "slow-body"
	resultBusy        = "busy"
	resultOutdated    = "outdated"
	resultUnavailable = "unavailable"
)

// noType is the label of calls whose body was not read.
const noType = "NONE"

// metrics holds the instruments. Prometheus shows them as
// axpchat_webhook_events_total{type,result}, axpchat_webhook_ack_duration_seconds,
// axpchat_webhook_event_lag_seconds and axpchat_webhook_unrouted.
type metrics struct {
	events metric.Int64Counter
	ack    metric.Float64Histogram
	lag    metric.Float64Histogram

	outcomes *telemetry.Labels[outcome]
	results  *telemetry.Labels[string]
	types    *telemetry.Labels[string]
}

// outcome is what a call was and what became of it.
type outcome struct{ eventType, result string }

// askTime bounds what a scrape waits for the store.
const askTime = time.Second

// newMetrics makes the instruments; setAside counts what waits for an operator.
func newMetrics(p *telemetry.Providers, setAside func(context.Context) (uint64, error)) (*metrics, error) {
	meter := p.Meter.Meter("github.com/axpchat/connector/services/webhook-ingest")
	m := &metrics{
		outcomes: telemetry.NewLabels(func(o outcome) []attribute.KeyValue {
			return []attribute.KeyValue{attribute.String("type", o.eventType), attribute.String("result", o.result)}
		}),
		results: telemetry.NewLabels(func(result string) []attribute.KeyValue {
			return []attribute.KeyValue{attribute.String("result", result)}
		}),
		types: telemetry.NewLabels(func(eventType string) []attribute.KeyValue {
			return []attribute.KeyValue{attribute.String("type", eventType)}
		}),
	}
	var err error
	if m.events, err = meter.Int64Counter("axpchat.webhook.events",
		metric.WithDescription("Calls of AXP's webhook, by the event's type and what became of it.")); err != nil {
		return nil, fmt.Errorf("metric of webhook events: %w", err)
	}
	if m.ack, err = meter.Float64Histogram("axpchat.webhook.ack.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from the call to its answer; AXP gives up after 5 s."),
		metric.WithExplicitBucketBoundaries(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4, 5)); err != nil {
		return nil, fmt.Errorf("metric of webhook answers: %w", err)
	}
	if m.lag, err = meter.Float64Histogram("axpchat.webhook.event.lag", metric.WithUnit("s"),
		metric.WithDescription("Age of an event, by AXP's eventDate, when it was stored."),
		metric.WithExplicitBucketBoundaries(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200)); err != nil {
		return nil, fmt.Errorf("metric of event lag: %w", err)
	}
	if _, err = meter.Int64ObservableGauge("axpchat.webhook.unrouted",
		metric.WithDescription("Callbacks in the stream UNROUTED, which wait for an operator; every replica shows the same number."),
		metric.WithInt64Callback(func(ctx context.Context, o metric.Int64Observer) error {
			ctx, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			// Without an answer there is no number: an old one would lie.
			if n, err := setAside(ctx); err == nil {
				o.Observe(int64(n))
			}
			return nil
		})); err != nil {
		return nil, fmt.Errorf("metric of what is set aside: %w", err)
	}
	return m, nil
}

func (m *metrics) answered(ctx context.Context, eventType, result string, took time.Duration) {
	m.events.Add(ctx, 1, m.outcomes.Of(outcome{eventType, result}).Add...)
	m.ack.Record(ctx, took.Seconds(), m.results.Of(result).Record...)
}

func (m *metrics) aged(ctx context.Context, eventType string, age time.Duration) {
	// AXP's clock may be ahead of ours.
	m.lag.Record(ctx, max(age.Seconds(), 0), m.types.Of(eventType).Record...)
}
