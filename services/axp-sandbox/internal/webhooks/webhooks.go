// Package webhooks owns the subscriptions and the delivery of callbacks, with
// AXP's policy: one event a call, exactly 200 within five seconds, else the
// call is sent again after a delay. First attempts of one dialog go out in
// order; a re-sent event may come after later ones. What is not delivered when
// the sandbox ends can be saved and goes out after the next start, so an event
// may come twice, but is not lost.
package webhooks

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"net/http"
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
	Seed        uint64        // of faults with a probability
}

const (
	maxSubscriptions = 100
	maxPending       = 10_000 // events that wait for delivery; more are given up
	maxInFlight      = 32
	maxAttempts      = 10_000 // that are remembered
)

// Stats counts what became of events.
type Stats struct {
	Delivered int `json:"delivered"`
	Failed    int `json:"failedAttempts"`
	GivenUp   int `json:"givenUp"`
	Swallowed int `json:"swallowed"`
	Pending   int `json:"pending"`
}

// Job is an event on its way to one subscription.
type Job struct {
	ID             uint64          `json:"id"`
	SubscriptionID string          `json:"subscriptionId"`
	Lane           string          `json:"lane"` // of first attempts: one after the other
	Body           json.RawMessage `json:"body"`

	eventType, dialogID, messageID string
}

// Attempt is one call that was made, or the event that a fault swallowed.
type Attempt struct {
	Time           time.Time `json:"time"`
	SubscriptionID string    `json:"subscriptionId"`
	EventType      string    `json:"eventType"`
	DialogID       string    `json:"dialogId,omitempty"`
	MessageID      string    `json:"messageId,omitempty"`
	Attempt        int       `json:"attempt"` // from 1; 0: it was swallowed
	Status         int       `json:"status"`  // 0: no answer in time
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

	mu       sync.Mutex
	subs     []world.Subscription
	lastID   uint64
	jobs     map[uint64]*Job   // neither delivered nor given up
	lanes    map[string][]*Job // that wait for their first attempt
	held     map[string]*Job   // that a fault keeps back until the next one of the lane
	faults   []Fault
	rng      *rand.Rand
	outage   time.Time     // until when nothing is sent
	healed   chan struct{} // closed when an outage is called off
	attempts []Attempt
	stats    Stats
	changed  func()
}

// New makes the deliverer.
func New(cfg Config, log *slog.Logger) *Hooks {
	h := &Hooks{
		cfg: cfg, log: log, slots: make(chan struct{}, maxInFlight), jobs: map[uint64]*Job{}, lanes: map[string][]*Job{}, held: map[string]*Job{},
		healed: make(chan struct{}), changed: func() {},
		client: &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: maxInFlight, IdleConnTimeout: 30 * time.Second},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.Seed(cfg.Seed)
	return h
}

// Close ends deliveries and waits for them; what is not delivered stays in
// Pending.
func (h *Hooks) Close() {
	h.cancel()
	h.group.Wait()
	h.client.CloseIdleConnections()
}

// OnChange calls f, which must not block, when subscriptions or what waits for delivery change.
func (h *Hooks) OnChange(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed = f
}

// Create adds a subscription; it refuses where there are too many.
func (h *Hooks) Create(s world.Subscription) (world.Subscription, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subs) >= maxSubscriptions {
		return s, false
	}
	s.SubscriptionID = uuid.NewString()
	h.subs = append(h.subs, s)
	h.changed()
	return s, true
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

// Delete removes a subscription; what waits for delivery to it is given up.
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

// Restore replaces the subscriptions by saved ones and sends what was pending.
func (h *Hooks) Restore(subs []world.Subscription, pending []Job) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs = subs
	for _, j := range pending {
		h.lastID = max(h.lastID, j.ID)
		h.jobs[j.ID] = &j
		j.describe()
		h.queue(&j)
	}
}

// Pending lists what is neither delivered nor given up, oldest first.
func (h *Hooks) Pending() []Job {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Job, 0, len(h.jobs))
	for _, j := range h.jobs {
		out = append(out, *j)
	}
	slices.SortFunc(out, func(a, b Job) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Stats returns the counts so far.
func (h *Hooks) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.stats
	out.Pending = len(h.jobs)
	return out
}

// Attempts lists the calls that were made, oldest first.
func (h *Hooks) Attempts() []Attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Attempt{}, h.attempts...)
}

// Forget forgets the attempts and counts so far.
func (h *Hooks) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts, h.stats = nil, Stats{}
}
