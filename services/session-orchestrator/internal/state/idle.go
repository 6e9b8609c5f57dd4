package state

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// IdleStep is what the idle rules ask for.
type IdleStep int

const (
	// IdleWait is nothing yet.
	IdleWait IdleStep = iota
	// IdleWarn is to tell the customer that the chat ends soon.
	IdleWarn
	// IdleDisconnect is to end the chat.
	IdleDisconnect
	// IdleExpire is to delete the session.
	IdleExpire
)

// Chats is what of a session's engagements matters to the idle rules.
type Chats struct {
	// Open is the engagement that the session started and whose end nobody has
	// asked for; empty: none.
	Open string
	// Busy: the session has joined an open engagement of another one, or one of
	// its own is ending.
	Busy bool
	// LastEnd is when the last of its own engagements ended.
	LastEnd time.Time
	// LastAgent is when a person on the company's side last wrote, where that
	// puts off the warning. Once the customer was warned it does nothing: whoever
	// keeps writing to a customer who has gone must not be held by him.
	LastAgent time.Time
}

// Slack is how exactly an activity is noted: a record is not written for one
// that follows the last by less. What is decided by it comes late by as much,
// and never early.
func Slack(rules *axpchatv1.IdleRules) time.Duration {
	shortest := time.Duration(0)
	for _, d := range []time.Duration{rules.GetIdleTimeout().AsDuration(), rules.GetSessionTtl().AsDuration()} {
		if d > 0 && (shortest == 0 || d < shortest) {
			shortest = d
		}
	}
	return min(shortest/30, 15*time.Second)
}

// Touch notes that the customer did something at a time. It returns whether it
// takes a warning back, and whether the record has changed at all.
func Touch(rec *busv1.SessionRecord, at time.Time) (reset, changed bool) {
	reset = rec.GetIdleWarnTime() != nil
	if !reset && rec.GetActivityTime() != nil && at.Sub(rec.GetActivityTime().AsTime()) < Slack(rec.GetSession().GetIdleRules()) {
		return false, false
	}
	rec.ActivityTime, rec.IdleWarnTime = later(rec.GetActivityTime(), timestamppb.New(at)), nil
	return reset, true
}

// LastActive is when the customer last did something.
func LastActive(rec *busv1.SessionRecord) time.Time {
	for _, t := range []*timestamppb.Timestamp{rec.GetActivityTime(), rec.GetSession().GetUpdateTime(), rec.GetSession().GetCreateTime()} {
		if t != nil {
			return t.AsTime()
		}
	}
	return time.Time{}
}

// Idle tells what the idle rules of a session ask for now, and, where that is
// nothing, when to look again; the zero time: never.
func Idle(rec *busv1.SessionRecord, chats Chats, now time.Time) (IdleStep, time.Time) {
	rules := rec.GetSession().GetIdleRules()
	idle, ttl := rules.GetIdleTimeout().AsDuration(), rules.GetSessionTtl().AsDuration()
	active := LastActive(rec).Add(Slack(rules))
	switch {
	case rec.GetSession().GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE:
		return IdleWait, time.Time{}
	case chats.Open != "" && idle > 0:
		grace := rules.GetGracePeriod().AsDuration()
		if rec.GetIdleWarnTime() != nil {
			return due(IdleDisconnect, rec.GetIdleWarnTime().AsTime().Add(grace), now)
		}
		step := IdleWarn
		if grace == 0 {
			step = IdleDisconnect
		}
		return due(step, latest(active, chats.LastAgent).Add(idle), now)
	case ttl == 0:
		return IdleWait, time.Time{}
	case chats.Open != "" || chats.Busy:
		return IdleWait, now.Add(ttl)
	default:
		seen := time.Time{}
		if t := rec.GetPresenceTime(); t != nil {
			seen = t.AsTime()
		}
		return due(IdleExpire, latest(active, chats.LastEnd, seen).Add(ttl), now)
	}
}

func due(step IdleStep, at, now time.Time) (IdleStep, time.Time) {
	if now.Before(at) {
		return IdleWait, at
	}
	return step, at
}

func latest(ts ...time.Time) time.Time {
	var out time.Time
	for _, t := range ts {
		if t.After(out) {
			out = t
		}
	}
	return out
}

// Rules makes the rules that a session is told: what is 0 is left out.
func Rules(idle, grace, ttl time.Duration) *axpchatv1.IdleRules {
	set := func(d time.Duration) *durationpb.Duration {
		if d <= 0 {
			return nil
		}
		return durationpb.New(d)
	}
	return &axpchatv1.IdleRules{IdleTimeout: set(idle), GracePeriod: set(grace), SessionTtl: set(ttl)}
}
