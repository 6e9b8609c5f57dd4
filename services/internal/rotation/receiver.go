package rotation

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/axpchat/connector/services/internal/kit/bus"
)

// Receiver takes part in the agreement for one that takes callbacks. It is safe
// for concurrent use.
type Receiver struct {
	p      Params
	id     string
	behind atomic.Bool
}

// NewReceiver makes a receiver and reports its secrets, so that from the first
// callback on it counts as there.
func NewReceiver(ctx context.Context, p Params) *Receiver {
	r := &Receiver{p: p, id: uuid.NewString()}
	r.look(ctx)
	return r
}

// Behind tells whether a secret is in force that this replica does not have. Then
// a key or a proof that it does not know may be right, and AXP is to call again,
// for another replica knows it.
func (r *Receiver) Behind() bool { return r.behind.Load() }

// Run takes part until ctx ends.
func (r *Receiver) Run(ctx context.Context) {
	tick := time.NewTicker(r.p.Config.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			tell(ctx, r.p, r.id, true, true)
			return
		case <-tick.C:
			r.look(ctx)
		}
	}
}

func (r *Receiver) look(ctx context.Context) {
	tell(ctx, r.p, r.id, true, false)
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	agreed, _, err := r.p.Bus.Secrets.Get(ctx, bus.SecretsKey)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		r.behind.Store(false)
	case err != nil:
		r.p.Log.DebugContext(ctx, "which WEBHOOK_SECRET is in force can't be looked up", "error", err)
	default:
		behind := !r.p.own().honours(agreed.GetCurrent())
		if behind != r.behind.Swap(behind) && behind {
			r.p.Log.ErrorContext(ctx, "a WEBHOOK_SECRET is in force that this replica does not have; AXP's callbacks are answered 503 until it has")
		}
	}
}
