package orchestrator

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/backfill"
	"github.com/axpchat/connector/services/session-orchestrator/internal/provisioning"
)

const (
	// leaseTime is the least time that a replica has for a check and what it mends.
	// It bounds how long a crash in the middle keeps the others from mending
	// anything.
	leaseTime = time.Minute
	// startPatience is how long the start waits for the first check. Callbacks
	// before it are missed; but an AXP that is down must not keep the service
	// from accepting messages.
	startPatience = 10 * time.Second
)

// webhooks keeps the webhook subscription of every account. It is a component.
type webhooks struct {
	reconcilers []*provisioning.Reconciler
	accounts    *accounts.Registry
	log         *slog.Logger
	patient     chan struct{} // closed when the start waits no longer
}

func newWebhooks(p Params, ring *keyring.Keyring, all *accounts.Registry, fill *backfill.Filler) (*webhooks, error) {
	w := &webhooks{accounts: all, log: p.Log, patient: make(chan struct{})}
	for _, c := range all.Clients() {
		callback, err := ring.CallbackURL(p.Config.WebhookPublicURL, c.AccountID())
		if err != nil {
			return nil, err
		}
		previous := ""
		if key, has := ring.PreviousCallbackKey(c.AccountID()); has {
			previous = callback[:strings.LastIndexByte(callback, '/')+1] + key
		}
		r, err := provisioning.New(provisioning.Params{
			AccountID: c.AccountID(), ChannelProviderID: c.ChannelProviderID(), API: c,
			CallbackURL: callback, PreviousCallbackURL: previous, Config: p.Config.Webhook,
			Lease: lease{bus: p.Bus, key: "lease.webhook." + c.AccountID(), ttl: max(leaseTime, 2*p.Config.Webhook.Timeout)}, Log: p.Log, Providers: p.Providers,
			Missed: func() { fill.SubscriptionWasGone(c.AccountID()) },
		})
		if err != nil {
			return nil, err
		}
		w.reconcilers = append(w.reconcilers, r)
	}
	return w, nil
}

// Name implements lifecycle.Component.
func (w *webhooks) Name() string { return "webhooks" }

// Run keeps the subscriptions until ctx ends.
func (w *webhooks) Run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { w.accounts.CheckCredentials(ctx, w.log) })
	group.Go(func() {
		t := time.NewTimer(startPatience)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		close(w.patient)
	})
	for _, r := range w.reconcilers {
		group.Go(func() {
			if err := r.Run(ctx); err != nil {
				w.log.ErrorContext(ctx, "webhook subscription is not looked after any more", "error", err)
			}
		})
	}
	group.Wait()
	return nil
}

// Ready tells whether the subscriptions were looked at once, or nobody should
// wait for that any longer. How they are is a metric.
func (w *webhooks) Ready(ctx context.Context) error {
	select {
	case <-w.patient:
		return nil
	default:
	}
	for _, r := range w.reconcilers {
		if err := r.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Drain implements lifecycle.Component.
func (w *webhooks) Drain(context.Context) error { return nil }

// lease is a key that one replica at a time can create.
type lease struct {
	bus *bus.Bus
	key string
	ttl time.Duration // longer than one check may take, or two replicas could create
}

// TryAcquire implements provisioning.Lease.
func (l lease) TryAcquire(ctx context.Context) (release func(), ok bool, err error) {
	rev, err := l.bus.Index.Create(ctx, l.key, &busv1.IndexRecord{}, l.ttl)
	if errors.Is(err, bus.ErrExists) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		// The revision keeps a slow replica from giving back another's lease. What
		// is not given back expires.
		_ = l.bus.Index.Delete(ctx, l.key, rev)
	}, true, nil
}
