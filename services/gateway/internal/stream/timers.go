package stream

import (
	"time"
)

// timers are the clocks of one stream. Those that do not apply never fire.
type timers struct {
	heartbeat *time.Ticker
	idle      *time.Timer // the client may have gone
	reminder  *time.Timer // the token expires soon
	expiry    *time.Timer
	age       *time.Timer
	shutdown  *time.Timer // the client was told to move, and its time is over
}

func (t *timers) start(st *Stream) {
	cfg := st.server.p.Config
	t.heartbeat = time.NewTicker(st.r.Heartbeat)
	t.idle, t.reminder, t.expiry, t.age, t.shutdown = idle(), idle(), idle(), idle(), idle()
	if st.in != nil {
		t.idle.Reset(cfg.ClientIdle)
	}
	if cfg.MaxAge > 0 {
		t.age.Reset(cfg.MaxAge - jitter(cfg.MaxAge/10))
	}
	t.token(st.principal.ExpireTime, cfg.ExpiryReminder)
}

// token sets the clocks of a token.
func (t *timers) token(expires time.Time, remind time.Duration) {
	left := time.Until(expires)
	t.expiry.Reset(max(0, left))
	t.reminder.Stop()
	if left > 0 {
		t.reminder.Reset(reminderIn(left, remind))
	}
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

func (t *timers) stop() {
	t.heartbeat.Stop()
	for _, timer := range []*time.Timer{t.idle, t.reminder, t.expiry, t.age, t.shutdown} {
		timer.Stop()
	}
}

// idle returns a timer that does not run.
func idle() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}
