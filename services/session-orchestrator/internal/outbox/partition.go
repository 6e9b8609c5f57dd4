package outbox

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/axpchat/connector/services/internal/kit/bus"
)

const (
	// headerPin carries the server's id of who is pinned.
	headerPin = "Nats-Pin-Id"
	// askTimeout bounds a question to the server.
	askTimeout = 2 * time.Second
	// resetPatience is how long the first message after a reset may take before
	// the reset is repeated.
	resetPatience = 2 * time.Second
	// skew is how far the clocks of NATS servers may lie apart.
	skew = time.Second
)

// partition works one pinned consumer.
type partition struct {
	js     jetstream.JetStream
	name   string
	work   work
	log    *slog.Logger
	meters *meters
	paused func() bool
	parent context.Context //nolint:containedctx // the lifetime of the worker; tenures end with it
	group  *sync.WaitGroup

	// handling serialises what decides about tenures: deliveries and doubts.
	handling sync.Mutex
	pin      string
	revoked  string
	awaiting bool
	resetAt  time.Time
	next     uint64
	began    time.Time // of the tenure, by the server's clock; zero: not known

	mu      sync.Mutex
	tenure  *tenure
	queues  map[string][]delivery
	held    map[uint64]jetstream.Msg // queued or being worked, by stream sequence
	running map[string]chan struct{} // closed when the key's last goroutine has ended
	closed  bool
}

type partitionParams struct {
	JS     jetstream.JetStream
	Name   string
	Work   work
	Log    *slog.Logger
	Meters *meters
	Paused func() bool
	Group  *sync.WaitGroup
}

func newPartition(ctx context.Context, p partitionParams) *partition {
	out := &partition{
		js: p.JS, name: p.Name, work: p.Work, log: p.Log, meters: p.Meters, paused: p.Paused, parent: ctx, group: p.Group,
		running: map[string]chan struct{}{},
	}
	out.forget()
	return out
}

// forget ends the tenure and begins a new one with nothing in it.
func (p *partition) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tenure != nil {
		p.tenure.end()
	}
	ctx, cancel := context.WithCancel(p.parent)
	p.tenure = &tenure{ctx: ctx, life: p.parent, end: cancel, paused: p.paused, cleared: map[string]bool{}}
	p.queues = map[string][]delivery{}
	p.held = map[uint64]jetstream.Msg{}
}

// reset starts over from the oldest message that is not acknowledged. The
// caller holds handling.
func (p *partition) reset(why string) {
	p.forget()
	ctx, cancel := context.WithTimeout(p.parent, askTimeout)
	defer cancel()
	// Whatever is stored by now may have been worked on, by whoever had the pin.
	p.began = time.Time{}
	if c, err := p.js.Consumer(ctx, bus.OutboxStream, p.name); err == nil {
		p.began = c.CachedInfo().TimeStamp
	}
	if _, err := p.js.ResetConsumer(ctx, bus.OutboxStream, p.name); err != nil {
		p.log.Warn("outbox consumer could not be reset; it is tried again", "consumer", p.name, "error", err)
	} else {
		p.meters.reset(p.parent, why)
	}
	p.awaiting, p.resetAt = true, time.Now()
}

// handle takes one delivery; it is the consumer's callback.
func (p *partition) handle(m jetstream.Msg) {
	md, err := m.Metadata()
	if err != nil {
		p.log.Error("delivery without a place", "consumer", p.name, "error", err)
		return
	}
	p.handling.Lock()
	defer p.handling.Unlock()
	pin, place := m.Headers().Get(headerPin), md.Sequence.Consumer
	switch {
	case p.paused(), pin == p.revoked && pin != "":
		return // not ours to work on; the doubt is being settled
	case pin != p.pin:
		p.pin = pin
		p.reset("new pin")
		return
	case p.awaiting && place == 1:
		p.awaiting, p.next = false, 1
	case p.awaiting && time.Since(p.resetAt) > resetPatience:
		p.reset("no answer to reset")
		return
	case p.awaiting:
		return // sent before the reset; it comes again
	case place != p.next:
		p.reset("hole in deliveries")
		return
	}
	p.next++
	p.queue(delivery{
		msg: m, key: m.Subject(), sequence: md.Sequence.Stream,
		old: md.NumDelivered > 1 || p.began.IsZero() || md.Timestamp.Before(p.began.Add(skew)),
	})
}

// queue puts a delivery behind the others of its session.
func (p *partition) queue(d delivery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, have := p.held[d.sequence]; have || p.closed {
		return // the copy that is held will be acknowledged
	}
	p.held[d.sequence] = d.msg
	q, busy := p.queues[d.key]
	p.queues[d.key] = append(q, d)
	if busy {
		return
	}
	before, done := p.running[d.key], make(chan struct{})
	p.running[d.key] = done
	p.group.Add(1)
	go p.run(d.key, p.tenure, before, done)
}

// run works a session's queue until it is empty or the tenure ends. before is
// closed when an earlier tenure's goroutine of the same session has ended: its
// last call to AXP may still be under way.
func (p *partition) run(key string, t *tenure, before <-chan struct{}, done chan struct{}) {
	defer p.group.Done()
	defer p.ended(key, done)
	if before != nil {
		<-before
	}
	for {
		d, ok := p.take(key, t)
		if !ok {
			return
		}
		if err := p.work(t.ctx, d, t); err != nil || t.Over() {
			return
		}
		if err := d.msg.Ack(); err != nil {
			// It is delivered again, found to be done, and acknowledged then.
			p.log.Debug("outbox message could not be acknowledged", "consumer", p.name, "error", err)
		}
		p.mu.Lock()
		if p.tenure == t {
			delete(p.held, d.sequence)
		}
		p.mu.Unlock()
	}
}

func (p *partition) take(key string, t *tenure) (delivery, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tenure != t || t.ctx.Err() != nil || p.closed {
		return delivery{}, false
	}
	q := p.queues[key]
	if len(q) == 0 {
		delete(p.queues, key)
		return delivery{}, false
	}
	p.queues[key] = q[1:]
	return q[0], true
}

func (p *partition) ended(key string, done chan struct{}) {
	close(done)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running[key] == done {
		delete(p.running, key)
	}
}

// revoke ends the tenure and believes nothing under the present pin until doubt
// has settled whose it is.
func (p *partition) revoke() {
	p.handling.Lock()
	defer p.handling.Unlock()
	if p.pin != "" {
		p.revoked = p.pin
	}
	p.forget()
}

// doubt settles whether the partition is still ours after the process stood
// still or NATS was reconnected: a delivery may have been lost on the way, or
// somebody else may be pinned. It asks until it has an answer or ctx ends.
func (p *partition) doubt(ctx context.Context) {
	p.handling.Lock()
	pin := p.pin
	p.handling.Unlock()
	for pin != "" {
		holder, err := p.holder(ctx)
		if err == nil {
			if holder == pin {
				p.reclaim(pin) //nolint:contextcheck // a reset belongs to the life of the worker
			}
			return // else a new pin comes with the next delivery, here or elsewhere
		}
		if pause(ctx, 200*time.Millisecond) != nil {
			return
		}
	}
}

func (p *partition) reclaim(pin string) {
	p.handling.Lock()
	defer p.handling.Unlock()
	if p.pin == pin {
		p.revoked = ""
		p.reset("doubt")
	}
}

// holder asks the server who is pinned.
func (p *partition) holder(ctx context.Context) (string, error) {
	info, err := p.info(ctx)
	if err != nil {
		return "", err
	}
	return pinned(info), nil
}

func (p *partition) info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := p.js.Consumer(ctx, bus.OutboxStream, p.name)
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

func pinned(info *jetstream.ConsumerInfo) string {
	for _, g := range info.PriorityGroups {
		if g.Group == bus.OutboxGroup {
			return g.PinnedClientID
		}
	}
	return ""
}

// rescue looks for messages that a dead owner has left unacknowledged while
// nobody is pinned. The server gives a pin only together with a delivery, and
// without new messages the next one would come when the dead owner's time to
// acknowledge has run out. Whoever gets the pin then resets once more.
func (p *partition) rescue(ctx context.Context) {
	info, err := p.info(ctx)
	if err != nil || pinned(info) != "" || info.NumAckPending == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err := p.js.ResetConsumer(ctx, bus.OutboxStream, p.name); err == nil {
		p.meters.reset(ctx, "rescue")
	}
}

// alive tells the server that what is held is being worked on.
func (p *partition) alive() {
	p.mu.Lock()
	msgs := make([]jetstream.Msg, 0, len(p.held))
	for _, m := range p.held {
		msgs = append(msgs, m)
	}
	p.mu.Unlock()
	for _, m := range msgs {
		if m.InProgress() != nil {
			return // not connected; the server delivers again
		}
	}
}

// close takes no more deliveries.
func (p *partition) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
}

// stop ends the tenure.
func (p *partition) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.tenure.end()
}

// handover gives the pin back, so that another replica need not wait for it to
// expire.
func (p *partition) handover(ctx context.Context) {
	p.handling.Lock()
	pin := p.pin
	p.handling.Unlock()
	if pin == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if holder, err := p.holder(ctx); err != nil || holder != pin {
		return
	}
	stream, err := p.js.Stream(ctx, bus.OutboxStream)
	if err == nil {
		err = stream.UnpinConsumer(ctx, p.name, bus.OutboxGroup)
	}
	if err != nil {
		p.log.Debug("pin could not be handed over; it expires", "consumer", p.name, "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
