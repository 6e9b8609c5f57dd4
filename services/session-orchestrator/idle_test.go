package orchestrator_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

// idleVars are rules short enough for a test. NATS's timers are up to half a
// second late.
func idleVars(timeout, grace, ttl string) map[string]string {
	return map[string]string{"IDLE_TIMEOUT": timeout, "IDLE_GRACE_PERIOD": grace, "SESSION_TTL": ttl}
}

// kinds counts the events of a session that are told by the idle rules.
func (r *rig) kinds(session string) map[string]int {
	r.t.Helper()
	out := map[string]int{}
	for _, e := range r.journal(session) {
		switch {
		case e.GetIdleTimeoutExpired() != nil:
			out["warned"]++
		case e.GetIdleTimeoutReset() != nil:
			out["reset"]++
		case e.GetEngagementTerminated() != nil:
			out["terminated"]++
		case e.GetEventId() == "session.closed":
			out["closed"]++
		}
	}
	return out
}

// warning waits for the n-th warning of a session.
func (r *rig) warning(session string, n int) *axpchatv1.Event {
	r.t.Helper()
	var found *axpchatv1.Event
	r.await("a warning", func() bool {
		seen := 0
		for _, e := range r.journal(session) {
			if e.GetIdleTimeoutExpired() != nil {
				if seen++; seen == n {
					found = e
				}
			}
		}
		return found != nil
	})
	return found
}

func (r *rig) keepAlive(s *axpchatv1.Session) *axpchatv1.KeepAliveResponse {
	r.t.Helper()
	res, err := r.client.KeepAlive(r.ctx(), &orchestratorv1.KeepAliveRequest{Caller: ada, Request: &axpchatv1.KeepAliveRequest{SessionId: s.GetSessionId()}})
	if err != nil {
		r.t.Fatalf("keep alive: %v", err)
	}
	return res.GetResponse()
}

// TestACustomerWhoKilledTheApp holds no agent: the chat is warned of once,
// disconnected once, and the session deleted once, however many replicas there are.
func TestACustomerWhoKilledTheApp(t *testing.T) {
	for name, replicas := range map[string]int{"one replica": 1, "two replicas": 2} {
		t.Run(name, func(t *testing.T) {
			vars := idleVars("700ms", "600ms", "900ms")
			r := newRig(t, vars)
			for range replicas - 1 {
				r.start(vars)
			}
			s, e := r.chat()
			if rules := s.GetIdleRules(); rules.GetIdleTimeout().AsDuration() != 700*time.Millisecond || rules.GetSessionTtl().AsDuration() != 900*time.Millisecond {
				t.Errorf("the session is told %v", rules)
			}
			begin := time.Now()
			warned := r.warning(s.GetSessionId(), 1)
			said := warned.GetIdleTimeoutExpired()
			if said.GetEngagementId() != e.GetEngagementId() || said.GetGracePeriod().AsDuration() != 600*time.Millisecond {
				t.Errorf("the warning says %v", said)
			}
			ended := r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
			if got := ended.GetEngagementTerminated().GetReason(); got != axpchatv1.CloseReason_CLOSE_REASON_USER_INACTIVE {
				t.Errorf("the chat ended because of %v", got)
			}
			if at := ended.GetReceiveTime().AsTime(); at.Before(said.GetDisconnectTime().AsTime()) || at.Sub(begin) > 10*time.Second {
				t.Errorf("it ended at %v, announced was %v", at, said.GetDisconnectTime().AsTime())
			}
			closed := r.event(s.GetSessionId(), "session.closed").GetSessionChanged().GetSession()
			if closed.GetCloseReason() != axpchatv1.CloseReason_CLOSE_REASON_USER_INACTIVE {
				t.Errorf("the session was closed because of %v", closed.GetCloseReason())
			}
			want := map[string]int{"warned": 1, "terminated": 1, "closed": 1}
			if got := r.kinds(s.GetSessionId()); !maps.Equal(got, want) {
				t.Errorf("events %v, want %v", got, want)
			}
			if d := r.axp.Dialogs(s.GetAxpSessionId()); d[0].DialogStatus != axp.DialogTerminated || r.axp.Sessions() != 0 {
				t.Errorf("AXP has %+v and %d sessions", d, r.axp.Sessions())
			}
			if d, x := r.axp.Calls(axp.OpDisconnectEngagement), r.axp.Calls(axp.OpDeleteSession); d != 1 || x != 1 {
				t.Errorf("%d calls to disconnect, %d to delete", d, x)
			}
		})
	}
}

func TestARestartBetweenWarningAndDisconnect(t *testing.T) {
	vars := idleVars("500ms", "1500ms", "0s")
	r := newRig(t, vars)
	s, e := r.chat()
	r.warning(s.GetSessionId(), 1)
	r.stop()
	r.start(vars)
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	if got, want := r.kinds(s.GetSessionId()), (map[string]int{"warned": 1, "terminated": 1}); !maps.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	if n := r.axp.Calls(axp.OpDisconnectEngagement); n != 1 {
		t.Errorf("disconnected %d times", n)
	}
}

func TestAnActOfTheCustomerTakesTheWarningBack(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]func(r *rig, s *axpchatv1.Session, e *axpchatv1.Engagement){
		"a message": func(r *rig, _ *axpchatv1.Session, e *axpchatv1.Engagement) { r.mustSend(e, "m-1", "still here") },
		"a page view": func(r *rig, s *axpchatv1.Session, _ *axpchatv1.Engagement) {
			r.mustUpdate(s, map[string]string{"page": "one"})
		},
		"a keep-alive": func(r *rig, s *axpchatv1.Session, _ *axpchatv1.Engagement) {
			if at := r.keepAlive(s).GetExpireTime().AsTime(); time.Until(at) < time.Second {
				r.t.Errorf("the timeout expires at %v", at)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, idleVars("1500ms", "2s", "0s"))
			s, e := r.chat()
			r.warning(s.GetSessionId(), 1)
			acting := time.Now()
			act(r, s, e)
			r.await("the warning is taken back", func() bool { return r.kinds(s.GetSessionId())["reset"] == 1 })
			second := r.warning(s.GetSessionId(), 2) // and the clock runs anew
			if after := second.GetReceiveTime().AsTime().Sub(acting); after < 1500*time.Millisecond {
				t.Errorf("the next warning came %v after the act", after)
			}
			ended := r.event(s.GetSessionId(), e.GetEngagementId()+".terminated").GetReceiveTime().AsTime()
			if ended.Before(second.GetIdleTimeoutExpired().GetDisconnectTime().AsTime()) {
				t.Error("it ended within the grace period of the second warning")
			}
		})
	}
}

func TestAnAgentWhoWritesGivesTimeToAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sender  axpchatv1.ParticipantType
		extends bool
	}{
		"an agent": {axpchatv1.ParticipantType_PARTICIPANT_TYPE_AGENT, true},
		"a bot":    {axpchatv1.ParticipantType_PARTICIPANT_TYPE_BOT, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, idleVars("1500ms", "2s", "0s"))
			s, e := r.chat()
			begin := time.Now()
			r.await("a second goes by", func() bool { return time.Since(begin) > time.Second })
			said := time.Now()
			r.tell(e, "said", &axpchatv1.Event{Payload: &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{
				MessageId: "axp-1", Sender: &axpchatv1.Participant{ParticipantType: c.sender},
			}}, ReceiveTime: timestamppb.Now()})
			at := r.warning(s.GetSessionId(), 1).GetReceiveTime().AsTime()
			if extended := at.Sub(said) >= 1500*time.Millisecond; extended != c.extends {
				t.Errorf("the warning came %v after the message", at.Sub(said))
			}
		})
	}
}

// TestASessionThatIsFollowedIsNotDeleted, although its customer does nothing.
func TestASessionThatIsFollowedIsNotDeleted(t *testing.T) {
	r := newRig(t, idleVars("0s", "0s", "500ms"))
	s := r.session(ada)
	gone, err := r.bus.AnswerPresence(func(k bus.SessionKey) bool { return k.Session == s.GetSessionId() })
	if err != nil {
		t.Fatal(err)
	}
	r.await("it was seen twice", func() bool {
		rec, _, err := r.bus.Sessions.Get(r.ctx(), bus.SessionKeyOf(axptest.AccountID, s.GetSessionId()))
		return err == nil && rec.GetPresenceTime().AsTime().Sub(rec.GetActivityTime().AsTime()) > time.Second
	})
	if n := r.axp.Sessions(); n != 1 {
		t.Fatalf("AXP has %d sessions", n)
	}
	gone()
	r.event(s.GetSessionId(), "session.closed")
}

func TestAnEndedChatLetsTheSessionLive(t *testing.T) {
	r := newRig(t, idleVars("300ms", "0s", "2500ms")) // no grace: no warning
	s, e := r.chat()
	ended := r.event(s.GetSessionId(), e.GetEngagementId()+".terminated").GetReceiveTime().AsTime()
	closed := r.event(s.GetSessionId(), "session.closed").GetReceiveTime().AsTime()
	if closed.Sub(ended) < 2*time.Second {
		t.Errorf("the session was deleted %v after its chat", closed.Sub(ended))
	}
	if got := r.kinds(s.GetSessionId())["warned"]; got != 0 {
		t.Errorf("%d warnings", got)
	}
	for _, id := range r.ids(s.GetSessionId()) {
		if strings.Contains(id, ".idle") {
			t.Errorf("event %s", id)
		}
	}
}
