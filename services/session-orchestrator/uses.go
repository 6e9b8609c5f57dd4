package orchestrator

import "github.com/axpchat/connector/services/internal/kit/bus"

// Uses is what the orchestrator works with in NATS: everything but tickets, and
// callbacks that could not be routed.
func Uses() bus.Uses {
	worked := []string{bus.EventsStream, bus.OutboxStream, bus.TimersStream}
	return bus.Uses{
		Streams: worked, Consumers: worked,
		Buckets: []string{bus.SessionsBucket, bus.EngagementsBucket, bus.IndexBucket},
	}
}
