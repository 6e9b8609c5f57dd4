package delivery

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// scope is the name under which instruments are made.
const scope = "github.com/axpchat/connector/services/gateway/internal/delivery"

// metrics counts what operators need to see whether delivery is healthy.
type metrics struct {
	subscriptions metric.Int64UpDownCounter
	gaps          metric.Int64Counter
	slowClients   metric.Int64Counter
	resets        metric.Int64Counter
	fromJournal   metric.Int64Counter
	looks         metric.Int64Counter
}

func newMetrics(provider metric.MeterProvider) (m metrics, err error) {
	meter := provider.Meter(scope)
	if m.subscriptions, err = meter.Int64UpDownCounter("axpchat.delivery.subscriptions",
		metric.WithDescription("Clients that follow a session.")); err != nil {
		return m, fmt.Errorf("metrics: %w", err)
	}
	for _, c := range []struct {
		counter     *metric.Int64Counter
		name, about string
	}{
		{&m.gaps, "axpchat.delivery.gaps", "Live events that were missing and fetched from the journal."},
		{&m.slowClients, "axpchat.delivery.slow_consumers", "Clients that were dropped because they read too slowly."},
		{&m.resets, "axpchat.delivery.resets", "Cursors that could not be honoured, by reason."},
		{&m.looks, "axpchat.delivery.common_looks", "Subscriptions whose catch-up was answered by a look for many at once, by whether there was something new."},
		{&m.fromJournal, "axpchat.delivery.journal_events", "Events that were read from the journal."},
	} {
		if *c.counter, err = meter.Int64Counter(c.name, metric.WithDescription(c.about)); err != nil {
			return m, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

func (m metrics) attached(ctx context.Context, n int64) { m.subscriptions.Add(ctx, n) }
func (m metrics) gap(ctx context.Context)               { m.gaps.Add(ctx, 1) }
func (m metrics) slow(ctx context.Context)              { m.slowClients.Add(ctx, 1) }
func (m metrics) caughtUp(ctx context.Context, n int)   { m.fromJournal.Add(ctx, int64(n)) }
func (m metrics) looked(ctx context.Context, all, behind int) {
	m.looks.Add(ctx, int64(behind), metric.WithAttributes(attribute.Bool("new", true)))
	m.looks.Add(ctx, int64(all-behind), metric.WithAttributes(attribute.Bool("new", false)))
}
func (m metrics) reset(ctx context.Context, r axpchatv1.ResetReason) {
	m.resets.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", r.String())))
}
