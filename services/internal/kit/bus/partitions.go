package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A session's messages keep their order because one partition has them all, so
// everybody must count the same partitions. The stream says how many: it takes the
// subjects of that number and no others, so that NATS refuses what a process
// publishes that counts otherwise, be it one that stood still while the number
// was changed.

const (
	// outboxClosed is the one subject that the outbox takes while its number of
	// partitions changes. Nobody publishes there.
	outboxClosed = outboxPrefix + "closed"
	// usedLooks is how often it is looked whether somebody works the outbox: between
	// two pulls of a worker there is a moment without any.
	usedLooks = 3
	// settleTime is longer than a message takes that was on its way into the outbox
	// when it was closed.
	settleTime = 300 * time.Millisecond
)

// outboxSubjects are what the outbox takes where it has n partitions.
func outboxSubjects(n int) []string {
	subjects := make([]string, 0, n)
	for i := range n {
		subjects = append(subjects, OutboxFilter(i, n))
	}
	return subjects
}

// repartition gives the outbox another number of partitions, if nobody works it
// and it is empty; else it refuses. To be sure of the latter it takes nothing in
// meanwhile: who publishes tries again.
func (b *Bus) repartition(ctx context.Context, s jetstream.Stream, cfg jetstream.StreamConfig) error {
	before := s.CachedInfo().Config
	have, want := before.Metadata[metaPartitions], cfg.Metadata[metaPartitions]
	refuse := func(why string) error {
		if have == want {
			return fmt.Errorf("its subjects are an earlier version's, and it %s: begin with this version when it is empty and every session-orchestrator is stopped", why)
		}
		return fmt.Errorf("OUTBOX_PARTITIONS is %s here, but the outbox has %s and %s: give every service %s, or change it when the outbox is empty and every session-orchestrator is stopped",
			want, have, why, have)
	}
	closed := len(before.Subjects) == 1 && before.Subjects[0] == outboxClosed
	switch {
	case closed && have == want && b.cfg.Manage:
		_, err := b.JS.UpdateStream(ctx, cfg) // who wanted to change it has not come to the end
		return err
	case closed && have == want:
		return errors.New("it is closed while OUTBOX_PARTITIONS is changed; where that was broken off, session-orchestrator provision opens it again")
	case !b.cfg.Manage:
		return refuse("is not to be changed by this service (NATS_MANAGE_STREAMS=false)")
	}
	n, err := strconv.Atoi(have)
	if err != nil {
		return errors.New("it was not made by this connector")
	}
	used, err := b.outboxUsed(ctx, n)
	if err != nil {
		return err
	}
	if used {
		return refuse("is being worked")
	}
	shut := cfg
	shut.Subjects, shut.Metadata = []string{outboxClosed}, before.Metadata
	if _, err := b.JS.UpdateStream(ctx, shut); err != nil {
		return err
	}
	left, err := b.outboxLeft(ctx, s)
	if err == nil && left == 0 {
		_, err = b.JS.UpdateStream(ctx, cfg)
		return err
	}
	if shut.Subjects = before.Subjects; closed {
		shut.Subjects = outboxSubjects(n)
	}
	if _, again := b.JS.UpdateStream(ctx, shut); again != nil {
		return errors.Join(err, again)
	}
	if err != nil {
		return err
	}
	return refuse(fmt.Sprintf("holds messages, %d of them", left))
}

// outboxLeft is how many messages a closed outbox holds.
func (b *Bus) outboxLeft(ctx context.Context, s jetstream.Stream) (uint64, error) {
	if !wait(ctx, settleTime) {
		return 0, ctx.Err()
	}
	info, err := s.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.Msgs, nil
}

// outboxUsed tells whether somebody works one of n partitions: has it pinned, or
// waits for messages.
func (b *Bus) outboxUsed(ctx context.Context, n int) (bool, error) {
	for range usedLooks {
		for i := range n {
			c, err := b.JS.Consumer(ctx, OutboxStream, OutboxConsumer(i, n))
			switch {
			case errors.Is(err, jetstream.ErrConsumerNotFound):
				continue
			case err != nil:
				return false, err
			}
			info := c.CachedInfo()
			if info.NumWaiting > 0 {
				return true, nil
			}
			for _, g := range info.PriorityGroups {
				if g.PinnedClientID != "" {
					return true, nil
				}
			}
		}
		if !wait(ctx, settleTime) {
			return false, ctx.Err()
		}
	}
	return false, nil
}
