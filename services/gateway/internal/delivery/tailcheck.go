package delivery

import (
	"context"
	"maps"
	"slices"
	"time"

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
	// feeds are those of a look, kept for the next one: it comes four times a second.
	feeds []*feed
}

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
		return
	}
	if len(feeds) > 0 && info.Last > c.seen[0] && !c.compare(ctx, feeds, c.seen[0]+1) {
		return
	}
	c.seen = [3]uint64{c.seen[1], c.seen[2], info.Last}
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
