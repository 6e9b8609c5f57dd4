// Package webhooks owns the subscriptions and the delivery of callbacks, with
// AXP's policy: one event a call, exactly 200 within five seconds, else the
// call is sent again after a delay. First attempts of one dialog go out in
// order; a re-sent event may come after later ones.
package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
)

// Config is how callbacks are delivered.
type Config struct {
	Timeout     time.Duration // how long a receiver may take
	RetryDelay  time.Duration // before a call is sent again
	MaxAttempts int           // then the event is given up
}

const (
	maxPending  = 10000 // events that wait for delivery; more are dropped and counted
	maxInFlight = 32
)

// Stats counts what became of events.
type Stats struct {
	Delivered int `json:"delivered"`
	Failed    int `json:"failedAttempts"`
	GivenUp   int `json:"givenUp"`
	Swallowed int `json:"swallowed"`
	Pending   int `json:"pending"`
}

// Fault is what happens to the next events.
type Fault struct {
	Kind  string        // duplicate, delay, reorder, swallow
	Count int           // how many events
	Delay time.Duration // for delay
	Type  string        // only this eventType; empty: any
}

type job struct {
	url  string
	body []byte
}

// Hooks is safe for concurrent use. Close ends what is under way.
type Hooks struct {
	cfg    Config
	log    *slog.Logger
	client *http.Client
	slots  chan struct{}

	ctx    context.Context //nolint:containedctx // the lifetime of deliveries
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu      sync.Mutex
	subs    []world.Subscription
	lanes   map[string][]job // first attempts, by subscription and dialog
	held    map[string]job   // events that a fault keeps back until the next one
	faults  []Fault
	stats   Stats
	changed func()
}

// New makes the deliverer.
func New(cfg Config, log *slog.Logger) *Hooks {
	h := &Hooks{
		cfg: cfg, log: log, slots: make(chan struct{}, maxInFlight), lanes: map[string][]job{}, held: map[string]job{}, changed: func() {},
		client: &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: maxInFlight, IdleConnTimeout: 30 * time.Second},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Close ends deliveries and waits for them.
func (h *Hooks) Close() {
	h.cancel()
	h.group.Wait()
	h.client.CloseIdleConnections()
}

// OnChange calls f, which must not block, when the subscriptions change.
func (h *Hooks) OnChange(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed = f
}

// Create adds a subscription.
func (h *Hooks) Create(s world.Subscription) world.Subscription {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.SubscriptionID = uuid.NewString()
	h.subs = append(h.subs, s)
	h.changed()
	return s
}

// List returns the subscriptions of a provider, or all of them.
func (h *Hooks) List(provider string) []world.Subscription {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []world.Subscription{}
	for _, s := range h.subs {
		if provider == "" || s.ChannelProviderID == provider {
			out = append(out, s)
		}
	}
	return out
}

// Get returns a subscription.
func (h *Hooks) Get(id string) (world.Subscription, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.index(id)
	if i < 0 {
		return world.Subscription{}, false
	}
	return h.subs[i], true
}

func (h *Hooks) index(id string) int {
	return slices.IndexFunc(h.subs, func(s world.Subscription) bool { return s.SubscriptionID == id })
}

// Replace changes the address and the types of a subscription.
func (h *Hooks) Replace(id string, in world.Subscription) (world.Subscription, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.index(id)
	if i < 0 {
		return world.Subscription{}, false
	}
	h.subs[i].CallbackURL, h.subs[i].EventTypes = in.CallbackURL, in.EventTypes
	h.changed()
	return h.subs[i], true
}

// Delete removes a subscription.
func (h *Hooks) Delete(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.index(id)
	if i < 0 {
		return false
	}
	h.subs = slices.Delete(h.subs, i, i+1)
	h.changed()
	return true
}

// Restore replaces the subscriptions by saved ones.
func (h *Hooks) Restore(subs []world.Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs = subs
}

// Stats returns the counts so far.
func (h *Hooks) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stats
}

// Inject makes the next events go wrong.
func (h *Hooks) Inject(f Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, f)
}

// Heal forgets all faults; what they keep back is delivered.
func (h *Hooks) Heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = nil
	for lane, j := range h.held {
		delete(h.held, lane)
		h.enqueue(lane, j)
	}
}

// wants tells whether a subscription's types cover an event.
func wants(types []string, e world.Event) bool {
	for _, t := range types {
		switch {
		case t == "ALL", t == e.Type:
			return true
		case t == "CUSTOMER_MESSAGES" && e.Type == "MESSAGES" && e.SenderType == world.Customer:
			return true
		case t == "CC_MESSAGES" && e.Type == "MESSAGES" && e.SenderType != world.Customer:
			return true
		}
	}
	return false
}

// Emit delivers an event to whoever subscribed to it. It does not block.
func (h *Hooks) Emit(e world.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		if s.ChannelProviderID == e.Provider && wants(s.EventTypes, e) {
			h.dispatch(s, e)
		}
	}
}

// EmitRaw delivers a body as it is to every subscription.
func (h *Hooks) EmitRaw(body []byte) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		h.enqueue(s.SubscriptionID, job{s.CallbackURL, body})
	}
	return len(h.subs)
}

// dispatch applies the faults; mu is held.
func (h *Hooks) dispatch(s world.Subscription, e world.Event) {
	body, err := json.Marshal(e.Body)
	if err != nil {
		h.log.Error("event can't be encoded", "error", err)
		return
	}
	lane, j := s.SubscriptionID+" "+e.Lane, job{s.CallbackURL, body}
	kept, have := h.held[lane]
	delete(h.held, lane)
	f := h.fault(e.Type)
	switch f.Kind {
	case "swallow":
		h.stats.Swallowed++
	case "duplicate":
		h.enqueue(lane, j)
		h.enqueue(lane+" copy", j)
	case "delay":
		h.stats.Pending++
		h.group.Go(func() { h.after(f.Delay, j, 1) })
	case "reorder":
		h.held[lane] = j
	default:
		h.enqueue(lane, j)
	}
	if have {
		h.enqueue(lane, kept)
	}
}

// fault takes the fault for the next event.
func (h *Hooks) fault(kind string) Fault {
	for i := range h.faults {
		f := &h.faults[i]
		if f.Type != "" && f.Type != kind {
			continue
		}
		out := *f
		f.Count--
		if f.Count <= 0 {
			h.faults = slices.Delete(h.faults, i, i+1)
		}
		return out
	}
	return Fault{}
}

// enqueue starts the lane's worker where it has none; mu is held.
func (h *Hooks) enqueue(lane string, j job) {
	if h.stats.Pending >= maxPending || h.ctx.Err() != nil {
		h.stats.GivenUp++
		return
	}
	h.stats.Pending++
	q, busy := h.lanes[lane]
	h.lanes[lane] = append(q, j)
	if !busy {
		h.group.Go(func() { h.work(lane) })
	}
}

// work makes first attempts of a lane, one after the other.
func (h *Hooks) work(lane string) {
	for {
		h.mu.Lock()
		q := h.lanes[lane]
		if len(q) == 0 || h.ctx.Err() != nil {
			delete(h.lanes, lane)
			h.mu.Unlock()
			return
		}
		j := q[0]
		h.lanes[lane] = q[1:]
		h.mu.Unlock()
		h.attempt(j, 1)
	}
}

// attempt makes one call; a failed one is sent again later, beside the lane.
func (h *Hooks) attempt(j job, n int) {
	ok := h.call(j)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case ok:
		h.stats.Delivered++
		h.stats.Pending--
	case n >= h.cfg.MaxAttempts || h.ctx.Err() != nil:
		h.stats.Failed++
		h.stats.GivenUp++
		h.stats.Pending--
	default:
		h.stats.Failed++
		h.group.Go(func() { h.after(h.cfg.RetryDelay, j, n+1) })
	}
}

func (h *Hooks) after(d time.Duration, j job, n int) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-h.ctx.Done():
	case <-t.C:
		h.attempt(j, n)
	}
}

func (h *Hooks) call(j job) bool {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-h.ctx.Done():
		return false
	}
	ctx, cancel := context.WithTimeout(h.ctx, h.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, j.url, bytes.NewReader(j.body))
	if err != nil {
		h.log.Warn("callback can't be made", "error", err)
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.client.Do(req)
	if err != nil {
		if target, ok := errors.AsType[*url.Error](err); ok {
			err = target.Err // without the address, whose end is a secret
		}
		h.log.Debug("callback failed", "error", err)
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	return resp.StatusCode == http.StatusOK
}
