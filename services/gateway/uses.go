package gateway

import "github.com/axpchat/connector/services/internal/kit/bus"

// Uses is what the gateway works with in NATS: the journal and the state of chats,
// for reading, and its tickets.
func Uses() bus.Uses {
	return bus.Uses{
		Streams: []string{bus.EventsStream},
		Buckets: []string{bus.SessionsBucket, bus.EngagementsBucket, bus.TicketsBucket},
	}
}
