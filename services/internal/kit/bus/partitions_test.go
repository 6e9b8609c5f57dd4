package bus_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
)

// counts connects a bus that counts n partitions, and provisions nothing yet.
func counts(t *testing.T, s *natsembed.Server, n int, manage bool) *bus.Bus {
	t.Helper()
	cfg := bustest.Config()
	cfg.Partitions, cfg.Manage = n, manage
	b, err := bus.Connect(t.Context(), bus.Params{Config: cfg, Name: t.Name(), Log: slog.New(slog.DiscardHandler), Options: []nats.Option{s.InProcess()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // nothing of it is left to send
	return b
}

func refused(t *testing.T, b *bus.Bus, why string) {
	t.Helper()
	err := b.Provision(t.Context())
	if err == nil || !strings.Contains(err.Error(), "OUTBOX_PARTITIONS is 8 here, but the outbox has 4") || !strings.Contains(err.Error(), why) {
		t.Errorf("another number of partitions: %v, want a refusal with %q", err, why)
	}
}

func entry(session string) *busv1.OutboxEntry {
	return &busv1.OutboxEntry{Account: "ABCDEF", SessionId: session}
}

// within bounds an attempt that is to fail.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// pull asks for messages as a worker does, until stop is called.
func pull(t *testing.T, b *bus.Bus, partition int) (stop func()) {
	t.Helper()
	c, err := b.JS.Consumer(t.Context(), bus.OutboxStream, bus.OutboxConsumer(partition, b.Config().Partitions))
	if err != nil {
		t.Fatal(err)
	}
	cc, err := c.Consume(func(jetstream.Msg) {}, jetstream.PullPriorityGroup(bus.OutboxGroup), jetstream.PullExpiry(time.Second), jetstream.PullHeartbeat(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	return func() { cc.Stop(); <-cc.Closed() }
}

// TestAnotherNumberOfPartitionsWaitsUntilNobodyWorksTheOutbox: with the outbox empty
// for a moment, a rolling update would give old and new replicas different
// partitions, and so one session two workers.
func TestAnotherNumberOfPartitionsWaitsUntilNobodyWorksTheOutbox(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	old := bustest.Connect(t, s, bustest.Config())
	other := counts(t, s, 8, true)

	stop := pull(t, old, 2)
	refused(t, other, "is being worked")
	if _, err := old.PublishOutbox(t.Context(), entry("s1"), "m1"); err != nil {
		t.Fatalf("who was there before must go on: %v", err)
	}
	stop()
	refused(t, counts(t, s, 8, false), "NATS_MANAGE_STREAMS=false")
}

// TestAnOutboxThatHoldsMessagesKeepsItsPartitions and goes on taking more.
func TestAnOutboxThatHoldsMessagesKeepsItsPartitions(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	old := bustest.Connect(t, s, bustest.Config())
	ack, err := old.PublishOutbox(t.Context(), entry("s1"), "m1")
	if err != nil {
		t.Fatal(err)
	}
	other := counts(t, s, 8, true)
	refused(t, other, "holds messages, 1 of them")
	if _, err := old.PublishOutbox(t.Context(), entry("s1"), "m2"); err != nil {
		t.Fatalf("a refused change has closed the outbox: %v", err)
	}
	for _, sequence := range []uint64{ack.Sequence, ack.Sequence + 1} {
		if err := old.RemoveOutbox(t.Context(), sequence); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Provision(t.Context()); err != nil {
		t.Errorf("an empty outbox that nobody works takes another number: %v", err)
	}
}

// TestWhoCountsOtherwisePublishesNothing: a process that stood still while the number
// was changed, and knows of nothing, is refused by NATS itself.
func TestWhoCountsOtherwisePublishesNothing(t *testing.T) {
	t.Parallel()
	s := bustest.Server(t)
	old := bustest.Connect(t, s, bustest.Config())
	other := counts(t, s, 8, true)
	if err := other.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := old.PublishOutbox(within(t, 2*time.Second), entry("s1"), "m1"); err == nil {
		t.Error("a message was stored by the old number of partitions")
	}
	if _, err := other.PublishOutbox(t.Context(), entry("s1"), "m1"); err != nil {
		t.Errorf("the new number: %v", err)
	}
	sequence, found, err := other.OldestOutbox(t.Context(), bus.Partition("s1", 8))
	if err != nil || !found {
		t.Fatalf("the message is not in its partition: %v", err)
	}
	if last, err := other.LastOutbox(t.Context()); err != nil || last != sequence {
		t.Errorf("the last sequence is %d, %v, want %d", last, err, sequence)
	}
	if err := old.Provision(t.Context()); err == nil || !strings.Contains(err.Error(), "OUTBOX_PARTITIONS is 4 here, but the outbox has 8") {
		t.Errorf("a restart by the old number: %v", err)
	}
}

// TestAChangeThatWasCutOffIsTakenUp: who dies in the middle of it leaves the outbox
// closed; the next start, by either number, opens it.
func TestAChangeThatWasCutOffIsTakenUp(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"the old number": 4, "the new number": 8} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := bustest.Server(t)
			old := bustest.Connect(t, s, bustest.Config())
			stream, err := old.JS.Stream(t.Context(), bus.OutboxStream)
			if err != nil {
				t.Fatal(err)
			}
			cfg := stream.CachedInfo().Config
			cfg.Subjects = []string{"chat.outbox.closed"}
			if _, err := old.JS.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			next := counts(t, s, n, true)
			if err := next.Provision(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := next.PublishOutbox(t.Context(), entry("s1"), "m1"); err != nil {
				t.Error(err)
			}
		})
	}
}
