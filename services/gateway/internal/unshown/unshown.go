// Package unshown owns what a client gets in the place of an event that a fault of
// ours keeps from it: an event that says so, under the same cursor. So a client
// goes on behind it, instead of failing at the same place whenever it comes back,
// and nobody is left to believe that there was nothing.
//
// It decides nothing about what can be shown: delivery finds out while it makes
// events, the transports while they encode them.
package unshown

import (
	"context"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// scope is the name under which the instrument is made.
const scope = "github.com/axpchat/connector/services/gateway/internal/unshown"

// Tries is how often an event is tried at most.
const Tries = 3

// Teller makes such events, and tells operators of them. It is safe for concurrent
// use.
type Teller struct {
	log  *slog.Logger
	told metric.Int64Counter
}

// New returns a teller.
func New(log *slog.Logger, provider metric.MeterProvider) (*Teller, error) {
	told, err := provider.Meter(scope).Int64Counter("axpchat.delivery.unshown",
		metric.WithDescription("Events that could not be shown to a client for a fault of the connector, by where that was. The client was told so in their place."))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return &Teller{log: log, told: told}, nil
}

// Instead is what a client gets instead of ev. Of what ev says it takes the kind
// alone: anything else may be what can't be shown. Where names the place, from a few
// constants.
func (t *Teller) Instead(ctx context.Context, where string, ev *axpchatv1.Event) *axpchatv1.Event {
	t.told.Add(ctx, 1, metric.WithAttributes(attribute.String("where", where)))
	// The sequence finds it in the stream EVENTS.
	t.log.ErrorContext(ctx, "an event can't be shown; the client is told so", "where", where, "sequence", ev.GetSequence(), "kind", kind(ev))
	return &axpchatv1.Event{
		Cursor: ev.GetCursor(), Sequence: ev.GetSequence(), SessionId: ev.GetSessionId(),
		Payload: &axpchatv1.Event_Unshown{Unshown: &axpchatv1.UnshownEvent{Kind: kind(ev)}},
	}
}

// kind is the name of the payload's field.
func kind(ev *axpchatv1.Event) string {
	m := ev.ProtoReflect()
	fd := m.WhichOneof(m.Descriptor().Oneofs().ByName("payload"))
	if fd == nil {
		return ""
	}
	return string(fd.Name())
}
