package outbox

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/panics"
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
	aliveEvery   = 10 * time.Second
	inspectEvery = 2 * time.Second
	// membersTTL is how long a replica that has died still counts.
	membersTTL = 15 * time.Second
)

// errSilent is why pins are not given back; nothing is under way any more.
var errSilent = errors.New("outbox: NATS does not answer")

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
	// when it had to stop before; errGivenUp, or a panic, where it is to be set aside.
	Work(ctx context.Context, it *Item) error
}

// Worker works the partitions that this process gets. It is a component of the
// process: Run once, Drain before the context of Run ends.
type Worker struct {
	bus    *bus.Bus
	sender Handler
	log    *slog.Logger
	meters *meters
	panics *panics.Watch

	stopping chan struct{}
	stopOnce sync.Once
	started  time.Time
	lastBeat atomic.Int64 // nanoseconds since started, by the monotonic clock
	members  *members
	pace     pace

	mu         sync.Mutex
	partitions []*partition
	draining   bool
	group      sync.WaitGroup // sessions being worked
}

// NewWorker makes the worker; it pulls nothing before Run.
func NewWorker(p WorkerParams) (*Worker, error) {
	m, err := newMeters(p.Meter)
	if err != nil {
		return nil, err
	}
	w := &Worker{
		bus: p.Bus, sender: p.Sender, log: p.Log, meters: m, panics: panics.New(p.Log, p.Meter), stopping: make(chan struct{}), started: time.Now(), pace: defaultPace(),
	}
	w.members, err = newMembers(p.Bus, membersTTL)
	return w, err
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
	w.mu.Lock()
	n := w.bus.Config().Partitions
	for i := range n {
		w.partitions = append(w.partitions, newPartition(ctx, partitionParams{
			Bus: w.bus, Index: i, Name: bus.OutboxConsumer(i, n), Work: w.do, Log: w.log, Meters: w.meters, Paused: w.paused, Link: w.link, Group: &w.group,
		}))
	}
	partitions := w.partitions
	w.mu.Unlock()
	off := w.bus.OnReconnect(func() {
		for _, p := range partitions {
			token(p.doubts)
		}
	})
	defer off()

	var group sync.WaitGroup
	for _, p := range partitions {
		group.Go(func() { w.pull(pulling, p) })
		group.Go(func() { p.settle(pulling) })
	}
	group.Go(func() { w.watch(pulling) })
	group.Go(func() { w.balance(pulling) })
	group.Go(func() { w.every(pulling, nil, aliveEvery, func(p *partition) { p.alive() }) })
	group.Go(func() { w.every(pulling, w.stopping, inspectEvery, func(p *partition) { p.inspect(pulling) }) })

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

func (w *Worker) all() []*partition {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.partitions
}

// link counts the connections to NATS and tells whether there is one now.
func (w *Worker) link() (uint64, bool) {
	return w.bus.NC.Stats().Reconnects, w.bus.NC.Status() == nats.CONNECTED
}

// Drain takes no more messages, lets calls to AXP that are under way finish,
// and gives the pins back, where NATS answers.
func (w *Worker) Drain(ctx context.Context) error {
	w.stop()
	w.mu.Lock()
	w.draining = true
	partitions := w.partitions
	w.mu.Unlock()
	faults := make([]error, len(partitions))
	var group sync.WaitGroup
	for i, p := range partitions {
		group.Go(func() { faults[i] = p.leave(ctx) })
	}
	group.Wait()
	for _, err := range faults {
		switch {
		case errors.Is(err, errSilent):
			w.log.WarnContext(ctx, "NATS does not answer; another replica gets the outbox when the pins expire")
			return nil
		case err != nil:
			return err // the others are the same
		}
	}
	if err := w.members.leave(ctx); err != nil {
		w.log.DebugContext(ctx, "a replica of the outbox counts until its time is over", "error", err)
	}
	return nil
}

// pull keeps a partition's consumer running.
func (w *Worker) pull(ctx context.Context, p *partition) {
	for {
		if p.until(ctx, p.turn, func() bool { return !p.resting }) != nil {
			return
		}
		if err := w.consume(ctx, p); err != nil {
			if ctx.Err() == nil {
				w.log.WarnContext(ctx, "outbox consumer stopped; it is started again", "consumer", p.Name, "error", err)
			}
			if pause(ctx, time.Second) != nil {
				return
			}
		}
	}
}

// consume pulls until ctx ends or the partition shall rest.
func (w *Worker) consume(ctx context.Context, p *partition) error {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	c, err := w.bus.JS.Consumer(ask, bus.OutboxStream, p.Name)
	cancel()
	if err != nil {
		return err
	}
	p.note(c.CachedInfo())
	p.pulled(true)
	defer p.pulled(false)
	cc, err := c.Consume(p.handle,
		jetstream.PullPriorityGroup(bus.OutboxGroup), jetstream.PullExpiry(pullExpiry),
		jetstream.PullHeartbeat(heartbeat), jetstream.PullMaxMessages(pullAhead),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			switch {
			case errors.Is(err, jetstream.ErrNoHeartbeat), errors.Is(err, jetstream.ErrPinIDMismatch):
				// The server does not hear us, or has pinned somebody else meanwhile.
				token(p.doubts)
			case !errors.Is(err, nats.ErrConnectionClosed):
				w.log.DebugContext(ctx, "outbox consumer", "consumer", p.Name, "error", err)
			}
		}))
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
		case <-p.turn:
			if !p.rests() {
				continue
			}
		case <-cc.Closed():
			return errors.New("closed by the server")
		}
		cc.Stop()
		<-cc.Closed()
		return nil
	}
}

// do hands an entry to the sender.
func (w *Worker) do(ctx context.Context, d delivery, t *tenure) error {
	var left error
	it := &Item{delivery: d, tenure: t}
	err := w.panics.Do(ctx, "outbox", func() error {
		if err := it.read(d.msg.Data()); err != nil {
			return err
		}
		left = w.sender.Work(w.bus.TraceContext(ctx, d.msg.Headers()), it)
		return nil
	})
	if err == nil && errors.Is(left, errGivenUp) {
		err = left
	}
	if err != nil {
		return w.setAside(ctx, it, err)
	}
	return left
}

// readable refuses an entry that could never be worked: it would stop its
// session for as long as the outbox keeps it.
func readable(e *busv1.OutboxEntry) error {
	switch {
	case !bus.ValidToken(e.GetAccount()) || !bus.ValidToken(e.GetSessionId()):
		return errors.New("it names no account or no session")
	case e.GetMessage() != nil && e.GetMessage().GetMessageId() == "":
		return errors.New("it holds a message without id")
	default:
		return nil
	}
}

// paused tells whether the process stood still until just now.
func (w *Worker) paused() bool {
	return time.Since(w.started)-time.Duration(w.lastBeat.Load()) > longestPause
}

func (w *Worker) beat() { w.lastBeat.Store(int64(time.Since(w.started))) }

// watch notices when the process stood still: stopped by a signal, moved to
// another machine, starved. Meanwhile the pins may have gone to somebody else.
func (w *Worker) watch(ctx context.Context) {
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
			// The beat stays old, and so everything is fenced, until all is forgotten.
			for _, p := range w.all() {
				p.revoke()
				token(p.doubts)
			}
		}
		w.beat()
	}
}

// every calls f for every partition again and again, until ctx ends or stopping
// is closed.
func (w *Worker) every(ctx context.Context, stopping <-chan struct{}, d time.Duration, f func(*partition)) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-stopping:
			return
		case <-tick.C:
		}
		for _, p := range w.all() {
			f(p)
		}
	}
}
