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
	rec = &busv1.UnroutedRecord{}
	sequence, found, err = b.nextSetAside(ctx, UnroutedStream, unroutedPrefix+">", from, rec)
	return rec, sequence, found, err
}

// nextSetAside reads the first entry of a stream for operators into rec. What can't
// be read into it fails, with the sequence it has.
func (b *Bus) nextSetAside(ctx context.Context, stream, subjects string, from uint64, rec proto.Message) (sequence uint64, found bool, err error) {
	err = patiently(ctx, func(ctx context.Context) error {
		s, err := b.JS.Stream(ctx, stream)
		if err != nil {
			return err
		}
		m, err := s.GetMsg(ctx, from, jetstream.WithGetMsgSubject(subjects))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		sequence, found = m.Sequence, true
		return proto.Unmarshal(m.Data, rec)
	})
	if err != nil {
		err = fmt.Errorf("read the stream %s: %w", stream, err)
	}
	return sequence, found, err
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
