package provisioning

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/internal/rotation"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

const instrumentation = "github.com/axpchat/connector/services/session-orchestrator/internal/provisioning"

// Config holds the settings of a Reconciler. A zero duration means its default.
type Config struct {
	// Interval is the time between two checks.
	Interval time.Duration `env:"WEBHOOK_CHECK_INTERVAL" default:"60s" doc:"How often the webhook subscription in AXP is checked; varied by a tenth."`
	// Timeout bounds one check with what it changes.
	Timeout time.Duration `env:"WEBHOOK_CHECK_TIMEOUT" default:"30s" doc:"Longest time that one check of the webhook subscription may take."`
	// DeleteOnExit removes the subscription at the end. Other replicas need it.
	DeleteOnExit bool `env:"WEBHOOK_DELETE_ON_EXIT" default:"false" doc:"Delete the webhook subscription on shut-down; only for a connector with one instance."`
}

func (c Config) withDefaults() Config {
	if c.Interval <= 0 {
		c.Interval = time.Minute
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	return c
}

// API is what of AXP is needed; *axp.Client has it.
type API interface {
	ListSubscriptions(ctx context.Context, channelProviderID string) ([]axp.Subscription, error)
	CreateSubscription(ctx context.Context, s axp.Subscription) (*axp.Subscription, error)
	UpdateSubscription(ctx context.Context, s axp.Subscription) (*axp.Subscription, error)
	DeleteSubscription(ctx context.Context, subscriptionID string) error
}

// Lease lets one replica at a time act for an account.
type Lease interface {
	// TryAcquire takes the lease without waiting. ok is false while another
	// replica has it. release gives it back and may be called once.
	TryAcquire(ctx context.Context) (release func(), ok bool, err error)
}

// NoLease is the Lease of a connector with one instance: it is always free.
type NoLease struct{}

// TryAcquire implements Lease.
func (NoLease) TryAcquire(context.Context) (func(), bool, error) { return func() {}, true, nil }

// Secrets is the agreement of all replicas on the key in the callback URL. Where it
// is neither of a replica's, another one looks after the subscription.
type Secrets interface {
	// Choice is the key in force, as it was a moment ago.
	Choice() rotation.Choice
	// Confirm is the key in force now.
	Confirm(ctx context.Context) (rotation.Choice, error)
}

// oneSecret is the Secrets of a connector whose secret is never replaced.
type oneSecret struct{}

func (oneSecret) Choice() rotation.Choice                          { return rotation.Current }
func (oneSecret) Confirm(context.Context) (rotation.Choice, error) { return rotation.Current, nil }

// Params is what New builds a Reconciler from. AccountID, ChannelProviderID,
// API and CallbackURL are required.
type Params struct {
	AccountID         string
	ChannelProviderID string
	API               API
	// CallbackURL is where AXP is to deliver; its last segment is the key.
	CallbackURL string
	// PreviousCallbackURL is the same with the key before the last rotation,
	// empty if there is none.
	PreviousCallbackURL string
	// Secrets says which of the two URLs is to be called; nil: the first.
	Secrets Secrets
	// EventTypes default to DefaultEventTypes.
	EventTypes []axp.EventType
	Config     Config
	// Lease defaults to NoLease.
	Lease     Lease
	Log       *slog.Logger
	Providers *telemetry.Providers
	// Clock replaces the machine's clock.
	Clock axp.Clock
	// Jitter replaces the source of randomness; it gives 0 to 1.
	Jitter func() float64
	// Missed is called when a check finds that the subscription was gone or other
	// than it should be, so that callbacks may have been missed. It must not block.
	Missed func()
}

// Status is the result of the last check.
type Status struct {
	// OK says that the subscription was as it should be after the check.
	OK bool
	// SubscriptionID is that of the subscription that serves us.
	SubscriptionID string
	// CheckedAt is when the check ended; zero before the first.
	CheckedAt time.Time
	// Err is why the check failed, nil if it did not.
	Err error
}

// errNotYet says that there is something to do, but another replica does it.
var errNotYet = errors.New("the webhook subscription is not as it should be, and another replica is to mend it")

// Reconciler keeps the subscription of one account as it should be. It is a
// lifecycle component. It is safe for concurrent use.
type Reconciler struct {
	account string
	api     API
	secrets Secrets
	target  target
	config  Config
	lease   Lease
	log     *slog.Logger
	clock   axp.Clock
	jitter  func() float64
	missed  func()
	shown   metric.Registration // of the gauge
	changes metric.Int64Counter
	label   metric.MeasurementOption
	wake    chan struct{}
	checked chan struct{} // closed after the first check

	mu     sync.Mutex
	status Status
	served string // the subscription of the last check that ended well
}

// New checks the parameters and builds a Reconciler. It makes no call.
func New(p Params) (*Reconciler, error) {
	if p.EventTypes == nil {
		p.EventTypes = DefaultEventTypes()
	}
	if p.AccountID == "" || p.ChannelProviderID == "" || p.API == nil {
		return nil, errors.New("webhook subscription: account, channel provider and API are required")
	}
	t, err := newTarget(p.ChannelProviderID, p.CallbackURL, p.PreviousCallbackURL, p.EventTypes)
	if err != nil {
		return nil, fmt.Errorf("webhook subscription of account %s: %w", p.AccountID, err)
	}
	r := &Reconciler{
		account: p.AccountID,
		api:     p.API,
		secrets: p.Secrets,
		target:  t,
		config:  p.Config.withDefaults(),
		lease:   p.Lease,
		log:     p.Log,
		clock:   p.Clock,
		jitter:  p.Jitter,
		missed:  p.Missed,
		label:   metric.WithAttributes(attribute.String("account", p.AccountID)),
		wake:    make(chan struct{}, 1),
		checked: make(chan struct{}),
	}
	if r.secrets == nil {
		r.secrets = oneSecret{}
	}
	if r.lease == nil {
		r.lease = NoLease{}
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.log = r.log.With("account", p.AccountID, "callback_url", maskKey(p.CallbackURL))
	if r.clock == nil {
		r.clock = axp.SystemClock{}
	}
	if r.jitter == nil {
		r.jitter = randomJitter
	}
	if r.missed == nil {
		r.missed = func() {}
	}
	if err := r.instruments(p.Providers); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Reconciler) instruments(p *telemetry.Providers) (err error) {
	var meters metric.MeterProvider = metricnoop.NewMeterProvider()
	if p != nil && p.Meter != nil {
		meters = p.Meter
	}
	meter := meters.Meter(instrumentation)
	gauge, err := meter.Int64ObservableGauge("axpchat_subscription_ok",
		metric.WithDescription("1 if the webhook subscription in AXP was as it should be at the last check, else 0."))
	if err != nil {
		return fmt.Errorf("metric of the subscription: %w", err)
	}
	r.shown, err = meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		switch s := r.Status(); {
		case s.OK:
			to.ObserveInt64(gauge, 1, r.label)
		case !s.CheckedAt.IsZero():
			to.ObserveInt64(gauge, 0, r.label)
		}
		return nil
	}, gauge)
	if err != nil {
		return fmt.Errorf("metric of the subscription: %w", err)
	}
	r.changes, err = meter.Int64Counter("axpchat_subscription_changes_total",
		metric.WithDescription("Changes made to webhook subscriptions in AXP, by kind."))
	if err != nil {
		return fmt.Errorf("metric of subscription changes: %w", err)
	}
	return nil
}

// Status gives the result of the last check.
func (r *Reconciler) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Check asks for a check now, for instance when callbacks fail to come. It
// does not wait for it.
func (r *Reconciler) Check() {
	select {
	case r.wake <- struct{}{}:
	default: // one is asked for already
	}
}

// Reconcile makes one check and mends what is not as it should be. Run calls
// it; others may.
func (r *Reconciler) Reconcile(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	id, err := r.reconcile(limited)
	if ctx.Err() != nil {
		return fmt.Errorf("checking the webhook subscription: %w", ctx.Err()) // says nothing about AXP
	}
	r.record(ctx, Status{OK: err == nil, SubscriptionID: id, CheckedAt: r.clock.Now(), Err: err})
	return err
}

func (r *Reconciler) reconcile(ctx context.Context) (string, error) {
	choice := r.secrets.Choice()
	if choice == rotation.Neither {
		return r.lookOn(ctx)
	}
	target := r.target
	if choice == rotation.Previous {
		target = target.swapped()
	}
	release, ok, err := r.lease.TryAcquire(ctx)
	if err != nil {
		return "", fmt.Errorf("lease of the webhook subscription: %w", err)
	}
	if ok {
		defer release()
	}
	listed, err := r.list(ctx)
	if err != nil {
		return "", err
	}
	p := target.planFor(listed)
	switch {
	case p.settled():
		return p.keep, nil
	case !ok && (p.create || p.update != nil):
		return p.keep, errNotYet
	case !ok:
		return p.keep, nil // only surplus ones are left to be deleted
	}
	// Whoever has changed anything had the lease and this key in force, or one that
	// was in force before: by the word of now, nobody moves the subscription back.
	switch now, err := r.secrets.Confirm(ctx); {
	case err != nil:
		return p.keep, err
	case now != choice:
		return p.keep, errNotYet
	default:
		return r.carryOut(ctx, target, p)
	}
}

func (r *Reconciler) list(ctx context.Context) ([]axp.Subscription, error) {
	listed, err := r.api.ListSubscriptions(ctx, r.target.channelProviderID)
	if err != nil {
		return nil, fmt.Errorf("listing webhook subscriptions: %w", err)
	}
	return listed, nil
}

// lookOn is a check of a replica that does not have the key in force: it can't
// tell the right subscription from a stale one, so it touches none.
func (r *Reconciler) lookOn(ctx context.Context) (string, error) {
	listed, err := r.list(ctx)
	if err != nil {
		return "", err
	}
	if s, ok := r.target.anyOfOurs(listed); ok {
		return s.SubscriptionID, nil
	}
	return "", errNotYet
}

// carryOut makes what is wanted, then deletes what is not.
func (r *Reconciler) carryOut(ctx context.Context, t target, p plan) (string, error) {
	switch {
	case p.create:
		made, err := r.api.CreateSubscription(ctx, *t.wanted(""))
		if err != nil {
			// Also if it may have been made after all: the next check lists first.
			return "", fmt.Errorf("creating the webhook subscription: %w", err)
		}
		p.keep = made.SubscriptionID
		r.changed(ctx, "created", p.keep)
	case p.update != nil:
		if _, err := r.api.UpdateSubscription(ctx, *p.update); err != nil {
			return p.keep, fmt.Errorf("changing the webhook subscription: %w", err)
		}
		r.changed(ctx, "changed", p.keep)
		if !p.moved { // else callbacks have come all the time, by the other key
			r.missed()
		}
	}
	var failed []error
	for _, s := range p.remove {
		if err := r.api.DeleteSubscription(ctx, s.SubscriptionID); err != nil {
			failed = append(failed, fmt.Errorf("deleting a surplus webhook subscription: %w", err))
			continue
		}
		r.changed(ctx, "deleted", s.SubscriptionID)
	}
	return p.keep, errors.Join(failed...)
}

func (r *Reconciler) changed(ctx context.Context, kind, id string) {
	r.changes.Add(ctx, 1, r.label, metric.WithAttributes(attribute.String("change", kind)))
	r.log.InfoContext(ctx, "webhook subscription changed", "change", kind, "subscription", id)
}

// record keeps a result and logs where it differs from the one before.
func (r *Reconciler) record(ctx context.Context, s Status) {
	r.mu.Lock()
	before := r.status
	r.status = s
	replaced := false
	if s.OK { // whichever replica has made the new one
		replaced = r.served != "" && r.served != s.SubscriptionID
		r.served = s.SubscriptionID
	}
	r.mu.Unlock()
	if replaced {
		r.missed()
	}
	if before.CheckedAt.IsZero() {
		close(r.checked)
	}
	switch {
	case s.OK && (!before.OK || before.SubscriptionID != s.SubscriptionID):
		r.log.InfoContext(ctx, "webhook subscription is in place", "subscription", s.SubscriptionID)
	case !s.OK && errors.Is(s.Err, errNotYet):
		r.log.DebugContext(ctx, "webhook subscription is not in place yet", "error", s.Err)
	case !s.OK:
		r.log.WarnContext(ctx, "webhook subscription could not be checked or mended", "error", s.Err)
	}
}
