package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

const (
	// silence is three heartbeats and a little: after so long without a sign of
	// life a connection is dead, as Welcome tells clients.
	silence = 10 * time.Second
	// readBuffer keeps the system from reading much on behalf of a client that does
	// not. It is above the loopback's packets of 64 KiB: below, TCP crawls.
	readBuffer = 32 << 10
)

// client is a customer with an app: it follows its session over whatever
// transport it has at the moment, keeps the rules that clients are told, and
// notes what it sees. It is safe for concurrent use.
type client struct {
	id      int
	name    string
	token   string
	session string
	chat    string // engagement
	dialog  string // AXP's
	stage   *stage
	web     *http.Client
	rng     *rand.Rand // of follow's goroutine

	busy sync.Mutex // held by a fault that changes how the customer behaves

	mu        sync.Mutex
	transport transport
	pod       int
	present   chan struct{} // closed while the customer has the app open
	reading   chan struct{} // closed while the app reads
	since     time.Time     // when it last opened, or began to read again
	attached  *attachment
	changed   chan struct{} // closed and replaced when attached changes

	cursor   string
	last     uint64
	events   map[string]bool // ids
	keys     map[string]bool // callbacks
	messages map[string]bool // AXP's message ids
	index    int64
	checked  int // how many accepted callbacks are known to be there
	active   bool

	saying   string      // the message that is not accepted yet
	sent     []*outgoing // that the connector has accepted, in order
	byID     map[string]*outgoing
	tally    tally
	refusals map[string]int
}

// tally counts what a client has seen.
type tally struct {
	Delivered, Repeated, OutOfOrder, Dropped, BackFilled, IndexOrder, Resets int
	Streams, Breaks, Moves, Slow                                             int
	Pause, Accept                                                            time.Duration // longest
}

// add adds up; the longest counts of the longest.
func (t *tally) add(o tally) {
	t.Delivered += o.Delivered
	t.Repeated += o.Repeated
	t.OutOfOrder += o.OutOfOrder
	t.Dropped += o.Dropped
	t.BackFilled += o.BackFilled
	t.IndexOrder += o.IndexOrder
	t.Resets += o.Resets
	t.Streams += o.Streams
	t.Breaks += o.Breaks
	t.Moves += o.Moves
	t.Slow += o.Slow
	t.Pause, t.Accept = max(t.Pause, o.Pause), max(t.Accept, o.Accept)
}

func newClient(id int, s *stage, seed uint64) *client {
	open := make(chan struct{})
	close(open)
	c := &client{
		id: id, name: fmt.Sprintf("Customer %d", id), stage: s, transport: transport(id % int(transports)), pod: id / int(transports) % pods,
		rng:     rand.New(rand.NewPCG(seed, uint64(id))), //nolint:gosec // to be repeatable
		present: open, reading: open, changed: make(chan struct{}),
		events: map[string]bool{}, keys: map[string]bool{}, messages: map[string]bool{},
		byID: map[string]*outgoing{}, refusals: map[string]int{},
	}
	c.web = &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 2}}
	return c
}

// dial connects as a client that has little memory.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, network, addr)
	if t, ok := conn.(*net.TCPConn); ok && err == nil {
		_ = t.SetReadBuffer(readBuffer) // best effort
	}
	return conn, err
}

// note tells whoever waits that something has changed; mu is held.
func (c *client) note() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// attachment is one stream, or one row of polls, of a client.
type attachment struct {
	client   *client
	cancel   context.CancelFunc
	done     <-chan struct{}
	watchdog *time.Timer
	last     uint64
	moveOn   *time.Timer
	wait     time.Duration // before the next one, as the server asks
	send     func(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.Message, error)

	mu      sync.Mutex
	frames  int
	replies map[string]chan *axpchatv1.Reply
}

// follow keeps the client attached until ctx ends.
func (c *client) follow(ctx context.Context) {
	defer c.web.CloseIdleConnections()
	for ctx.Err() == nil {
		c.mu.Lock()
		present := c.present
		c.mu.Unlock()
		select {
		case <-present:
		case <-ctx.Done():
			return
		}
		wait := c.attach(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// attach follows the session until the stream ends, and returns how long to
// wait before the next one.
func (c *client) attach(ctx context.Context) time.Duration {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &attachment{client: c, cancel: cancel, done: ctx.Done(), replies: map[string]chan *axpchatv1.Reply{}}
	a.watchdog = time.AfterFunc(silence, cancel)
	defer a.watchdog.Stop()
	c.mu.Lock()
	select {
	case <-c.present:
	default: // it has left again meanwhile
		c.mu.Unlock()
		return 0
	}
	c.attached = a
	c.tally.Streams++
	how, pod, cursor := c.transport, c.pod, c.cursor
	c.mu.Unlock()
	err := how.follow(ctx, a, pod, cursor)
	c.web.CloseIdleConnections()
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.moveOn != nil {
		a.moveOn.Stop()
	}
	c.attached = nil
	c.note()
	if c.pod == pod {
		c.pod = (pod + 1) % pods // whatever happened, the other one may be better
	}
	if err != nil {
		c.tally.Breaks++
	}
	return max(a.wait, time.Duration(50+c.rng.IntN(200))*time.Millisecond)
}

// alive notes a sign of life of the server.
func (a *attachment) alive() { a.watchdog.Reset(silence) }

// ready makes the way to send known.
func (a *attachment) ready(send func(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.Message, error)) {
	a.client.mu.Lock()
	defer a.client.mu.Unlock()
	a.send = send
	a.client.note()
}

// take handles one frame. It blocks while the app does not read.
func (a *attachment) take(ctx context.Context, f *axpchatv1.ConnectResponse) {
	c := a.client
	c.mu.Lock()
	reading := c.reading
	c.mu.Unlock()
	select {
	case <-reading:
	default:
		a.watchdog.Stop()
		select {
		case <-reading:
		case <-ctx.Done():
			return
		}
	}
	a.alive()
	switch p := f.GetPayload().(type) {
	case *axpchatv1.ConnectResponse_Event:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.event(a, p.Event)
	case *axpchatv1.ConnectResponse_Reset_:
		c.mu.Lock()
		defer c.mu.Unlock()
		a.last = 0
		c.reset(p.Reset_)
	case *axpchatv1.ConnectResponse_Reply:
		a.mu.Lock()
		defer a.mu.Unlock()
		if to := a.replies[p.Reply.GetFrameId()]; to != nil {
			to <- p.Reply // has room for one
			delete(a.replies, p.Reply.GetFrameId())
		}
	case *axpchatv1.ConnectResponse_GoAway:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tally.Moves++
		if a.moveOn == nil {
			a.moveOn = time.AfterFunc(time.Duration(p.GoAway.GetRetryAfterMs())*time.Millisecond, a.cancel)
		}
	case *axpchatv1.ConnectResponse_Close:
		c.mu.Lock()
		defer c.mu.Unlock()
		a.wait = time.Duration(p.Close.GetRetryAfterMs()) * time.Millisecond
		if p.Close.GetCode() == axpchatv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER {
			c.tally.Slow++
		}
		if !p.Close.GetReconnect() {
			c.refusals["stream: "+p.Close.GetCode().String()]++
		}
	}
}

// reset forgets what is on the screen; mu is held.
func (c *client) reset(r *axpchatv1.Reset) {
	c.tally.Resets++
	c.refusals[fmt.Sprintf("reset, %s, of cursor %s at sequence %d", r.GetReason(), c.cursor, c.last)]++
	c.cursor, c.last, c.index, c.checked = r.GetCursor(), 0, 0, 0
	c.events, c.keys, c.messages = map[string]bool{}, map[string]bool{}, map[string]bool{}
}

// event takes an event after the rule of the API; mu is held.
func (c *client) event(a *attachment, e *axpchatv1.Event) {
	// On one stream nothing may go back, not even what the rule would drop.
	if e.GetSequence() <= a.last {
		c.tally.OutOfOrder++
	}
	a.last = max(a.last, e.GetSequence())
	if e.GetSequence() <= c.last {
		c.tally.Dropped++
		if !c.events[e.GetEventId()] {
			c.tally.OutOfOrder++ // it is new, and comes too late to be shown
		}
		return
	}
	c.last, c.cursor = e.GetSequence(), e.GetCursor()
	c.tally.Delivered++
	key := keyOf(e)
	if c.events[e.GetEventId()] || key != "" && c.keys[key] {
		c.tally.Repeated++
	}
	c.events[e.GetEventId()] = true
	if key != "" {
		c.keys[key] = true
		happened := e.GetEventTime().AsTime()
		if happened.Before(c.since) {
			happened = c.since
		}
		c.tally.Pause = max(c.tally.Pause, time.Since(happened))
	}
	if e.GetBackfilled() {
		c.tally.BackFilled++
	}
	c.message(e)
}

// message follows what an event tells of messages; mu is held.
func (c *client) message(e *axpchatv1.Event) {
	var m *axpchatv1.Message
	switch p := e.GetPayload().(type) {
	case *axpchatv1.Event_EngagementActive:
		c.active = true
	case *axpchatv1.Event_MessageArrived:
		m = p.MessageArrived
	case *axpchatv1.Event_MessageDelivered:
		m = p.MessageDelivered
		c.told(m.GetMessageId(), axpchatv1.MessageStatus_MESSAGE_STATUS_DELIVERED)
	case *axpchatv1.Event_MessageStatusChanged:
		c.told(p.MessageStatusChanged.GetMessageId(), p.MessageStatusChanged.GetStatus())
	}
	if m == nil {
		return
	}
	c.messages[m.GetAxpMessageId()] = true
	if m.MessageIndex != nil {
		if m.GetMessageIndex() < c.index {
			c.tally.IndexOrder++
		}
		c.index = max(c.index, m.GetMessageIndex())
	}
}

// vanish closes the app without a word and opens it again after d, on another
// transport and another pod.
func (c *client) vanish(ctx context.Context, d time.Duration, step transport) {
	c.mu.Lock()
	back := make(chan struct{})
	c.present = back
	if c.attached != nil {
		c.attached.cancel()
	}
	c.mu.Unlock()
	pause(ctx, d)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.transport, c.pod, c.since = (c.transport+step)%transports, (c.pod+1)%pods, time.Now()
	close(back)
}

// home goes to the pod that the client began at, where it has been driven away;
// true once it is attached there.
func (c *client) home() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	want := c.id / int(transports) % pods
	if c.pod == want {
		return c.attached != nil && c.attached.send != nil
	}
	c.pod = want
	if c.attached != nil {
		c.attached.cancel()
	}
	return false
}

// read stops, or goes on, reading.
func (c *client) read(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.reading:
		if !on {
			c.reading = make(chan struct{})
		}
	default:
		if on {
			c.since = time.Now()
			close(c.reading)
		}
	}
}

// leave closes the app until stay; for looking at services nobody uses.
func (c *client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.present = make(chan struct{})
	if c.attached != nil {
		c.attached.cancel()
	}
}

func (c *client) comeBack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Now()
	close(c.present)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
