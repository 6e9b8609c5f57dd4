package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// What is in the outbox stays there until it is removed by name. It must not be
// a work queue: a replicated consumer that is reset while deliveries are on
// their way forgets that some of them were never acknowledged (seen with NATS
// 2.15.2), and after the next change of leader a work queue drops those.

// RemoveOutbox takes a finished entry out of the outbox. It is nil as well where
// the entry is gone already.
func (b *Bus) RemoveOutbox(ctx context.Context, sequence uint64) error {
	stream, err := b.outbox.open(ctx, b.JS)
	if err != nil {
		return fmt.Errorf("find the outbox: %w", err)
	}
	err = stream.DeleteMsg(ctx, sequence)
	if err == nil {
		return nil
	}
	// What is not there can't be deleted, which is told in several ways.
	if _, look := stream.GetMsg(ctx, sequence); errors.Is(look, jetstream.ErrMsgNotFound) {
		return nil
	}
	return fmt.Errorf("remove from the outbox: %w", err)
}

// OldestOutbox is the place of the oldest entry in a partition; found is false
// where the partition is empty. The stream's leader answers.
func (b *Bus) OldestOutbox(ctx context.Context, partition int) (sequence uint64, found bool, err error) {
	stream, err := b.outbox.open(ctx, b.JS)
	if err != nil {
		return 0, false, fmt.Errorf("find the outbox: %w", err)
	}
	msg, err := stream.GetMsg(ctx, 0, jetstream.WithGetMsgSubject(OutboxFilter(partition, b.cfg.Partitions)))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("look into the outbox: %w", err)
	}
	return msg.Sequence, true, nil
}

// CountOutbox is how many entries of the outbox have subjects that match filter.
func (b *Bus) CountOutbox(ctx context.Context, filter string) (int, error) {
	stream, err := b.outbox.open(ctx, b.JS)
	if err != nil {
		return 0, fmt.Errorf("find the outbox: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return 0, fmt.Errorf("count messages in the outbox: %w", err)
	}
	n := 0
	for _, of := range info.State.Subjects {
		n += int(of)
	}
	return n, nil
}

// LastOutbox is the place of the latest entry that the outbox has ever stored, of
// whatever partition. The stream's leader answers, or who still believes to be it.
func (b *Bus) LastOutbox(ctx context.Context) (sequence uint64, err error) {
	stream, err := b.outbox.open(ctx, b.JS)
	if err != nil {
		return 0, fmt.Errorf("find the outbox: %w", err)
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("look at the outbox: %w", err)
	}
	return info.State.LastSeq, nil
}

// OutboxFilter matches what is in one of n partitions of the outbox.
func OutboxFilter(partition, n int) string { return outboxPartition(partition, n) + "*.*" }

// outboxStream finds the stream once: looking for it is a question of its own.
type outboxStream struct {
	mu     sync.Mutex
	stream jetstream.Stream
}

func (l *outboxStream) open(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	l.mu.Lock()
	found := l.stream
	l.mu.Unlock()
	if found != nil {
		return found, nil
	}
	found, err := js.Stream(ctx, OutboxStream)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stream = found
	return found, nil
}
