package ingest

import "github.com/axpchat/connector/services/internal/kit/bus"

// Uses is what webhook-ingest works with in NATS: where callbacks are stored, and
// the index that tells whose they are.
func Uses() bus.Uses {
	return bus.Uses{
		Streams: []string{bus.EventsStream, bus.UnroutedStream},
		Buckets: []string{bus.IndexBucket},
	}
}
