package stream

import (
	"time"
)

// clock is one of the things that a stream waits for.
type clock int

const (
	heartbeat clock = iota
	idle            // the client may have gone
	reminder        // the token expires soon
	expiry
	age
	shutdown // the client was told to move, and its time is over
	stale    // the session's record may have changed since it was read
	clocks   // how many there are
)

// timers are the clocks of one stream, on one timer of the runtime: thousands of
// streams rest, and each timer with its channel takes a quarter of a KiB.
type timers struct {
	timer *time.Timer // runs until the nearest moment
	began time.Time
	// at is when each clock rings, as the time since began; 0: never.
	at    [clocks]time.Duration
	every time.Duration // of the heartbeat
}

func (t *timers) start(st *Stream) {
	cfg := &st.server.p.Config
	t.began, t.every = time.Now(), st.r.Heartbeat
	t.timer = time.NewTimer(t.every)
	t.set(heartbeat, t.every)
	if st.in != nil {
		t.set(idle, cfg.ClientIdle)
	}
	if cfg.MaxAge > 0 {
		t.set(age, cfg.MaxAge-jitter(cfg.MaxAge/10))
	}
	t.set(stale, cfg.StateCheck/2+jitter(cfg.StateCheck/2)) // not all streams of a pod at once
	t.token(st.principal.ExpireTime, cfg.ExpiryReminder)
}

// set lets a clock ring after d.
func (t *timers) set(c clock, d time.Duration) {
	t.at[c] = max(1, time.Since(t.began)+d)
	t.arm()
}

// token sets the clocks of a token.
func (t *timers) token(expires time.Time, remind time.Duration) {
	left := time.Until(expires)
	t.at[reminder] = 0
	if left > 0 {
		t.set(reminder, reminderIn(left, remind))
	}
	t.set(expiry, max(0, left))
}

// reminderIn is when a client is told that its token, which lives for left,
// expires soon. One that lives hardly longer than the notice must be halfway
// through: a client that renews at every reminder must not do so all the time.
func reminderIn(left, notice time.Duration) time.Duration {
	if left < notice+notice/2 {
		return left / 2
	}
	return left - notice
}

// first is the clock that rings next. The heartbeat always runs.
func (t *timers) first() clock {
	first := heartbeat
	for c, at := range t.at {
		if at != 0 && at < t.at[first] {
			first = clock(c)
		}
	}
	return first
}

// rung returns the clock that the timer has run for; ok is false where it was
// moved meanwhile. The heartbeat goes on, the others must be set again.
func (t *timers) rung() (c clock, ok bool) {
	now := time.Since(t.began)
	c = t.first()
	if ok = t.at[c] <= now; ok {
		t.at[c] = 0
		if c == heartbeat {
			t.at[c] = now + t.every
		}
	}
	t.arm()
	return c, ok
}

func (t *timers) arm() { t.timer.Reset(t.at[t.first()] - time.Since(t.began)) }

func (t *timers) stop() { t.timer.Stop() }
