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
	"github.com/axpchat/connector/services/internal/rotation"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/backfill"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
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
	// farewells is how often the subscription of an account that has left is tried
	// to be deleted, with growing pauses: some minutes.
	farewells   = 12
	farewellMin = time.Second
	farewellMax = 30 * time.Second
)

// webhooks keeps the webhook subscription of every account, and deletes those of
// accounts that have left. It is a component.
type webhooks struct {
	params    Params
	ring      *keyring.Keyring
	agreement *rotation.Agreement
	accounts  *accounts.Registry
	fill      *backfill.Filler
	roll      roll
	log       *slog.Logger
	patient   chan struct{} // closed when the start waits no longer
	first     []*keeper     // of the accounts at the start
}

// keeper looks after the subscription of one account.
type keeper struct {
	served accounts.Served
	*provisioning.Reconciler

	end context.CancelCauseFunc // nil before it runs
}

func newWebhooks(p Params, ring *keyring.Keyring, b *parts) (*webhooks, error) {
	w := &webhooks{params: p, ring: ring, agreement: b.agreement, accounts: b.accounts, fill: b.backfill, roll: roll{p.Bus, p.Log}, log: p.Log, patient: make(chan struct{})}
	for _, s := range b.accounts.All() {
		k, err := w.keeper(s)
		if err != nil {
			return nil, err
		}
		w.first = append(w.first, k)
	}
	return w, nil
}

// keeper makes the keeper of an account.
func (w *webhooks) keeper(s accounts.Served) (*keeper, error) {
	account, cfg := s.Account.AccountID, w.params.Config
	callback, err := w.ring.CallbackURL(cfg.WebhookPublicURL, account)
	if err != nil {
		return nil, err
	}
	previous := ""
	if key, has := w.ring.PreviousCallbackKey(account); has {
		previous = callback[:strings.LastIndexByte(callback, '/')+1] + key
	}
	r, err := provisioning.New(provisioning.Params{
		AccountID: account, ChannelProviderID: s.Account.ChannelProviderID, API: s.Client,
		CallbackURL: callback, PreviousCallbackURL: previous, Config: cfg.Webhook,
		Lease: lease{bus: w.params.Bus, key: "lease.webhook." + account, ttl: max(leaseTime, 2*cfg.Webhook.Timeout)}, Log: w.log, Providers: w.params.Providers,
		Secrets: w.agreement,
		Missed:  func() { w.fill.SubscriptionWasGone(account) },
	})
	if err != nil {
		return nil, err
	}
	return &keeper{served: s, Reconciler: r}, nil
}

// Name implements lifecycle.Component.
func (w *webhooks) Name() string { return "webhooks" }

// Run keeps the subscriptions until ctx ends.
func (w *webhooks) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { w.accounts.CheckCredentials(ctx, w.log) })
	group.Go(func() {
		w.roll.call(ctx, w.accounts.All())
		w.roll.keep(ctx, w.accounts.All)
	})
	group.Go(func() {
		t := time.NewTimer(startPatience)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		close(w.patient)
	})
	keepers := map[*axp.Client]*keeper{}
	for _, k := range w.first {
		keepers[k.served.Client] = k
	}
	for {
		w.sync(ctx, &group, keepers)
		select {
		case <-ctx.Done():
			return nil
		case <-w.accounts.Changed():
		}
	}
}

// sync has a keeper run for each client, and those end whose client has gone.
func (w *webhooks) sync(ctx context.Context, group *sync.WaitGroup, keepers map[*axp.Client]*keeper) {
	wanted := map[*axp.Client]bool{}
	for _, s := range w.accounts.All() {
		wanted[s.Client] = true
		k := keepers[s.Client]
		if k == nil {
			var err error
			if k, err = w.keeper(s); err != nil {
				w.log.ErrorContext(ctx, "nobody looks after the webhook subscription of an account", "account", s.Account.AccountID, "error", err)
				continue
			}
			keepers[s.Client] = k
		}
		if k.end == nil {
			w.start(ctx, group, k)
		}
	}
	for client, k := range keepers {
		if !wanted[client] {
			if k.end == nil { // it went before it was ever looked after
				w.start(ctx, group, k)
			}
			k.end(provisioning.ErrHandedOver)
			delete(keepers, client)
		}
	}
}

// start runs a keeper until its client has gone, or all ends.
func (w *webhooks) start(ctx context.Context, group *sync.WaitGroup, k *keeper) {
	life, end := context.WithCancelCause(ctx)
	k.end = end
	group.Go(func() {
		defer end(nil)
		w.roll.note(ctx, k.served.Account.AccountID)
		if err := k.Run(life); err != nil {
			w.log.ErrorContext(ctx, "webhook subscription is not looked after any more", "error", err)
		}
		if ctx.Err() == nil {
			w.farewell(ctx, k)
		}
	})
}

// farewell deletes the subscription of an account that is not served any more,
// unless another client of the same goes on with it.
func (w *webhooks) farewell(ctx context.Context, k *keeper) {
	defer w.accounts.Release(k.served.Client)
	log := w.log.With("account", k.served.Account.AccountID)
	for n := 1; !w.accounts.Kept(k.served); n++ {
		err := k.Remove(ctx)
		if err == nil {
			w.roll.forget(ctx, k.served.Account.AccountID)
		}
		if err == nil || ctx.Err() != nil {
			return
		}
		if n == farewells {
			log.ErrorContext(ctx, "the webhook subscription of an account that has left could not be deleted; delete it in AXP", "error", err)
			return
		}
		if patience.Pause(ctx, patience.Backoff(n, farewellMin, farewellMax, 0), nil) != nil {
			return
		}
	}
}

// Ready tells whether the subscriptions were looked at once, or nobody should
// wait for that any longer. How they are is a metric. Accounts that come later
// keep nobody waiting.
func (w *webhooks) Ready(ctx context.Context) error {
	select {
	case <-w.patient:
		return nil
	default:
	}
	for _, k := range w.first {
		if err := k.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Degraded implements lifecycle.Degradable: the accounts whose credentials AXP
// refuses, or for which it gives no token. Their messages are taken and held, and
// those of the others go their way, so the replica is ready all the same.
func (w *webhooks) Degraded() map[string]error {
	var out map[string]error
	for _, s := range w.accounts.All() {
		if err := s.Client.CredentialsStatus(); err != nil {
			if out == nil {
				out = map[string]error{}
			}
			out[s.Account.AccountID] = err
		}
	}
	return out
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
