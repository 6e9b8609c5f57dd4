package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

const (
	// pullExpiry and pinTTL belong together: the pin lives so long after its
	// owner's last pull, and the bus declares it as a few times the expiry.
	pullExpiry = time.Second
	pinTTL     = 3 * time.Second
	heartbeat  = 500 * time.Millisecond
	pullAhead  = 64
	// pulse is how often the process proves to itself that it is running.
	pulse = 50 * time.Millisecond
	// longestPause is how long the process may stand still without doubting
	// that it still has its pins.
	longestPause = pinTTL / 3
	// aliveEvery keeps what is held from being delivered again; well under the
	// 30 s that the bus declares.
	aliveEvery  = 10 * time.Second
	rescueEvery = 2 * time.Second
)

// errStopping is why work is left undone when the process is about to end.
var errStopping = errors.New("outbox: stopping")

// WorkerParams is what NewWorker needs; all of it is required.
type WorkerParams struct {
	Bus    *bus.Bus
	Sender Handler
	Log    *slog.Logger
	Meter  metric.Meter
}

// Handler carries out entries; *Sender is the one.
type Handler interface {
	// Work returns nil when nothing is left to do for the entry, and an error
	// when it had to stop before.
	Work(ctx context.Context, it *Item) error
}

// Worker works the partitions that this process gets. It is a component of the
// process: Run once, Drain before the context of Run ends.
type Worker struct {
	bus    *bus.Bus
	sender Handler
	log    *slog.Logger
	meters *meters

	stopping chan struct{}
	stopOnce sync.Once
	started  time.Time
	lastBeat atomic.Int64 // nanoseconds since started, by the monotonic clock

	mu         sync.Mutex
	partitions []*partition
	group      sync.WaitGroup // sessions being worked
}

// NewWorker makes the worker; it pulls nothing before Run.
func NewWorker(p WorkerParams) (*Worker, error) {
	m, err := newMeters(p.Meter)
	if err != nil {
		return nil, err
	}
	w := &Worker{bus: p.Bus, sender: p.Sender, log: p.Log, meters: m, stopping: make(chan struct{}), started: time.Now()}
	return w, nil
}

// Name is "outbox".
func (w *Worker) Name() string { return "outbox" }

// Ready fails while NATS can't be reached. AXP's state is none of it: messages
// are held for as long as AXP is down.
func (w *Worker) Ready(ctx context.Context) error { return w.bus.Ready(ctx) }

// Run works until ctx ends.
func (w *Worker) Run(ctx context.Context) error {
	pulling, quit := context.WithCancel(ctx)
	defer quit()
	w.beat()
	doubts := make(chan bool, 1)
	off := w.bus.OnReconnect(func() { raise(doubts, false) })
	defer off()

	var group sync.WaitGroup
	w.mu.Lock()
	for i := range w.bus.Config().Partitions {
		w.partitions = append(w.partitions, newPartition(ctx, partitionParams{
			JS: w.bus.JS, Name: bus.OutboxConsumer(i), Work: w.do, Log: w.log, Meters: w.meters, Paused: w.paused, Group: &w.group,
		}))
	}
	partitions := w.partitions
	w.mu.Unlock()
	for _, p := range partitions {
		group.Go(func() { w.pull(pulling, p) })
	}
	group.Go(func() { w.watch(pulling, doubts) })
	group.Go(func() { w.settle(pulling, doubts) })
	group.Go(func() { w.every(pulling, aliveEvery, func(p *partition) { p.alive() }) })
	group.Go(func() { w.every(pulling, rescueEvery, func(p *partition) { p.rescue(pulling) }) })

	<-ctx.Done()
	w.stop()
	for _, p := range partitions {
		p.stop()
	}
	group.Wait()
	w.group.Wait()
	return nil
}

func (w *Worker) stop() { w.stopOnce.Do(func() { close(w.stopping) }) }

// Drain takes no more messages, lets calls to AXP that are under way finish,
// and gives the pins back.
func (w *Worker) Drain(ctx context.Context) error {
	w.stop()
	w.mu.Lock()
	partitions := w.partitions
	w.mu.Unlock()
	for _, p := range partitions {
		p.close()
	}
	idle := make(chan struct{})
	go func() { // ends with the sessions' goroutines, at the latest with Run
		w.group.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-ctx.Done():
		return fmt.Errorf("outbox: calls to AXP are still under way: %w", ctx.Err())
	}
	for _, p := range partitions {
		p.handover(ctx)
	}
	return nil
}

// pull keeps a partition's consumer running.
func (w *Worker) pull(ctx context.Context, p *partition) {
	for {
		if err := w.consume(ctx, p); err != nil && ctx.Err() == nil {
			w.log.WarnContext(ctx, "outbox consumer stopped; it is started again", "consumer", p.name, "error", err)
		}
		select {
		case <-w.stopping:
			return
		default:
		}
		if pause(ctx, time.Second) != nil {
			return
		}
	}
}

func (w *Worker) consume(ctx context.Context, p *partition) error {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	c, err := w.bus.JS.Consumer(ask, bus.OutboxStream, p.name)
	cancel()
	if err != nil {
		return err
	}
	cc, err := c.Consume(p.handle,
		jetstream.PullPriorityGroup(bus.OutboxGroup), jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(heartbeat), jetstream.PullMaxMessages(pullAhead),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			if !errors.Is(err, jetstream.ErrNoHeartbeat) && !errors.Is(err, nats.ErrConnectionClosed) {
				w.log.DebugContext(ctx, "outbox consumer", "consumer", p.name, "error", err)
			}
		}))
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-w.stopping:
	case <-cc.Closed():
		return errors.New("closed by the server")
	}
	cc.Stop()
	<-cc.Closed()
	return nil
}

// do hands an entry to the sender.
func (w *Worker) do(ctx context.Context, d delivery, t *tenure) error {
	entry := &busv1.OutboxEntry{}
	if err := proto.Unmarshal(d.msg.Data(), entry); err != nil || entry.GetAccount() == "" {
		// Nobody will ever be able to read it; the sender of the message finds it
		// missing from the journal.
		w.log.ErrorContext(ctx, "unreadable outbox entry dropped", "sequence", d.sequence, "error", err)
		w.meters.poison(ctx)
		return nil
	}
	ctx = w.bus.TraceContext(ctx, d.msg.Headers())
	return w.sender.Work(ctx, &Item{Entry: entry, delivery: d, tenure: t, stopping: w.stopping})
}

// paused tells whether the process stood still until just now.
func (w *Worker) paused() bool {
	return time.Since(w.started)-time.Duration(w.lastBeat.Load()) > longestPause
}

func (w *Worker) beat() { w.lastBeat.Store(int64(time.Since(w.started))) }

// watch notices when the process stood still: stopped by a signal, moved to
// another machine, starved. Meanwhile the pins may have gone to somebody else.
func (w *Worker) watch(ctx context.Context, doubts chan<- bool) {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if w.paused() {
			w.meters.paused(ctx)
			w.log.WarnContext(ctx, "the process stood still; the outbox asks who owns what")
			raise(doubts, true)
			continue // the beat stays old until settle has forgotten everything
		}
		w.beat()
	}
}

// settle asks for every partition whether it is still ours.
func (w *Worker) settle(ctx context.Context, doubts <-chan bool) {
	for {
		var revoke bool
		select {
		case <-ctx.Done():
			return
		case revoke = <-doubts:
		}
		w.mu.Lock()
		partitions := w.partitions
		w.mu.Unlock()
		revoke = revoke || w.paused()
		if revoke {
			for _, p := range partitions {
				p.revoke()
			}
			w.beat()
		}
		var group sync.WaitGroup
		for _, p := range partitions {
			group.Go(func() { p.doubt(ctx) })
		}
		group.Wait()
	}
}

// raise notes a doubt; a revoking one is not lost behind a lesser one, for
// settle looks at the pause itself.
func raise(doubts chan<- bool, revoke bool) {
	select {
	case doubts <- revoke:
	default:
	}
}

func (w *Worker) every(ctx context.Context, d time.Duration, f func(*partition)) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.stopping:
			return
		case <-tick.C:
		}
		w.mu.Lock()
		partitions := w.partitions
		w.mu.Unlock()
		for _, p := range partitions {
			f(p)
		}
	}
}
