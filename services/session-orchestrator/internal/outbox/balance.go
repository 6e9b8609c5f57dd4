package outbox

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
)

// pace is how often a worker does what it does by the clock.
type pace struct {
	// balance is the time between two looks at how the partitions are shared.
	balance time.Duration
	// rest is how long a replica leaves a partition that it has handed over to
	// the others. They are waiting for it already.
	rest time.Duration
}

func defaultPace() pace { return pace{balance: 5 * time.Second, rest: 3 * time.Second} }

// balance hands partitions over while this replica has more than its share:
// NATS pins the first who asks, and so the replica that started first would
// have them all.
func (w *Worker) balance(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	tick := time.NewTicker(w.pace.balance)
	defer tick.Stop()
	for {
		err := w.members.announce(ctx)
		if err == nil {
			err = w.members.look(ctx)
		}
		if err != nil && ctx.Err() == nil {
			w.log.DebugContext(ctx, "replicas of the outbox", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-w.stopping:
			return
		case <-tick.C:
		}
		for _, p := range w.excess() {
			group.Go(func() { w.handOver(ctx, p) })
		}
	}
}

// Present is this replica's name and the names of all that work the outbox,
// sorted, as of a few seconds ago. It serves to share other work in the same way.
func (w *Worker) Present() (self string, all []string) { return w.members.id, w.members.present() }

// excess are the partitions beyond this replica's share, those with the least
// under way.
func (w *Worker) excess() []*partition {
	all, n := w.all(), len(w.members.present())
	share := (len(all) + n - 1) / n
	type load struct {
		p *partition
		n int
	}
	var mine []load
	for _, p := range all {
		if p.mine() {
			mine = append(mine, load{p, p.busy()})
		}
	}
	slices.SortStableFunc(mine, func(a, b load) int { return a.n - b.n })
	var out []*partition
	for _, l := range mine[:max(len(mine)-share, 0)] {
		out = append(out, l.p)
	}
	return out
}

// handOver gives a partition to whoever waits for it, and stays away from it
// for a moment. Where nobody waits, as after a replica has died that still
// counts, it is kept.
func (w *Worker) handOver(ctx context.Context, p *partition) {
	if info, err := p.info(ctx); err != nil || info.NumWaiting < 2 { // ours and another's
		return
	}
	limited, cancel := context.WithTimeout(ctx, patience.Leftover)
	defer cancel()
	err := p.leave(limited)
	if err == nil {
		w.meters.handedOver(ctx)
		if info, infoErr := p.info(ctx); infoErr == nil && info.NumWaiting > 0 {
			err = pause(ctx, w.pace.rest)
		}
	}
	if err != nil {
		w.log.DebugContext(ctx, "a partition of the outbox was not handed over", "consumer", p.Name, "error", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.draining && ctx.Err() == nil {
		p.reopen()
	}
}
