package idle

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// TimerKind is the kind of the timer at which a session is looked at.
const TimerKind = "idle"

// Policy gives sessions their rules and sets their timers. It is safe for
// concurrent use.
type Policy struct {
	config atomic.Pointer[Config] // never changed, only replaced
	bus    *bus.Bus
	log    *slog.Logger
	now    func() time.Time
}

// NewPolicy makes a policy.
func NewPolicy(c Config, b *bus.Bus, log *slog.Logger, now func() time.Time) *Policy {
	p := &Policy{bus: b, log: log, now: now}
	p.SetConfig(c)
	return p
}

// SetConfig replaces the configuration for sessions that are created from now on.
func (p *Policy) SetConfig(c Config) { p.config.Store(&c) }

// Rules are what a new session of an account is told.
func (p *Policy) Rules(account string) *axpchatv1.IdleRules {
	return state.Rules(p.config.Load().of(account))
}

// fill gives a session that was created before there were rules those of its account.
func (p *Policy) fill(rec *busv1.SessionRecord) {
	if s := rec.GetSession(); s.GetIdleRules() == nil {
		s.IdleRules = p.Rules(s.GetAccount())
	}
}

// Arm has a session looked at when its rules ask for it. Failing is harmless:
// the reaper finds sessions without a timer.
func (p *Policy) Arm(ctx context.Context, rec *busv1.SessionRecord, chats state.Chats) {
	p.fill(rec)
	_, at := state.Idle(rec, chats, p.now())
	if err := p.set(ctx, rec, at); err != nil {
		p.log.WarnContext(ctx, "a session has no timer", "error", err)
	}
}

// set sets a session's timer; the zero time: none.
func (p *Policy) set(ctx context.Context, rec *busv1.SessionRecord, at time.Time) error {
	if at.IsZero() {
		return nil
	}
	s := rec.GetSession()
	return p.bus.SetTimer(ctx, bus.Timer{Kind: TimerKind, Account: s.GetAccount(), Session: s.GetSessionId()}, at)
}

// MayBeOverdue tells whether a session should have been looked at before, by
// what its record alone says.
func (p *Policy) MayBeOverdue(rec *busv1.SessionRecord, by time.Duration) bool {
	p.fill(rec)
	rules := rec.GetSession().GetIdleRules()
	if rec.GetSession().GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE {
		return false
	}
	first := time.Duration(0)
	for _, d := range []time.Duration{rules.GetIdleTimeout().AsDuration(), rules.GetSessionTtl().AsDuration()} {
		if d > 0 && (first == 0 || d < first) {
			first = d
		}
	}
	return first > 0 && p.now().Sub(state.LastActive(rec)) > first+by
}
