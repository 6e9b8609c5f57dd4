package consume_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/panics"
	"github.com/axpchat/connector/services/session-orchestrator/internal/consume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const concurrency = 4

// rig is a loop over the projector's consumer of a real NATS server.
type rig struct {
	t    *testing.T
	bus  *bus.Bus
	loop *consume.Loop
	stop func()
}

func start(t *testing.T, b *bus.Bus, handle func(context.Context, jetstream.Msg), changes ...func(*consume.Loop)) *rig {
	t.Helper()
	r := &rig{t: t, bus: b, loop: consume.New(consume.Params{
		Name: "test", Bus: b, Stream: bus.EventsStream, Consumer: bus.ProjectorConsumer,
		Concurrency: concurrency, Ahead: 2 * concurrency, Handle: handle, Log: slog.New(slog.DiscardHandler),
		Panics: panics.New(slog.New(slog.DiscardHandler), nil),
	})}
	for _, change := range changes {
		change(r.loop)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.loop.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// publish stores n events.
func publish(t *testing.T, b *bus.Bus, n int) {
	t.Helper()
	for i := range n {
		_, err := b.PublishEvent(t.Context(), &busv1.EventRecord{Account: "ABCDEF", Event: &axpchatv1.Event{SessionId: "s", EventId: strconv.Itoa(i)}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSoManyAtATimeAndNoMore(t *testing.T) {
	b := bustest.Start(t)
	var under, most, all atomic.Int64
	release := make(chan struct{})
	start(t, b, func(ctx context.Context, m jetstream.Msg) {
		most.Store(max(most.Load(), under.Add(1)))
		select {
		case <-release:
		case <-ctx.Done():
		}
		under.Add(-1)
		if m.Ack() == nil {
			all.Add(1)
		}
	})
	publish(t, b, 20)
	await.Until(t, "the slots are full", func() bool { return under.Load() == concurrency })
	close(release)
	await.Until(t, "all are worked", func() bool { return all.Load() == 20 })
	if most.Load() != concurrency {
		t.Errorf("%d at a time, want %d", most.Load(), concurrency)
	}
}

// TestADrainFinishesWhatWasBegun and leaves the rest to another replica.
func TestADrainFinishesWhatWasBegun(t *testing.T) {
	b := bustest.Start(t)
	var begun, ended atomic.Int64
	release := make(chan struct{})
	r := start(t, b, func(_ context.Context, m jetstream.Msg) {
		begun.Add(1)
		<-release
		_ = m.Ack()
		ended.Add(1)
	})
	publish(t, b, 10)
	await.Until(t, "the slots are full", func() bool { return begun.Load() == concurrency })
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.loop.Drain(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a drain that is cut short: %v", err)
	}
	close(release)
	if err := r.loop.Drain(t.Context()); err != nil || ended.Load() != concurrency || begun.Load() != concurrency {
		t.Errorf("drain: %v, %d begun, %d ended", err, begun.Load(), ended.Load())
	}
	r.stop()
	await.Until(t, "the server has all acknowledgements, and the rest is left", func() bool {
		c, err := b.JS.Consumer(t.Context(), bus.EventsStream, bus.ProjectorConsumer)
		if err != nil {
			t.Fatal(err)
		}
		i := c.CachedInfo()
		return i.AckFloor.Stream <= concurrency && uint64(i.NumAckPending)+i.NumPending == 10-concurrency
	})
}

// TestAConsumerThatIsMadeAnewIsReadOn: the loop starts again when it has ended.
func TestAConsumerThatIsMadeAnewIsReadOn(t *testing.T) {
	b := bustest.Start(t)
	var worked atomic.Int64
	start(t, b, func(_ context.Context, m jetstream.Msg) {
		if m.Ack() == nil {
			worked.Add(1)
		}
	})
	publish(t, b, 1)
	await.Until(t, "the first", func() bool { return worked.Load() == 1 })
	if err := b.JS.DeleteConsumer(t.Context(), bus.EventsStream, bus.ProjectorConsumer); err != nil {
		t.Fatal(err)
	}
	if err := b.Provision(t.Context()); err != nil { // as the next start of any service does
		t.Fatal(err)
	}
	await.Until(t, "the same once more, from the new consumer", func() bool { return worked.Load() >= 2 })
}

// TestAMessageThatNobodyCanWorkStopsNobody: it ends neither the process nor keeps the
// others waiting, is tried again some times, and is out of the way at last: an operator
// finds it.
func TestAMessageThatNobodyCanWorkStopsNobody(t *testing.T) {
	b := bustest.Start(t)
	var poison, others, final atomic.Int64
	start(t, b, func(_ context.Context, m jetstream.Msg) {
		md, err := m.Metadata()
		if err == nil && md.Sequence.Stream%2 == 1 {
			poison.Add(1)
			panic("poison")
		}
		if m.Ack() == nil {
			others.Add(1)
		}
	}, func(l *consume.Loop) { l.HurryBroken(10 * time.Millisecond) })
	publish(t, b, 40)
	await.Until(t, "the others are worked", func() bool { return others.Load() == 20 })
	await.Until(t, "nothing is left", func() bool {
		c, err := b.JS.Consumer(t.Context(), bus.EventsStream, bus.ProjectorConsumer)
		if err != nil {
			t.Fatal(err)
		}
		final.Store(int64(c.CachedInfo().NumAckPending) + int64(c.CachedInfo().NumPending))
		return final.Load() == 0
	})
	if poison.Load() != 20*10 {
		t.Errorf("%d tries of 20 messages, want 10 of each", poison.Load())
	}
	if n, err := b.CountAside(t.Context()); n != 20 || err != nil {
		t.Errorf("%d are set aside, want 20: %v", n, err)
	}
	rec, _, found, err := b.NextAside(t.Context(), 1)
	if err != nil || !found || rec.GetCause() != "panic" || rec.GetSequence()%2 != 1 || rec.GetSubject() != bus.EventSubject("ABCDEF", "s") {
		t.Errorf("set aside is %v: %v", rec, err)
	}
	if ev, err := bus.DecodeRecord(rec.GetData()); err != nil || ev.GetEvent().GetSessionId() != "s" {
		t.Errorf("it holds %v: %v", ev, err)
	}
}

// TestWhatCannotBeSetAsideComesAgain: it is not forgotten because NATS refuses to keep
// it.
func TestWhatCannotBeSetAsideComesAgain(t *testing.T) {
	b := bustest.Start(t)
	if err := b.JS.DeleteStream(t.Context(), bus.AsideStream); err != nil {
		t.Fatal(err)
	}
	var tries atomic.Int64
	start(t, b, func(context.Context, jetstream.Msg) {
		tries.Add(1)
		panic("poison")
	}, func(l *consume.Loop) { l.HurryBroken(10 * time.Millisecond) })
	publish(t, b, 1)
	await.Until(t, "more tries than it gets", func() bool { return tries.Load() > 10 })
	if err := b.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "it is set aside", func() bool { n, err := b.CountAside(t.Context()); return n == 1 && err == nil })
}

// TestATryAfterAPanicWaits: a message that makes its handler panic is no busy loop.
func TestATryAfterAPanicWaits(t *testing.T) {
	b := bustest.Start(t)
	began := make(chan time.Time, 4)
	start(t, b, func(_ context.Context, m jetstream.Msg) {
		began <- time.Now()
		if len(began) == 1 {
			panic("once")
		}
		_ = m.Ack()
	})
	publish(t, b, 1)
	await.Until(t, "two tries", func() bool { return len(began) == 2 })
	if pause := -time.Since(<-began) + time.Since(<-began); pause > -500*time.Millisecond {
		t.Errorf("tried again after %s", -pause)
	}
}
