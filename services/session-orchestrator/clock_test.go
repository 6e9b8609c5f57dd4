package orchestrator_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

// clock goes as the system's does, and ahead of it by what a test says.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// newRigWithClock has the default rules and lengths, and a clock for them.
func newRigWithClock(t *testing.T) (*rig, *clock) {
	t.Helper()
	c := &clock{}
	r := &rig{t: t, axp: axptest.Start(t), nats: bustest.Server(t), now: c.now}
	r.start(nil)
	return r, c
}

// due has the idle timer of a session come due, as NATS does, and returns when it
// has been dealt with.
func (r *rig) due(session string) {
	r.t.Helper()
	subject := "timer.due.idle." + axptest.AccountID + "." + session
	if _, err := r.bus.JS.Publish(r.ctx(), subject, nil); err != nil {
		r.t.Fatal(err)
	}
	r.await("the timer is dealt with", func() bool {
		s, err := r.bus.JS.Stream(r.ctx(), bus.TimersStream)
		if err != nil {
			r.t.Fatal(err)
		}
		info, err := s.Info(r.ctx(), jetstream.WithSubjectFilter(subject))
		if err != nil {
			r.t.Fatal(err)
		}
		return len(info.State.Subjects) == 0
	})
}

func (r *rig) wantKinds(session string, want map[string]int) {
	r.t.Helper()
	got := r.kinds(session)
	for _, kind := range []string{"warned", "reset", "terminated", "closed"} {
		if got[kind] != want[kind] {
			r.t.Errorf("%s: %d times, want %d", kind, got[kind], want[kind])
		}
	}
}

// TestIdleRulesByTheClock: the default rules, to 15 s: 15 minutes until
// the warning, 2 until the chat ends, 30 until the session does. A timer that
// comes too early, and one that comes twice, change nothing.
func TestIdleRulesByTheClock(t *testing.T) {
	r, c := newRigWithClock(t)
	s, e := r.chat()
	id := s.GetSessionId()

	c.advance(14*time.Minute + 50*time.Second)
	r.due(id)
	r.wantKinds(id, nil)
	c.advance(30 * time.Second)
	r.due(id)
	r.due(id)
	r.wantKinds(id, map[string]int{"warned": 1})
	said := r.warning(id, 1).GetIdleTimeoutExpired().GetDisconnectTime().AsTime()
	if wait := said.Sub(c.now()); wait < time.Minute+30*time.Second || wait > 2*time.Minute {
		t.Errorf("warned of an end %s ahead, want 2m", wait)
	}

	r.stop() // and another replica takes over
	r.start(nil)
	c.advance(time.Minute + 30*time.Second)
	r.due(id)
	r.wantKinds(id, map[string]int{"warned": 1})
	c.advance(time.Minute)
	r.due(id)
	if got := r.event(id, e.GetEngagementId()+".terminated").GetEngagementTerminated().GetReason(); got != axpchatv1.CloseReason_CLOSE_REASON_USER_INACTIVE {
		t.Errorf("the chat ended because of %v", got)
	}

	c.advance(29 * time.Minute)
	r.due(id)
	r.wantKinds(id, map[string]int{"warned": 1, "terminated": 1})
	c.advance(2 * time.Minute)
	r.due(id)
	r.event(id, "session.closed")
	r.due(id)
	r.wantKinds(id, map[string]int{"warned": 1, "terminated": 1, "closed": 1})
	if n := r.axp.Sessions(); n != 0 {
		t.Errorf("AXP has %d sessions", n)
	}
}

// TestExpiryByTheClock: a message that AXP does not take is kept for a day, and
// fails then; what is written behind it by then is not older for it.
func TestExpiryByTheClock(t *testing.T) {
	r, c := newRigWithClock(t)
	s, e := r.chat()
	busy := func() {
		r.axp.Fail(axp.OpSendMessage, slices.Repeat([]axptest.Fault{{Status: 429, RetryAfter: "0"}}, 10000)...)
	}
	busy()
	first := r.mustSend(e, "m-1", "hello")
	r.event(s.GetSessionId(), first.GetMessageId()+".held")
	c.advance(23*time.Hour + 59*time.Minute)
	second := r.mustSend(e, "m-2", "are you there?")
	calls := r.axp.Calls(axp.OpSendMessage)
	r.await("it is tried again", func() bool { return r.axp.Calls(axp.OpSendMessage) > calls+1 })
	if slices.Contains(r.ids(s.GetSessionId()), first.GetMessageId()+".failed") {
		t.Fatal("it failed before its time")
	}
	c.advance(2 * time.Minute)
	failed := r.event(s.GetSessionId(), first.GetMessageId()+".failed").GetMessageStatusChanged()
	if got := failed.GetFailure().GetReason(); got != "MESSAGE_EXPIRED" {
		t.Errorf("it failed because of %s", got)
	}
	r.axp.Heal()
	r.event(s.GetSessionId(), second.GetMessageId()+".sent")
	r.wantTexts(e, "are you there?")
}
