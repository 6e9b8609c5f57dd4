package orchestrator

import "github.com/axpchat/connector/services/internal/kit/bus"

// Uses is what the orchestrator works with in NATS: tickets, and callbacks that
// could not be routed, only where they are erased.
func Uses() bus.Uses {
	worked := []string{bus.EventsStream, bus.OutboxStream, bus.TimersStream}
	return bus.Uses{
		Streams: append(worked, bus.UnroutedStream, bus.AsideStream), Consumers: worked,
		Buckets: []string{bus.SessionsBucket, bus.EngagementsBucket, bus.IndexBucket, bus.TicketsBucket},
	}
}
