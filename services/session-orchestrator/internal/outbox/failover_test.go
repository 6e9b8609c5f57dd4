package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
)

// sharer is a replica that hands partitions over quickly.
func sharer(t testing.TB, s *natsembed.Server, h Handler) *replica {
	t.Helper()
	conn := bustest.Connect(t, s, bustest.Config())
	w, err := NewWorker(WorkerParams{Bus: conn, Sender: h, Log: slog.New(slog.DiscardHandler), Meter: metricnoop.Meter{}})
	if err != nil {
		t.Fatal(err)
	}
	w.pace = pace{balance: 200 * time.Millisecond, rest: time.Second}
	return run(t, w, conn)
}

// sharing starts two replicas and waits until each has its share of the
// partitions.
func sharing(t testing.TB, s *natsembed.Server, h Handler) (a, b *replica) {
	t.Helper()
	a, b = sharer(t, s, h), sharer(t, s, h)
	feeder := bustest.Connect(t, s, bustest.Config())
	n := 0
	await.Until(t, "both have their share", func() bool {
		for i := range feeder.Config().Partitions {
			put(t, feeder, sessionIn(i, feeder.Config().Partitions), fmt.Sprintf("warm-up-%d", n))
			n++
		}
		return len(owned(t, a.Worker)) == 2 && len(owned(t, b.Worker)) == 2
	})
	await.Until(t, "the outbox is empty", func() bool { return stored(t, feeder) == 0 })
	return a, b
}

// sessionIn is a session of a partition.
func sessionIn(partition, partitions int) string {
	for i := 0; ; i++ {
		if s := fmt.Sprintf("session-%d", i); bus.Partition(s, partitions) == partition {
			return s
		}
	}
}

// owned are the partitions that a worker has.
func owned(t testing.TB, w *Worker) []*partition {
	t.Helper()
	var out []*partition
	for _, p := range w.all() {
		if p.inspect(t.Context()); p.mine() {
			out = append(out, p)
		}
	}
	return out
}

// TestOtherPartitionsDoNotNoticeThatAWorkerDies: its own partitions are taken
// over; the tenures of all others go on.
func TestOtherPartitionsDoNotNoticeThatAWorkerDies(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	a, b := sharing(t, s, up)
	before := map[*partition]*tenure{}
	for _, p := range owned(t, b.Worker) {
		before[p] = p.tenure
	}
	feeder := bustest.Connect(t, s, bustest.Config())
	up.forget()
	a.bus.NC.Close() // seen from outside, the process is dead
	want, n := map[string][]string{}, 0
	for round := range 10 {
		for i := range feeder.Config().Partitions {
			session, id := sessionIn(i, feeder.Config().Partitions), fmt.Sprintf("%d-%d", i, round)
			put(t, feeder, session, id)
			want[session] = append(want[session], id)
			n++
		}
	}
	await.Until(t, "all messages arrive", func() bool { return up.count() == n && stored(t, feeder) == 0 })
	up.check(t, want)
	if got := len(owned(t, b.Worker)); got != 4 {
		t.Errorf("the other replica has %d of 4 partitions", got)
	}
	for p, tenure := range before {
		if p.tenure != tenure || tenure.ctx.Err() != nil {
			t.Errorf("%s: its tenure ended although its worker lives", p.Name)
		}
	}
}

// arrivals notes when messages arrive, by session.
type arrivals struct {
	mu      sync.Mutex
	last    map[string]time.Time
	longest map[string]time.Duration
}

func (a *arrivals) Work(_ context.Context, it *Item) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, session := time.Now(), it.Entry.GetSessionId()
	if last, ok := a.last[session]; ok {
		a.longest[session] = max(a.longest[session], now.Sub(last))
	}
	a.last[session] = now
	return nil
}

// BenchmarkFailover kills a worker that has half of the partitions, under a
// steady trickle of messages to all of them. It reports the longest pause
// between two messages of a partition that was taken over, and of one that was
// not.
func BenchmarkFailover(b *testing.B) {
	const every = 10 * time.Millisecond
	for range b.N {
		s, seen := bustest.Server(b), &arrivals{last: map[string]time.Time{}, longest: map[string]time.Duration{}}
		dying, living := sharing(b, s, seen)
		taken := owned(b, dying.Worker)
		feeder := bustest.Connect(b, s, bustest.Config())
		clear(seen.longest)
		clear(seen.last)
		tick := time.NewTicker(every)
		n, killed := 0, time.Time{}
		for killed.IsZero() || time.Since(killed) < 2*pinTTL+inspectEvery {
			<-tick.C
			if n == 100 {
				dying.bus.NC.Close()
				killed = time.Now()
			}
			for i := range feeder.Config().Partitions {
				_, err := feeder.PublishOutbox(b.Context(), &busv1.OutboxEntry{
					Account: "ABCDEF", SessionId: sessionIn(i, feeder.Config().Partitions), EngagementId: "e",
					Command: &busv1.OutboxEntry_Message{Message: &busv1.OutboxMessage{MessageId: fmt.Sprint(i, n), Request: &axpchatv1.SendMessageRequest{}}},
				}, fmt.Sprintf("%d-%d", i, n))
				if err != nil {
					b.Fatal(err)
				}
			}
			n++
		}
		tick.Stop()
		await.Until(b, "the outbox is empty", func() bool { return stored(b, feeder) == 0 })
		var failover, others time.Duration
		seen.mu.Lock()
		for i := range feeder.Config().Partitions {
			longest := seen.longest[sessionIn(i, feeder.Config().Partitions)]
			if isTaken(taken, i) {
				failover = max(failover, longest)
			} else {
				others = max(others, longest)
			}
		}
		seen.mu.Unlock()
		b.ReportMetric(failover.Seconds(), "s-taken-over")
		b.ReportMetric(others.Seconds(), "s-others")
		living.end()
		dying.end()
	}
}

func isTaken(taken []*partition, i int) bool {
	for _, p := range taken {
		if p.Index == i {
			return true
		}
	}
	return false
}
