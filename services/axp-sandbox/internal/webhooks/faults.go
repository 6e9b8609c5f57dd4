package webhooks

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
)

// Fault is what happens to events that it fits. Where neither count nor
// probability nor duration is given it happens to one.
type Fault struct {
	Kind        string  `json:"kind"`        // duplicate, delay, reorder, swallow, outage
	Count       int     `json:"count"`       // how many events; 0 beside another bound: until healed
	Probability float64 `json:"probability"` // of each event; 0: every one
	DurationMs  int     `json:"durationMs"`  // from now on; needed for outage
	DelayMs     int     `json:"delayMs"`     // for delay; for reorder the longest wait for a next event, 0: one second
	EventType   string  `json:"eventType"`   // empty: any
	SenderType  string  `json:"senderType"`  // of MESSAGES, CUSTOMER for the echo; empty: any

	until time.Time
}

// usualHold is how long reorder waits for a next event.
const usualHold = time.Second

// check also takes drop for swallow.
func (f *Fault) check() error {
	if f.Kind == "drop" {
		f.Kind = "swallow"
	}
	switch {
	case !slices.Contains([]string{"duplicate", "delay", "reorder", "swallow", "outage"}, f.Kind):
		return errors.New("kind must be duplicate, delay, reorder, swallow or outage")
	case f.Kind == "delay" && f.DelayMs == 0:
		return errors.New("delayMs must be more than 0")
	case f.Kind == "outage" && f.DurationMs == 0:
		return errors.New("durationMs must be more than 0")
	case f.Probability < 0 || f.Probability > 1:
		return errors.New("probability must be 0 to 1")
	case min(f.Count, f.DurationMs, f.DelayMs) < 0:
		return errors.New("numbers must not be negative")
	}
	return nil
}

// Inject makes events go wrong; it returns the fault as it was understood.
func (h *Hooks) Inject(f Fault) (Fault, error) {
	if err := f.check(); err != nil {
		return f, err
	}
	if f.DurationMs > 0 {
		f.until = time.Now().Add(time.Duration(f.DurationMs) * time.Millisecond)
	}
	if f.Count == 0 && f.Probability == 0 && f.DurationMs == 0 {
		f.Count = 1
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.Kind == "outage" {
		h.outage = f.until
		return f, nil
	}
	h.faults = append(h.faults, f)
	return f, nil
}

// Heal forgets all faults; what they keep back is delivered.
func (h *Hooks) Heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults, h.outage = nil, time.Time{}
	close(h.healed)
	h.healed = make(chan struct{})
	for lane, j := range h.held {
		delete(h.held, lane)
		h.queue(j)
	}
}

// Faults lists the faults that wait for events.
func (h *Hooks) Faults() []Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire()
	out := append([]Fault{}, h.faults...)
	if left := time.Until(h.outage); left > 0 {
		out = append(out, Fault{Kind: "outage", DurationMs: int(left.Milliseconds())})
	}
	return out
}

// Seed makes the faults with a probability begin anew.
func (h *Hooks) Seed(seed uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rng = rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // faults are to be repeatable, not secret
}

func (h *Hooks) expire() {
	now := time.Now()
	h.faults = slices.DeleteFunc(h.faults, func(f Fault) bool { return !f.until.IsZero() && !now.Before(f.until) })
}

// take is the fault for an event; mu is held.
func (h *Hooks) take(e world.Event) Fault {
	h.expire()
	for i := range h.faults {
		f := &h.faults[i]
		if f.EventType != "" && f.EventType != e.Type || f.SenderType != "" && f.SenderType != e.SenderType ||
			f.Probability > 0 && h.rng.Float64() >= f.Probability {
			continue
		}
		out := *f
		if f.Count == 1 {
			h.faults = slices.Delete(h.faults, i, i+1)
		} else if f.Count > 1 {
			f.Count--
		}
		return out
	}
	return Fault{}
}

// dispatch applies the faults; mu is held.
func (h *Hooks) dispatch(j *Job, e world.Event) {
	kept := h.held[j.Lane]
	delete(h.held, j.Lane)
	f := h.take(e)
	delay := time.Duration(f.DelayMs) * time.Millisecond
	switch f.Kind {
	case "swallow":
		h.stats.Swallowed++
		h.record(j, 0, 0)
		h.done(j)
	case "duplicate":
		h.queue(j)
		h.lastID++
		c := *j
		c.ID, c.Lane = h.lastID, j.Lane+" copy"
		h.jobs[c.ID] = &c
		h.queue(&c)
	case "delay":
		h.group.Go(func() { h.after(delay, j, 1) })
	case "reorder":
		if delay == 0 {
			delay = usualHold
		}
		h.held[j.Lane] = j
		h.group.Go(func() { h.release(delay, j) })
	default:
		h.queue(j)
	}
	if kept != nil {
		h.queue(kept)
	}
}

// release sends what was kept back for a next event that did not come.
func (h *Hooks) release(d time.Duration, j *Job) {
	if !h.wait(d, nil) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[j.Lane] == j {
		delete(h.held, j.Lane)
		h.queue(j)
	}
}
