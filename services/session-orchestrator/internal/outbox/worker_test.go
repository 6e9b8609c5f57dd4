package outbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
)

// upstream stands for AXP: it notes what arrives, in order, and takes its time.
type upstream struct {
	mu     sync.Mutex
	order  map[string][]string
	calls  map[string]int
	closed chan struct{} // while it is open, calls do not return
}

func newUpstream() *upstream {
	u := &upstream{order: map[string][]string{}, calls: map[string]int{}, closed: make(chan struct{})}
	close(u.closed)
	return u
}

// Work does what the Sender does about messages that somebody may have worked
// on before: it looks before it calls.
func (u *upstream) Work(ctx context.Context, it *Item) error {
	id := it.Entry.GetMessage().GetMessageId()
	if it.tenure.Suspect(it.delivery) {
		if u.has(id) {
			return nil
		}
		it.tenure.Clear(it.delivery)
	}
	if it.tenure.Over() {
		return errStopping
	}
	select {
	case <-u.gate():
	case <-ctx.Done():
		return ctx.Err()
	}
	u.mu.Lock()
	u.calls[id]++
	u.order[it.Entry.GetSessionId()] = append(u.order[it.Entry.GetSessionId()], id)
	u.mu.Unlock()
	return it.pause(ctx, time.Duration(rand.IntN(3))*time.Millisecond, nil)
}

func (u *upstream) gate() chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.closed
}

func (u *upstream) has(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls[id] > 0
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.calls)
}

// forget begins anew.
func (u *upstream) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.order)
	clear(u.calls)
}

// check compares what arrived with what was sent.
func (u *upstream) check(t *testing.T, want map[string][]string) {
	t.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, n := range u.calls {
		if n > 1 {
			t.Errorf("message %s arrived %d times", id, n)
		}
	}
	for session, ids := range want {
		if !slices.Equal(u.order[session], ids) {
			t.Errorf("session %s: got %v, want %v", session, u.order[session], ids)
		}
	}
}

// replica is a worker that can be ended in several ways.
type replica struct {
	*Worker
	bus *bus.Bus
	end func()
}

func start(t *testing.T, s *natsembed.Server, h Handler) *replica {
	t.Helper()
	return startOn(t, bustest.Connect(t, s, bustest.Config()), h)
}

// put puts a message into the outbox.
func put(t testing.TB, b *bus.Bus, session, id string) {
	t.Helper()
	_, err := b.PublishOutbox(t.Context(), &busv1.OutboxEntry{
		Account: "ABCDEF", SessionId: session, EngagementId: "e",
		Command: &busv1.OutboxEntry_Message{Message: &busv1.OutboxMessage{MessageId: id, Request: &axpchatv1.SendMessageRequest{}}},
	}, id)
	if err != nil {
		t.Error(err)
	}
}

// publish sends n messages over some sessions and returns what each must see.
func publish(t *testing.T, b *bus.Bus, sessions, n int, prefix string) map[string][]string {
	t.Helper()
	want := map[string][]string{}
	for i := range n {
		session := fmt.Sprintf("session-%d", i%sessions)
		id := fmt.Sprintf("%s-%d", prefix, i)
		want[session] = append(want[session], id)
		put(t, b, session, id)
	}
	return want
}

func join(a, b map[string][]string) map[string][]string {
	for k, v := range b {
		a[k] = append(a[k], v...)
	}
	return a
}

func TestMessagesOfASessionKeepTheirOrder(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	a := start(t, s, up)
	want := publish(t, a.bus, 7, 210, "m")
	await.Until(t, "all messages arrive", func() bool { return up.count() == 210 })
	up.check(t, want)
	await.Until(t, "the outbox is empty", func() bool { return stored(t, a.bus) == 0 })
}

func stored(t testing.TB, b *bus.Bus) uint64 {
	t.Helper()
	s, err := b.JS.Stream(t.Context(), bus.OutboxStream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func TestTakeoverAfterACrashKeepsOrderAndRepeatsNothing(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	a := start(t, s, up)
	b := start(t, s, up)
	want := publish(t, b.bus, 10, 200, "first")
	await.Until(t, "some messages arrive", func() bool { return up.count() > 60 })
	a.end() // without draining; the connection stays, as with a process that hangs
	want = join(want, publish(t, b.bus, 10, 100, "second"))
	await.Until(t, "all messages arrive", func() bool { return up.count() == 300 })
	up.check(t, want)
}

func TestTakeoverNeedsNoNewMessages(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	up.mu.Lock()
	up.closed = make(chan struct{}) // the first replica gets stuck in its calls
	up.mu.Unlock()
	a := start(t, s, up)
	want := publish(t, a.bus, 5, 50, "m")
	await.Until(t, "the first replica holds messages", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		n := 0
		for _, p := range a.partitions {
			p.mu.Lock()
			n += len(p.held)
			p.mu.Unlock()
		}
		return n == 50
	})
	a.end()
	up.mu.Lock()
	close(up.closed)
	up.mu.Unlock()
	start(t, s, up)
	began := time.Now()
	await.Until(t, "all messages arrive", func() bool { return up.count() == 50 })
	up.check(t, want)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("take-over took %v: it must not wait for the time to acknowledge", took)
	}
}

func TestDrainHandsOverAtOnce(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	a := start(t, s, up)
	b := start(t, s, up)
	want := publish(t, b.bus, 10, 100, "first")
	await.Until(t, "some messages arrive", func() bool { return up.count() > 30 })
	if err := a.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	want = join(want, publish(t, b.bus, 10, 100, "second"))
	await.Until(t, "all messages arrive", func() bool { return up.count() == 200 })
	up.check(t, want)
}

func TestAPauseOfTheProcessIsNoticed(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	a := start(t, s, up)
	want := publish(t, a.bus, 10, 150, "m")
	await.Until(t, "some messages arrive", func() bool { return up.count() > 30 })
	a.lastBeat.Store(int64(time.Since(a.started) - 2*longestPause)) // as after SIGSTOP and SIGCONT
	await.Until(t, "all messages arrive", func() bool { return up.count() == 150 })
	up.check(t, want)
}

func TestAReconnectLosesNothing(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	a := start(t, s, up)
	feeder := bustest.Connect(t, s, bustest.Config())
	want := publish(t, feeder, 10, 100, "first")
	await.Until(t, "some messages arrive", func() bool { return up.count() > 20 })
	if err := a.bus.NC.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	want = join(want, publish(t, feeder, 10, 100, "second"))
	await.Until(t, "all messages arrive", func() bool { return up.count() == 200 })
	up.check(t, want)
}
