package orchestrator

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
)

const (
	// servedPrefix begins the keys in INDEX that name the accounts of which AXP has a
	// webhook subscription of ours.
	servedPrefix = "served"
	// noteTime bounds what is done with one of them: nothing waits for it for long.
	noteTime = 5 * time.Second
	// noteEvery is how often they are written anew: INDEX forgets what is older than
	// STATE_RETENTION.
	noteEvery = time.Hour
)

// roll remembers which accounts were served, over restarts. An account that is taken
// off the list by a restart leaves its webhook subscription behind: without its
// credentials nobody here can delete it. All that can be done is to say so.
type roll struct {
	bus *bus.Bus
	log *slog.Logger
}

// note remembers that an account is served.
func (r roll) note(ctx context.Context, account string) {
	ctx, cancel := context.WithTimeout(ctx, noteTime)
	defer cancel()
	key := servedPrefix + "." + account
	_, rev, err := r.bus.Index.Get(ctx, key)
	switch {
	case err == nil:
		_, err = r.bus.Index.Update(ctx, key, &busv1.IndexRecord{}, rev)
	case errors.Is(err, bus.ErrNotFound):
		_, err = r.bus.Index.Create(ctx, key, &busv1.IndexRecord{})
	}
	// Where another replica was faster it says the same.
	if err != nil && !errors.Is(err, bus.ErrConflict) && !errors.Is(err, bus.ErrExists) {
		r.log.DebugContext(ctx, "that an account is served could not be noted; it is tried again", "account", account, "error", err)
	}
}

// forget is for an account that has left nothing behind.
func (r roll) forget(ctx context.Context, account string) {
	ctx, cancel := context.WithTimeout(ctx, noteTime)
	defer cancel()
	if err := r.bus.Index.Delete(ctx, servedPrefix+"."+account, 0); err != nil {
		r.log.DebugContext(ctx, "that an account is not served any more could not be noted", "account", account, "error", err)
	}
}

// keep notes the accounts again and again until ctx ends.
func (r roll) keep(ctx context.Context, all func() []accounts.Served) {
	tick := time.NewTicker(min(noteEvery, r.bus.Config().StateRetention/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, s := range all() {
			r.note(ctx, s.Account.AccountID)
		}
	}
}

// call warns of accounts that were served before and are not configured now.
func (r roll) call(ctx context.Context, all []accounts.Served) {
	ctx, cancel := context.WithTimeout(ctx, noteTime)
	defer cancel()
	keys, err := r.bus.Index.Keys(ctx, servedPrefix)
	if err != nil {
		r.log.DebugContext(ctx, "which accounts were served before can't be read", "error", err)
		return
	}
	here := map[string]bool{}
	for _, s := range all {
		here[s.Account.AccountID] = true
	}
	for _, key := range keys {
		if account := strings.TrimPrefix(key, servedPrefix+"."); !here[account] {
			r.log.WarnContext(ctx, "an account that was served is not configured any more, and AXP goes on calling: "+
				"configure it again and take it away by a reload, or delete its webhook subscription in AXP", "account", account)
		}
	}
}
