package state_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

func TestIdle(t *testing.T) {
	t.Parallel()
	const minute = time.Minute
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	full := state.Rules(15*minute, 2*minute, 30*minute)
	slack := state.Slack(full)
	cases := []struct {
		name     string
		rules    *axpchatv1.IdleRules
		chats    state.Chats
		warned   time.Duration // after begin; 0: not warned
		seen     time.Duration // a client was there, after begin
		closing  bool
		now      time.Duration // after begin, when the customer last did something
		want     state.IdleStep
		wantNext time.Duration // after begin; 0: never
	}{
		{name: "a customer who talks", rules: full, chats: state.Chats{Open: "e"}, now: 14 * minute, wantNext: 15*minute + slack},
		{name: "a customer who is silent", rules: full, chats: state.Chats{Open: "e"}, now: 15*minute + slack, want: state.IdleWarn, wantNext: 15*minute + slack},
		{name: "within the grace period", rules: full, chats: state.Chats{Open: "e"}, warned: 16 * minute, now: 17 * minute, wantNext: 18 * minute},
		{name: "after it", rules: full, chats: state.Chats{Open: "e"}, warned: 16 * minute, now: 18 * minute, want: state.IdleDisconnect, wantNext: 18 * minute},
		{name: "an agent who writes gives the customer time to answer", rules: full, chats: state.Chats{Open: "e", LastAgent: begin.Add(10 * minute)}, now: 20 * minute, wantNext: 25 * minute},
		{name: "but not once he was warned", rules: full, chats: state.Chats{Open: "e", LastAgent: begin.Add(17 * minute)}, warned: 16 * minute, now: 18 * minute, want: state.IdleDisconnect, wantNext: 18 * minute},
		{name: "without a grace period there is no warning", rules: state.Rules(15*minute, 0, 30*minute), chats: state.Chats{Open: "e"}, now: 16 * minute, want: state.IdleDisconnect, wantNext: 15*minute + slack},
		{name: "without an idle timeout a chat is never idle", rules: state.Rules(0, 2*minute, 30*minute), chats: state.Chats{Open: "e"}, now: 100 * minute, wantNext: 130 * minute},
		{name: "a chat that is ending is left alone", rules: full, chats: state.Chats{Busy: true}, now: 100 * minute, wantNext: 130 * minute},
		{name: "no chat yet", rules: full, now: 29 * minute, wantNext: 30*minute + slack},
		{name: "no chat for long", rules: full, now: 31 * minute, want: state.IdleExpire, wantNext: 30*minute + slack},
		{name: "a chat that has just ended", rules: full, chats: state.Chats{LastEnd: begin.Add(29 * minute)}, now: 31 * minute, wantNext: 59 * minute},
		{name: "a client that is there", rules: full, seen: 29 * minute, now: 31 * minute, wantNext: 59 * minute},
		{name: "without a time to live a session stays", rules: state.Rules(15*minute, 2*minute, 0), now: 1000 * minute},
		{name: "no rules at all", rules: state.Rules(0, 0, 0), chats: state.Chats{Open: "e"}, now: 1000 * minute},
		{name: "a session that is being closed", rules: full, closing: true, now: 1000 * minute},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rec := &busv1.SessionRecord{
				Session:      &axpchatv1.Session{Status: axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE, IdleRules: c.rules},
				ActivityTime: timestamppb.New(begin),
			}
			if c.closing {
				rec.Session.Status = axpchatv1.SessionStatus_SESSION_STATUS_CLOSING
			}
			if c.warned > 0 {
				rec.IdleWarnTime = timestamppb.New(begin.Add(c.warned))
			}
			if c.seen > 0 {
				rec.PresenceTime = timestamppb.New(begin.Add(c.seen))
			}
			step, next := state.Idle(rec, c.chats, begin.Add(c.now))
			if step != c.want {
				t.Errorf("step %v, want %v", step, c.want)
			}
			if want := begin.Add(c.wantNext); c.wantNext != 0 && !next.Equal(want) || c.wantNext == 0 && !next.IsZero() {
				t.Errorf("next %v, want %v after the last act", next.Sub(begin), c.wantNext)
			}
		})
	}
}

func TestTouch(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rec := &busv1.SessionRecord{Session: &axpchatv1.Session{IdleRules: state.Rules(15*time.Minute, 2*time.Minute, 30*time.Minute)}}
	steps := []struct {
		name           string
		at             time.Duration
		warn           bool // the customer is warned before
		reset, changed bool
	}{
		{name: "the first", changed: true},
		{name: "one soon after costs nothing", at: 14 * time.Second},
		{name: "a later one", at: 16 * time.Second, changed: true},
		{name: "one after a warning, however soon", at: 17 * time.Second, warn: true, reset: true, changed: true},
	}
	for _, s := range steps { // each follows the one before
		if s.warn {
			rec.IdleWarnTime = timestamppb.New(begin)
		}
		if reset, changed := state.Touch(rec, begin.Add(s.at)); reset != s.reset || changed != s.changed {
			t.Errorf("%s: %v, %v", s.name, reset, changed)
		}
	}
}
