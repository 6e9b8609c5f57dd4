package bus

import "context"

// Repeatable tells whether publishing is tried again after an error.
func Repeatable(err error) bool { return repeatable(err) }

// SessionFromLeader reads past replicas.
func (b *Bus) SessionFromLeader(ctx context.Context, key string) ([]byte, uint64, error) {
	return b.Sessions.askLeader(ctx, key)
}
