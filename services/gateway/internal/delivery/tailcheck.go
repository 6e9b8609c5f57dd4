package delivery

import (
	"context"
	"maps"
	"slices"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

// recheckTick is how exactly the look after an attach is timed.
const recheckTick = 250 * time.Millisecond

// checker compares the journal's tail with what was handed on.
type checker struct {
	engine *Engine
	// seen holds the journal's end at the last three successful looks, oldest
	// first. A session that has come as far as the end at the last look lacks
	// nothing before it, for holes are noticed by themselves, and is not asked
	// for: of a busy session each look would fetch the newest event again. What it
	// lacks since shows at the next look. That one asks for what was stored since
	// the one before the last, and the next one after it for that as well: a
	// replica that was behind has had a whole interval to follow.
	seen [3]uint64
	// deep holds its end at the last two deep looks. A replica may be behind for
	// longer: one that has been away serves reads while it still follows.
	deep  [2]uint64
	looks int
	// failing is since when no look succeeds; zero: the last one did.
	failing time.Time
	// feeds are those of a look, kept for the next one: it comes four times a second.
	feeds []*feed
}

// deepLooks is how many looks there are to a deep one, a minute's as a rule.
const deepLooks = 24

// Run repairs what live delivery loses, until ctx is done.
func (e *Engine) Run(ctx context.Context) error {
	reconnected := make(chan struct{}, 1)
	forget := e.bus.OnReconnect(func() { signal(reconnected) })
	defer forget()
	// Twice as often, for what is lost shows at the second look at the latest.
	regular, fine := time.NewTicker(e.cfg.TailCheck/2), time.NewTicker(recheckTick)
	defer regular.Stop()
	defer fine.Stop()
	c := checker{engine: e}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-regular.C:
			c.all(ctx)
		case now := <-fine.C:
			c.due(ctx, now)
		case <-reconnected:
			c.all(ctx)
			at := time.Now().Add(recheckDelay)
			for _, f := range c.followed() {
				f.recheckSoon(at)
			}
		}
	}
}

// followed are the feeds that are open. It is good until the next call.
func (c *checker) followed() []*feed {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	clear(c.feeds[:cap(c.feeds)]) // those that have ended must not live on in it
	c.feeds = slices.AppendSeq(c.feeds[:0], maps.Values(c.engine.feeds))
	return c.feeds
}

// all looks at every followed session that may lack something.
func (c *checker) all(ctx context.Context) {
	feeds := slices.DeleteFunc(c.followed(), func(f *feed) bool { return f.reached(c.seen[2]) })
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	info, err := c.engine.bus.Journal(ctx)
	if err != nil {
		c.engine.log.WarnContext(ctx, "the journal's tail can't be read", "error", err)
		c.failed(ctx)
		return
	}
	c.engine.endAll(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE, func(epoch string) bool { return epoch != info.Epoch })
	if info.Last < c.seen[2] { // it was made anew, or restored from a copy
		c.seen, c.deep = [3]uint64{}, [2]uint64{}
	}
	since, deep := c.seen[0], (c.looks+1)%deepLooks == 0
	if deep {
		since = c.deep[0]
	}
	if len(feeds) > 0 && info.Last > since && !c.compare(ctx, feeds, since+1) {
		c.failed(ctx)
		return
	}
	c.failing = time.Time{}
	c.looks++
	c.seen = [3]uint64{c.seen[1], c.seen[2], info.Last}
	if deep {
		c.deep = [2]uint64{c.deep[1], info.Last}
	}
}

// failed notes that a look has failed. A pod that is cut off from the journal for
// long sends its clients away: others may be better off, and nobody shall take its
// heartbeats for a sign that he misses nothing.
func (c *checker) failed(ctx context.Context) {
	now := time.Now()
	if c.failing.IsZero() {
		c.failing = now
	}
	if now.Sub(c.failing) < c.engine.cfg.GiveUp {
		return
	}
	c.failing = time.Time{}
	c.engine.log.WarnContext(ctx, "the journal can't be looked at, clients are sent away")
	c.engine.endAll(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE, func(string) bool { return true })
}

// due looks at the sessions whose extra look has come.
func (c *checker) due(ctx context.Context, now time.Time) {
	var since uint64
	feeds := slices.DeleteFunc(c.followed(), func(f *feed) bool {
		at, ok := f.due(now)
		if ok && (since == 0 || at < since) {
			since = at
		}
		return !ok
	})
	if len(feeds) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if !c.compare(ctx, feeds, since) {
		for _, f := range feeds {
			f.recheckSoon(now.Add(recheckDelay))
		}
	}
}

// compare tells each feed of the newest sequence that the journal holds.
func (c *checker) compare(ctx context.Context, feeds []*feed, since uint64) bool {
	keys := make([]bus.SessionKey, 0, len(feeds))
	for _, f := range feeds {
		keys = append(keys, f.key)
	}
	newest, err := c.engine.bus.LastSequences(ctx, keys, since)
	if err != nil {
		c.engine.log.WarnContext(ctx, "the journal's tail can't be compared", "sessions", len(keys), "error", err)
		return false
	}
	for _, f := range feeds {
		f.behind(newest[f.key]) // 0, where there is nothing, is behind nobody
	}
	return true
}
