package delivery

import (
	"context"
	"hash/maphash"
	"runtime"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/axpchat/connector/services/internal/kit/bus"
)

// laneBuffer is how many live events may wait for being decoded, of all the
// sessions of a lane. What does not fit is dropped by the NATS client and read
// from the journal: that is dearer than an event, and cheaper than memory
// without bound.
const laneBuffer = 2048

// lane takes the live events of many feeds from one channel and decodes them, in
// their order, each once. A pod has one for each of its processors. A channel
// and a goroutine for each feed would cost every idle session 3 KiB, and every
// event a goroutine that must be woken.
type lane struct {
	engine *Engine
	live   chan *nats.Msg

	mu    sync.RWMutex
	feeds map[string]*feed // by the subject of their live events
}

// lanes are the lanes of a pod.
type lanes struct {
	seed maphash.Seed
	all  []*lane
}

func newLanes(e *Engine) lanes {
	l := lanes{seed: maphash.MakeSeed()}
	for range runtime.GOMAXPROCS(0) {
		l.all = append(l.all, &lane{engine: e, live: make(chan *nats.Msg, laneBuffer), feeds: map[string]*feed{}})
	}
	return l
}

// of is the lane of a subject: the same for all its feeds, one after the other.
func (l lanes) of(subject string) *lane {
	return l.all[maphash.String(l.seed, subject)%uint64(len(l.all))]
}

// run hands on live events until ctx is done.
func (l *lane) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-l.live:
			l.handOn(ctx, m)
		}
	}
}

func (l *lane) handOn(ctx context.Context, m *nats.Msg) {
	// The next event of the session, or the look at the tail, finds that this one is
	// missing; whoever then reads it from the journal has only itself to end.
	defer func() { _ = l.engine.panics.Note(ctx, "live event", recover()) }()
	l.mu.RLock()
	f := l.feeds[m.Subject]
	l.mu.RUnlock()
	if f == nil {
		return // the last of its clients has left
	}
	stored, err := bus.DecodeLive(m)
	if err != nil {
		// The regular look at the tail will find that it is missing.
		l.engine.log.ErrorContext(ctx, "live event can't be read", "error", err)
		return
	}
	f.offer(l.engine.item(stored, f.epoch, f.key))
}

func (l *lane) add(subject string, f *feed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.feeds[subject] = f
}

// remove forgets a feed, unless the session has a new one already.
func (l *lane) remove(subject string, f *feed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.feeds[subject] == f {
		delete(l.feeds, subject)
	}
}
