package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/axpchat/connector/services/internal/kit/bus"
)

const (
	// newPin is why a partition usually starts over.
	newPin = "new pin"
	// headerPin carries the server's id of who is pinned.
	headerPin = "Nats-Pin-Id"
	// askTimeout bounds a question to the server.
	askTimeout = 2 * time.Second
	// resetPatience is how long the first message after a reset may take before
	// the reset is repeated.
	resetPatience = 2 * time.Second
	// removeAgain is the pause before a finished message is removed again.
	removeAgain = 200 * time.Millisecond
)

// partition works one pinned consumer.
type partition struct {
	partitionParams

	parent context.Context //nolint:containedctx // the lifetime of the worker; tenures end with it
	// doubts holds a token while something may have happened that ends the tenure.
	doubts chan struct{}
	// idle holds a token after a session's goroutine has ended.
	idle chan struct{}
	// turn holds a token when pulling may have to begin or end.
	turn chan struct{}

	// handling serialises what decides about tenures: deliveries and doubts.
	handling  sync.Mutex
	pin       string
	revoked   string // the pin that is not believed in
	revokedAt time.Time
	awaiting  bool
	resetAt   time.Time
	next      uint64
	began     mark      // of the tenure
	heir      bool      // somebody else may have had the partition right before
	quiet     mark      // when it was last seen empty and without an owner
	quietAt   time.Time // the same by our clock
	quietBy   string    // which leader of the consumer said so
	stray     stray     // as of the last inspection

	mu      sync.Mutex
	tenure  *tenure
	queues  map[string][]delivery
	held    map[uint64]jetstream.Msg // queued or being worked, by stream sequence
	running map[string]chan struct{} // closed when the key's last goroutine has ended
	closed  bool                     // takes nothing more
	resting bool                     // shall not be pulled
	pulling bool                     // is pulled
	owned   bool                     // the server said so, last time it was asked
}

// stray is a message that is in the outbox and that its owner does not know of.
type stray struct {
	sequence uint64
	tenure   *tenure
}

type partitionParams struct {
	Bus    *bus.Bus
	Index  int
	Name   string // of the consumer
	Work   work
	Log    *slog.Logger
	Meters *meters
	// Paused tells whether the process stood still until just now.
	Paused func() bool
	// Link counts the connections to NATS, and tells whether there is one now.
	Link  func() (uint64, bool)
	Group *sync.WaitGroup
}

func newPartition(ctx context.Context, p partitionParams) *partition {
	out := &partition{
		partitionParams: p, parent: ctx, running: map[string]chan struct{}{},
		doubts: make(chan struct{}, 1), idle: make(chan struct{}, 1), turn: make(chan struct{}, 1),
	}
	out.forget()
	return out
}

// token puts a token into a channel of one that is not there yet.
func token(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// forget ends the tenure and begins a new one with nothing in it.
func (p *partition) forget() {
	link, _ := p.Link()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tenure != nil {
		p.tenure.end()
	}
	ctx, cancel := context.WithCancel(p.parent)
	p.tenure = &tenure{
		ctx: ctx, life: p.parent, end: cancel, since: time.Now(), leaving: make(chan struct{}), cleared: map[string]bool{},
		unsure: func() bool {
			now, up := p.Link()
			return p.Paused() || !up || now != link
		},
	}
	if p.closed {
		close(p.tenure.leaving)
	}
	p.queues = map[string][]delivery{}
	p.held = map[uint64]jetstream.Msg{}
}

// reset starts over from the oldest message there is. The caller holds handling.
func (p *partition) reset(why string) {
	p.forget()
	ctx, cancel := context.WithTimeout(p.parent, askTimeout)
	defer cancel()
	// Whatever is stored by now may have been worked on, by whoever had the pin.
	p.began = everything()
	p.heir = true
	if c, err := p.Bus.JS.Consumer(ctx, bus.OutboxStream, p.Name); err == nil {
		info := c.CachedInfo()
		p.began = p.mark(ctx, info)
		// Who got the pin after the quiet moment would still have it, but of the same
		// leader of the consumer: another one knows of no pins.
		p.heir = why != newPin || time.Since(p.quietAt) > pinTTL || leader(info) != p.quietBy
	}
	if err := p.rewind(ctx); err != nil {
		p.Log.Warn("outbox consumer could not be reset; it is tried again", "consumer", p.Name, "error", err)
	} else {
		p.Meters.reset(p.parent, why)
	}
	p.awaiting, p.resetAt = true, time.Now()
}

// mark is where the outbox stands now. The consumer's leader has answered before.
func (p *partition) mark(ctx context.Context, info *jetstream.ConsumerInfo) mark {
	last, err := p.Bus.LastOutbox(ctx)
	if err != nil || last < info.Delivered.Stream { // the stream's leader is behind
		return everything()
	}
	return mark{sequence: last, at: info.TimeStamp.Add(skew)}
}

// rewind has the server deliver again from the oldest message there is. Not
// from the consumer's floor of acknowledgements, which is not to be trusted
// after a reset and a change of leader (see bus.RemoveOutbox).
func (p *partition) rewind(ctx context.Context) error {
	oldest, found, err := p.Bus.OldestOutbox(ctx, p.Index)
	if err != nil {
		return err
	}
	if !found {
		_, err = p.Bus.JS.ResetConsumer(ctx, bus.OutboxStream, p.Name)
		return err
	}
	return p.rewindTo(ctx, oldest)
}

func (p *partition) rewindTo(ctx context.Context, sequence uint64) error {
	_, err := p.Bus.JS.ResetConsumerToSequence(ctx, bus.OutboxStream, p.Name, sequence)
	return err
}

// handle takes one delivery; it is the consumer's callback.
func (p *partition) handle(m jetstream.Msg) {
	md, err := m.Metadata()
	if err != nil {
		p.Log.Error("delivery without a place", "consumer", p.Name, "error", err)
		return
	}
	p.handling.Lock()
	defer p.handling.Unlock()
	pin, place := m.Headers().Get(headerPin), md.Sequence.Consumer
	switch {
	case p.Paused(), pin == p.revoked && pin != "":
		return // not ours to work on; the doubt is being settled
	case pin != p.pin:
		p.pin = pin
		p.reset(newPin)
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
		old:       p.began.covers(md),
		again:     md.NumDelivered > 1,
		inherited: p.heir || p.quiet.covers(md),
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
	p.Group.Add(1)
	go p.run(d.key, p.tenure, before, done)
}

// run works a session's queue until it is empty or the tenure ends. before is
// closed when an earlier tenure's goroutine of the same session has ended: its
// last call to AXP may still be under way.
func (p *partition) run(key string, t *tenure, before <-chan struct{}, done chan struct{}) {
	defer p.Group.Done()
	defer p.ended(key, done)
	if before != nil {
		<-before
	}
	for {
		d, ok := p.take(key, t)
		if !ok {
			return
		}
		if err := p.Work(t.ctx, d, t); err != nil || t.Over() {
			p.leftUndone(t)
			return
		}
		if err := p.remove(t, d); err != nil {
			p.leftUndone(t)
			return
		}
		p.mu.Lock()
		if p.tenure == t {
			delete(p.held, d.sequence)
		}
		p.mu.Unlock()
	}
}

// remove takes a finished message out of the outbox; while NATS can't be
// reached it tries for as long as the tenure lasts. What stays is delivered
// again, found to be done in the journal, and removed then.
func (p *partition) remove(t *tenure, d delivery) error {
	for {
		ctx, cancel := context.WithTimeout(t.ctx, askTimeout)
		err := p.Bus.RemoveOutbox(ctx, d.sequence)
		cancel()
		if err == nil {
			break
		}
		p.Log.Debug("a finished message could not be removed from the outbox yet", "consumer", p.Name, "error", err)
		if err := pause(t.ctx, removeAgain); err != nil {
			return err
		}
	}
	if err := d.msg.Ack(); err != nil {
		// The server finds out that it is gone when it is to be delivered again.
		p.Log.Debug("outbox message could not be acknowledged", "consumer", p.Name, "error", err)
	}
	return nil
}

// leftUndone raises a doubt where a session is left while its tenure goes on:
// nobody would ever come back to it.
func (p *partition) leftUndone(t *tenure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tenure == t && t.ctx.Err() == nil && !p.closed {
		token(p.doubts)
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
	token(p.idle)
}

// settle deals with doubts until ctx ends.
func (p *partition) settle(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.doubts:
		}
		p.revoke()
		p.doubt(ctx)
	}
}

// revoke ends the tenure and believes nothing under the present pin until doubt
// has settled whose it is.
func (p *partition) revoke() {
	p.handling.Lock()
	defer p.handling.Unlock()
	p.disbelieve()
}

// disbelieve is revoke for a caller that holds handling.
func (p *partition) disbelieve() {
	if p.pin != "" {
		p.revoked, p.revokedAt = p.pin, time.Now()
	}
	p.quietAt = time.Time{} // the server may have lost its pins since
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
	c, err := p.Bus.JS.Consumer(ctx, bus.OutboxStream, p.Name)
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

// leader is the server that leads the consumer; empty where there is one alone.
func leader(info *jetstream.ConsumerInfo) string {
	if info.Cluster == nil {
		return ""
	}
	return info.Cluster.Leader
}

// inspect asks the server how the partition stands and repairs what nobody else
// would.
func (p *partition) inspect(ctx context.Context) {
	asked := time.Now()
	info, err := p.info(ctx)
	if err != nil {
		return
	}
	p.note(info)
	p.restore(asked, pinned(info)) //nolint:contextcheck // a reset belongs to the life of the worker
	p.rescue(ctx, info)
	if p.mine() {
		p.compare(ctx)
	}
}

// compare holds the oldest message of the outbox against what is held here.
// One that is missing twice was delivered in vain without anybody noticing.
func (p *partition) compare(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	oldest, found, err := p.Bus.OldestOutbox(ctx, p.Index)
	if err != nil {
		return
	}
	p.handling.Lock()
	defer p.handling.Unlock()
	p.mu.Lock()
	_, held := p.held[oldest]
	now := stray{sequence: oldest, tenure: p.tenure}
	p.mu.Unlock()
	if !found || held || p.awaiting {
		p.stray = stray{}
		return
	}
	if p.stray != now {
		p.stray = now
		return
	}
	p.stray = stray{}
	p.reset("left behind") //nolint:contextcheck // a reset belongs to the life of the worker
}

// restore believes in a pin again that was revoked and is still ours. Usually
// doubt does that; but the one answer that it takes may come from a server that
// was behind, and then nobody would ever work what is delivered under this pin.
func (p *partition) restore(asked time.Time, holder string) {
	p.handling.Lock()
	stuck := p.pin != "" && p.revoked == p.pin && holder == p.pin && asked.After(p.revokedAt)
	p.handling.Unlock()
	if stuck && !p.Paused() {
		p.reclaim(holder)
	}
}

// note remembers whether the partition is ours and when it was last seen empty
// and without an owner.
func (p *partition) note(info *jetstream.ConsumerInfo) {
	holder := pinned(info)
	p.handling.Lock()
	defer p.handling.Unlock()
	if holder == "" && info.NumAckPending == 0 && info.NumPending == 0 {
		// Nothing waits behind what was delivered last: what comes later was stored later.
		p.quiet, p.quietAt, p.quietBy = mark{sequence: info.Delivered.Stream, at: info.TimeStamp}, time.Now(), leader(info)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owned = holder != "" && holder == p.pin && !p.closed
}

// rescue looks for messages that nobody would deliver. Where a dead owner has
// left them while nobody is pinned: the server gives a pin only together with a
// delivery, and without new messages the next one would come when the dead
// owner's time to acknowledge has run out; or never, where a new leader of the
// consumer does not know of them. Whoever gets the pin then resets once more.
// And where our own reset was lost on its way.
func (p *partition) rescue(ctx context.Context, info *jetstream.ConsumerInfo) {
	if pinned(info) != "" {
		p.handling.Lock()
		defer p.handling.Unlock()
		if info.NumAckPending > 0 && p.awaiting && p.pin == pinned(info) && p.pin != p.revoked && time.Since(p.resetAt) > resetPatience {
			p.reset("no answer to reset") //nolint:contextcheck // a reset belongs to the life of the worker
		}
		return
	}
	if info.NumAckPending == 0 && info.NumPending > 0 {
		return // a delivery comes by itself
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	oldest, left, err := p.Bus.OldestOutbox(ctx, p.Index)
	if err != nil || !left {
		return
	}
	if err := p.rewindTo(ctx, oldest); err == nil {
		p.Meters.reset(ctx, "rescue")
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

// close takes no more deliveries and begins nothing more.
func (p *partition) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		close(p.tenure.leaving)
	}
}

// stop ends the tenure.
func (p *partition) stop() {
	p.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tenure.end()
}

// leave gives the partition up: what is under way is finished, then pulling
// ends, then the pin is given back so that another replica need not wait for it
// to expire. Until calls to AXP have ended pulling goes on, although nothing is
// taken, for the pin lives by it: a new owner would look for the message, not
// find it yet, and send it a second time. Where NATS does not answer then, the pin can't
// be given back (errSilent): it expires.
func (p *partition) leave(ctx context.Context) error {
	p.close()
	if err := p.until(ctx, p.idle, func() bool { return len(p.running) == 0 }); err != nil {
		return fmt.Errorf("outbox: calls to AXP are still under way: %w", err)
	}
	if !p.Bus.Answers(ctx) {
		return errSilent
	}
	p.rest(true)
	if err := p.until(ctx, p.idle, func() bool { return !p.pulling }); err != nil {
		return fmt.Errorf("outbox: pulling has not ended yet: %w", err)
	}
	p.unpin(ctx)
	return nil
}

// reopen takes deliveries again after leave. Where that came to nothing the pin is
// still ours, and what was delivered under it and not taken has a place before what
// comes now: nothing is believed until doubt has settled whose the pin is.
func (p *partition) reopen() {
	p.handling.Lock()
	p.mu.Lock()
	p.closed = false
	p.mu.Unlock()
	p.disbelieve()
	p.handling.Unlock()
	token(p.doubts)
	p.rest(false)
}

// mine tells whether the partition was ours when the server was last asked.
func (p *partition) mine() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owned && !p.closed
}

// busy is how many sessions are worked.
func (p *partition) busy() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.running)
}

func (p *partition) rests() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resting
}

func (p *partition) pulled(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulling = on
	token(p.idle)
}

func (p *partition) rest(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting = on
	token(p.turn)
}

// until waits, with a look after every token, until cond holds; p.mu is held
// while it is asked.
func (p *partition) until(ctx context.Context, tokens chan struct{}, cond func() bool) error {
	for {
		p.mu.Lock()
		ok := cond()
		p.mu.Unlock()
		if ok {
			token(tokens) // somebody else may wait as well
			return nil
		}
		select {
		case <-tokens:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unpin gives the pin back, if it is ours.
func (p *partition) unpin(ctx context.Context) {
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
	stream, err := p.Bus.JS.Stream(ctx, bus.OutboxStream)
	if err == nil {
		err = stream.UnpinConsumer(ctx, p.Name, bus.OutboxGroup)
	}
	if err != nil {
		p.Log.Debug("pin could not be handed over; it expires", "consumer", p.Name, "error", err)
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
