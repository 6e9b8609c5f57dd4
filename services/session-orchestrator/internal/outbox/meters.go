package outbox

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// meters counts what operators ask about. None of them names a session.
type meters struct {
	settled   metric.Int64Counter
	heldCount metric.Int64Counter
	uncertain metric.Int64Counter
	resets    metric.Int64Counter
	pauses    metric.Int64Counter
	poisoned  metric.Int64Counter
	handovers metric.Int64Counter
}

func newMeters(m metric.Meter) (*meters, error) {
	var faults []error
	counter := func(name, description string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithDescription(description))
		faults = append(faults, err)
		return c
	}
	out := &meters{
		settled:   counter("axpchat_outbox_settled", "Messages that left the outbox, by outcome and reason."),
		heldCount: counter("axpchat_outbox_held", "Messages that were held because AXP could not take them."),
		uncertain: counter("axpchat_outbox_uncertain", "Sends whose outcome was not known, by what AXP showed afterwards."),
		resets:    counter("axpchat_outbox_resets", "Partitions that started over from the oldest message, by cause."),
		pauses:    counter("axpchat_outbox_pauses", "Times that the process stood still for longer than it may."),
		poisoned:  counter("axpchat_outbox_unreadable", "Entries that could not be worked for a fault of the connector, or not be read, and were set aside."),
		handovers: counter("axpchat_outbox_handovers", "Partitions that were left to another replica because this one had more than its share."),
	}
	return out, errors.Join(faults...)
}

func (m *meters) sent(ctx context.Context) {
	m.settled.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", "sent")))
}

func (m *meters) failed(ctx context.Context, reason string) {
	m.settled.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", "failed"), attribute.String("reason", reason)))
}

func (m *meters) held(ctx context.Context) { m.heldCount.Add(ctx, 1) }

func (m *meters) resolved(ctx context.Context, found bool) {
	result := "not in AXP, sent again"
	if found {
		result = "in AXP"
	}
	m.uncertain.Add(ctx, 1, metric.WithAttributes(attribute.String("result", result)))
}

func (m *meters) reset(ctx context.Context, why string) {
	m.resets.Add(ctx, 1, metric.WithAttributes(attribute.String("cause", why)))
}

func (m *meters) paused(ctx context.Context) { m.pauses.Add(ctx, 1) }

func (m *meters) poison(ctx context.Context) { m.poisoned.Add(ctx, 1) }

func (m *meters) handedOver(ctx context.Context) { m.handovers.Add(ctx, 1) }
