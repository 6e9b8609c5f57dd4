package provisioning

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

const (
	firstBackoff = time.Second
	jitterPart   = 10 // an interval varies by a tenth to either side
)

// Name implements lifecycle.Component.
func (r *Reconciler) Name() string { return "webhook-subscription-" + r.account }

// ErrHandedOver is the cause of the end of Run's context where somebody else
// goes on to look after the subscription: it stays, whatever is configured.
var ErrHandedOver = errors.New("somebody else looks after the webhook subscription")

// Run checks until ctx is done: at once, then every interval, sooner after a
// failure (with back-off) and after Check. When it has ended the subscription is
// in no gauge any more.
func (r *Reconciler) Run(ctx context.Context) error {
	defer func() { _ = r.shown.Unregister() }() // it has no way to fail that matters at the end
	failures := 0
	for ctx.Err() == nil {
		err := r.Reconcile(ctx)
		wait := r.spread(r.config.Interval)
		if err != nil {
			failures++
			wait = min(wait, r.spread(r.backoff(failures)))
			if advised, ok := errors.AsType[*axp.Error](err); ok {
				wait = max(wait, advised.RetryAfter)
			}
		} else {
			failures = 0
		}
		r.pause(ctx, wait)
	}
	if r.config.DeleteOnExit && !errors.Is(context.Cause(ctx), ErrHandedOver) {
		if err := r.Remove(context.WithoutCancel(ctx)); err != nil { // the context of Run is over by now
			r.log.WarnContext(ctx, "webhook subscription could not be deleted on exit", "error", err)
		}
	}
	return nil
}

// Ready implements lifecycle.Component: the first check is over, whatever its
// result. An AXP that is down, or the wrong secret of one account, must not
// keep the service from accepting messages for it or for others; Status tells
// how things stand.
func (r *Reconciler) Ready(context.Context) error {
	select {
	case <-r.checked:
		return nil
	default:
		return errors.New("the webhook subscription has not been checked yet")
	}
}

// Drain implements lifecycle.Component. There is nothing to finish: a check
// that is cut short is made again at the next start.
func (r *Reconciler) Drain(context.Context) error { return nil }

// Remove deletes the subscription of the account, and what else has our callback
// address. It is for the end: Run, while it goes on, makes a new one. It is safe
// to repeat.
func (r *Reconciler) Remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	listed, err := r.api.ListSubscriptions(ctx, r.target.channelProviderID)
	for _, s := range listed {
		if s.ChannelProviderID != r.target.channelProviderID || s.SubscriptionID == "" || !r.target.ours(s.CallbackURL) {
			continue
		}
		if deleteErr := r.api.DeleteSubscription(ctx, s.SubscriptionID); deleteErr != nil {
			err = errors.Join(err, deleteErr)
			continue
		}
		r.changed(ctx, "deleted", s.SubscriptionID)
	}
	if err != nil {
		return fmt.Errorf("deleting the webhook subscription: %w", err)
	}
	return nil
}

// pause waits for d, for Check or for the end.
func (r *Reconciler) pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slept := make(chan struct{})
	go func() {
		defer close(slept)
		_ = r.clock.Sleep(ctx, d) // ends early only with ctx
	}()
	select {
	case <-slept:
	case <-r.wake:
		cancel()
		<-slept
	}
}

func (r *Reconciler) backoff(failures int) time.Duration {
	if failures > 16 {
		return r.config.Interval
	}
	return min(firstBackoff<<(failures-1), r.config.Interval)
}

// spread varies a duration by a tenth to either side, so that replicas and
// accounts do not check in step.
func (r *Reconciler) spread(d time.Duration) time.Duration {
	return d - d/jitterPart + time.Duration(r.jitter()*float64(2*d/jitterPart))
}

func randomJitter() float64 {
	return rand.Float64() //nolint:gosec // spreads waits, guards no secret
}
