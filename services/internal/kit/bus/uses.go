package bus

import "slices"

// Uses names what a service works with. Where it may not manage streams it looks
// at nothing else: what is not its own is denied to its NATS user. The zero value
// is everything.
type Uses struct {
	// Streams and Buckets are what it reads or writes.
	Streams, Buckets []string
	// Consumers are the streams whose durable consumers it works.
	Consumers []string
}

// looksAt tells whether one of the names is to be provisioned or checked.
func (b *Bus) looksAt(name string, used []string) bool {
	all := len(b.uses.Streams) == 0 && len(b.uses.Buckets) == 0 && len(b.uses.Consumers) == 0
	return b.cfg.Manage || all || slices.Contains(used, name)
}
