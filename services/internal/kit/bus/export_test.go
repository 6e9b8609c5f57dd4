package bus

import "context"

// Transient tells whether provisioning waits for an error to pass.
func Transient(err error) bool { return transient(err) }

// Patiently repeats a read whose answer does not come.
func Patiently(ctx context.Context, read func(context.Context) error) error {
	return patiently(ctx, read)
}

// Repeatable tells whether publishing is tried again after an error.
func Repeatable(err error) bool { return repeatable(err) }

// SessionFromLeader reads past replicas.
func (b *Bus) SessionFromLeader(ctx context.Context, key string) ([]byte, uint64, error) {
	return b.Sessions.askLeader(ctx, key)
}
