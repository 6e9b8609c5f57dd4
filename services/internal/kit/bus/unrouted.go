package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

// NextUnrouted reads the first callback that was set aside at or after a sequence,
// and its sequence; found is false where there is none. It is for operators.
func (b *Bus) NextUnrouted(ctx context.Context, from uint64) (rec *busv1.UnroutedRecord, sequence uint64, found bool, err error) {
	err = patiently(ctx, func(ctx context.Context) error {
		s, err := b.JS.Stream(ctx, UnroutedStream)
		if err != nil {
			return err
		}
		m, err := s.GetMsg(ctx, from, jetstream.WithGetMsgSubject(unroutedPrefix+">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		rec, sequence, found = &busv1.UnroutedRecord{}, m.Sequence, true
		return proto.Unmarshal(m.Data, rec)
	})
	if err != nil {
		return nil, sequence, found, fmt.Errorf("read the stream %s: %w", UnroutedStream, err)
	}
	return rec, sequence, found, nil
}

// RemoveUnrouted removes a callback that was set aside. It is nil as well where it
// is gone already.
func (b *Bus) RemoveUnrouted(ctx context.Context, sequence uint64) error {
	s, err := b.JS.Stream(ctx, UnroutedStream)
	if err != nil {
		return fmt.Errorf("find the stream %s: %w", UnroutedStream, err)
	}
	if err = s.DeleteMsg(ctx, sequence); err == nil {
		return nil
	}
	if _, look := s.GetMsg(ctx, sequence); errors.Is(look, jetstream.ErrMsgNotFound) {
		return nil
	}
	return fmt.Errorf("remove from the stream %s: %w", UnroutedStream, err)
}
