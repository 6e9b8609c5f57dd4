package bench

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// round counts the events of one run of load. Its methods are safe for
// concurrent use.
type round struct {
	base  time.Time
	first int            // number of the first event
	sent  []atomic.Int64 // when the POST began, since base; 0: it did not
	late  []int64        // how much later than it should have; one writer each
	came  []atomic.Int32
	took  []int64 // from the POST's beginning to the frame

	arrived atomic.Int64
	last    atomic.Int64 // when the last one came, since base
	done    chan struct{}

	mu     sync.Mutex
	faults []error
	faulty int
}

func newRound(first, n int) *round {
	return &round{
		base: time.Now(), first: first, sent: make([]atomic.Int64, n), late: make([]int64, n),
		came: make([]atomic.Int32, n), took: make([]int64, n), done: make(chan struct{}),
	}
}

func (r *round) now() int64 { return int64(time.Since(r.base)) }

// posting notes that event i of the round is sent now.
func (r *round) posting(i int, late time.Duration) {
	r.late[i] = int64(late)
	r.sent[i].Store(max(r.now(), 1))
}

// arrival notes event number n at the client of a session.
func (r *round) arrival(n, session, sessions int, at time.Time) {
	i := n - r.first
	switch {
	case i < 0 || i >= len(r.came):
		r.fault(fmt.Errorf("event %d is not of this round", n))
		return
	case n%sessions != session:
		r.fault(fmt.Errorf("event %d came to session %d", n, session))
		return
	case r.came[i].Add(1) > 1:
		r.fault(fmt.Errorf("event %d came again", n))
		return
	}
	since := int64(at.Sub(r.base))
	r.took[i] = since - r.sent[i].Load()
	r.last.Store(since)
	if int(r.arrived.Add(1)) == len(r.came) {
		close(r.done)
	}
}

// fault notes what must not happen; of very many the first ones are kept.
func (r *round) fault(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.faulty++; len(r.faults) < 5 {
		r.faults = append(r.faults, err)
	}
}

// verdict is nil when every event came exactly once, in order.
func (r *round) verdict() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := errors.Join(r.faults...)
	if missing := len(r.came) - int(r.arrived.Load()); missing > 0 {
		err = errors.Join(fmt.Errorf("%d of %d events did not come", missing, len(r.came)), err)
	}
	if err != nil && r.faulty > len(r.faults) {
		err = errors.Join(err, fmt.Errorf("%d faults in all", r.faulty))
	}
	return err
}

// quantile of durations in nanoseconds, in milliseconds. It sorts a copy.
func quantile(all []int64, q float64) float64 {
	if len(all) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(all))
	return float64(s[int(q*float64(len(s)-1))]) / 1e6
}

// watcher checks one session's frames.
type watcher struct {
	session  int
	sessions int
	calls    *callbacks
	sequence uint64 // of the last event
}

// frame takes a frame that was decoded at a moment.
func (w *watcher) frame(r *round, f *axpchatv1.ConnectResponse, at time.Time) {
	ev := f.GetEvent()
	if ev == nil {
		return
	}
	n, ok := w.calls.number(ev)
	if !ok {
		r.fault(fmt.Errorf("session %d: an event that nobody has sent: %s", w.session, ev.GetEventId()))
		return
	}
	if ev.GetSequence() <= w.sequence {
		r.fault(fmt.Errorf("session %d: sequence %d after %d", w.session, ev.GetSequence(), w.sequence))
	}
	w.sequence = ev.GetSequence()
	r.arrival(n, w.session, w.sessions, at)
}
