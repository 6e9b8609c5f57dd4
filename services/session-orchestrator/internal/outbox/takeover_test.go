package outbox

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
)

// gated holds one replica's work back before it looks at anything.
type gated struct {
	up *upstream

	mu   sync.Mutex
	gate chan struct{}
}

func newGated(up *upstream) *gated {
	g := &gated{up: up, gate: make(chan struct{})}
	close(g.gate)
	return g
}

func (g *gated) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gate = make(chan struct{})
}

func (g *gated) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.gate)
}

func (g *gated) Work(ctx context.Context, it *Item) error {
	g.mu.Lock()
	gate := g.gate
	g.mu.Unlock()
	select {
	case <-gate:
	case <-ctx.Done():
		return ctx.Err()
	}
	return g.up.Work(ctx, it)
}

// startVia starts a replica that reaches the server by a link.
func startVia(t *testing.T, l *bustest.Link, h Handler) *replica {
	t.Helper()
	cfg := bustest.Config()
	cfg.URL = l.URL()
	b, err := bus.Connect(t.Context(), bus.Params{Config: cfg, Name: t.Name(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.NC.Close)
	return startOn(t, b, h)
}

func startOn(t *testing.T, b *bus.Bus, h Handler) *replica {
	t.Helper()
	w, err := NewWorker(WorkerParams{Bus: b, Sender: h, Log: slog.New(slog.DiscardHandler), Meter: metricnoop.Meter{}})
	if err != nil {
		t.Fatal(err)
	}
	w.pace = pace{balance: time.Hour, rest: time.Second}
	return run(t, w, b)
}

// run runs a worker until the test or its end function ends it.
func run(t testing.TB, w *Worker, b *bus.Bus) *replica {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	end := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(end)
	return &replica{Worker: w, bus: b, end: end}
}

func listening(t *testing.T) *natsembed.Server {
	t.Helper()
	s, err := natsembed.Start(t.TempDir(), natsembed.Options{Name: "test", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func (w *Worker) holds() int {
	n := 0
	for _, p := range w.all() {
		p.mu.Lock()
		n += len(p.held)
		p.mu.Unlock()
	}
	return n
}

// TestAReplicaThatNATSDidNotHearSendsNothingMore: while one replica cannot be
// heard its pins go to another. What it still holds in memory it must not send.
func TestAReplicaThatNATSDidNotHearSendsNothingMore(t *testing.T) {
	for name, how := range map[string]struct{ down, frozen bool }{
		"the connection is cut":   {down: true},
		"the connection is stuck": {frozen: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, up := listening(t), newUpstream()
			feeder := bustest.Connect(t, s, bustest.Config())
			l, slow := bustest.NewLink(t, s.ClientURL()[len("nats://"):]), newGated(up)
			a := startVia(t, l, slow)
			want := publish(t, feeder, 5, 10, "early")
			await.Until(t, "the first replica works", func() bool { return up.count() == 10 })
			slow.shut()
			// Past the time for which clocks of servers may differ nothing is suspect.
			<-time.After(skew)
			want = join(want, publish(t, feeder, 5, 40, "late"))
			await.Until(t, "the first replica holds messages", func() bool { return a.holds() == 40 })
			startOn(t, bustest.Connect(t, s, bustest.Config()), up)

			l.Set(how.down, how.frozen)
			await.Until(t, "the second replica takes over", func() bool { return up.count() == 50 })
			l.Set(false, false)
			slow.open()
			want = join(want, publish(t, feeder, 5, 10, "after"))
			await.Until(t, "all messages arrive", func() bool { return up.count() == 60 && stored(t, feeder) == 0 })
			up.check(t, want)
		})
	}
}

// stubborn is a call that takes as long as it takes, whatever ends meanwhile.
type stubborn struct {
	up    *upstream
	begun chan string
	slow  chan struct{}
}

func (s *stubborn) Work(_ context.Context, it *Item) error {
	id, session := it.Entry.GetMessage().GetMessageId(), it.Entry.GetSessionId()
	if it.tenure.Suspect(it.delivery) {
		if s.up.has(id) {
			return nil
		}
		it.tenure.Clear(it.delivery)
	}
	select {
	case s.begun <- id:
	default:
	}
	<-s.slow
	s.up.mu.Lock()
	defer s.up.mu.Unlock()
	s.up.calls[id]++
	s.up.order[session] = append(s.up.order[session], id)
	return nil
}

func TestDrainingKeepsThePinWhileACallIsUnderWay(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	h := &stubborn{up: up, begun: make(chan string, 1), slow: make(chan struct{})}
	a := startOn(t, bustest.Connect(t, s, bustest.Config()), h)
	want := publish(t, a.bus, 1, 2, "m")
	<-h.begun
	startOn(t, bustest.Connect(t, s, bustest.Config()), h)
	drained := make(chan error, 1)
	go func() { drained <- a.Drain(t.Context()) }()
	select {
	case <-time.After(pinTTL + 2*time.Second): // an abandoned pin would be somebody else's by now
	case id := <-h.begun:
		t.Errorf("message %s is sent by another replica although the call is under way", id)
	}
	close(h.slow)
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	await.Until(t, "all messages arrive", func() bool { return up.count() == 2 && stored(t, a.bus) == 0 })
	up.check(t, want)
}

func TestReplicasShareThePartitions(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	a := sharer(t, s, up)
	want, n := map[string][]string{}, 0
	more := func() {
		n += 20
		want = join(want, publish(t, a.bus, 20, 20, "m"+time.Now().Format(time.RFC3339Nano)))
		await.Until(t, "messages arrive", func() bool { return up.count() == n })
	}
	more()
	if got := len(owned(t, a.Worker)); got != 4 {
		t.Fatalf("alone, a replica has %d of 4 partitions", got)
	}
	b := sharer(t, s, up)
	await.Until(t, "both have their share", func() bool {
		more()
		return len(owned(t, a.Worker)) == 2 && len(owned(t, b.Worker)) == 2
	})
	a.end()
	more()
	if got := len(owned(t, b.Worker)); got != 4 {
		t.Errorf("alone again, the other replica has %d of 4 partitions", got)
	}
	await.Until(t, "the outbox is empty", func() bool { return stored(t, b.bus) == 0 })
	up.check(t, want)
}

// TestAPinThatWasDoubtedForNothingIsBelievedAgain: a doubt that was answered by a
// server which was behind leaves the pin revoked although it is still ours. What
// is delivered under it must be worked all the same.
func TestAPinThatWasDoubtedForNothingIsBelievedAgain(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	feeder := bustest.Connect(t, s, bustest.Config())
	a := startOn(t, bustest.Connect(t, s, bustest.Config()), up)
	want := publish(t, feeder, 5, 10, "early")
	await.Until(t, "the replica works", func() bool { return up.count() == 10 && stored(t, feeder) == 0 })
	for _, p := range a.all() {
		p.revoke() // and no doubt, as if it had got a wrong answer
	}
	want = join(want, publish(t, feeder, 5, 10, "late"))
	await.Until(t, "the replica works again", func() bool { return up.count() == 20 && stored(t, feeder) == 0 })
	up.check(t, want)
}

// TestAHandOverThatFailsKeepsTheOrder: a partition is to be left, but a call takes
// too long. What was waiting behind it goes on in its place.
func TestAHandOverThatFailsKeepsTheOrder(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	h := &stubborn{up: up, begun: make(chan string, 1), slow: make(chan struct{})}
	a := startOn(t, bustest.Connect(t, s, bustest.Config()), h)
	want := publish(t, a.bus, 1, 3, "m")
	<-h.begun
	await.Until(t, "the replica holds them", func() bool { return a.holds() == 3 })
	for _, p := range a.all() {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := p.leave(ctx); err == nil && p.busy() > 0 {
			t.Error("a partition is left although a call is under way")
		}
		cancel()
		p.reopen()
	}
	want = join(want, publish(t, a.bus, 1, 1, "late"))
	await.Until(t, "the replica holds something again", func() bool { return a.holds() > 0 })
	close(h.slow)
	await.Until(t, "all messages arrive", func() bool { return up.count() == 4 && stored(t, a.bus) == 0 })
	up.check(t, want)
}
