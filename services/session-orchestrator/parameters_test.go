package orchestrator_test

import (
	"fmt"
	"testing"
	"time"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

func (r *rig) mustUpdate(s *axpchatv1.Session, params map[string]string) map[string]string {
	r.t.Helper()
	got, err := r.update(s, params)
	if err != nil {
		r.t.Fatalf("update parameters: %v", err)
	}
	return got.GetSessionParameters()
}

// axpHas waits until AXP has a value.
func (r *rig) axpHas(s *axpchatv1.Session, key, value string) {
	r.t.Helper()
	r.await("AXP has "+key+"="+value, func() bool { return r.axpValue(s, key) == value })
}

func (r *rig) axpValue(s *axpchatv1.Session, key string) string {
	r.t.Helper()
	made, ok := r.axp.Session(s.GetAxpSessionId())
	if !ok {
		r.t.Fatal("AXP has no such session")
	}
	return made.SessionParameters[key]
}

func TestManyPageViewsAreFewCalls(t *testing.T) {
	const interval = 500 * time.Millisecond
	r := newRig(t, map[string]string{"SESSION_PARAMETERS_INTERVAL": interval.String()})
	s := r.session(ada)
	begin, last := time.Now(), ""
	for i := 0; time.Since(begin) < 3*interval; i++ {
		last = fmt.Sprint("/page/", i)
		if got := r.mustUpdate(s, map[string]string{"page": last}); got["page"] != last {
			t.Fatalf("the answer shows %v", got)
		}
	}
	r.axpHas(s, "page", last)
	most := 2 + int(time.Since(begin)/interval)
	if n := r.axp.Calls(axp.OpUpdateSessionParameters); n > most {
		t.Errorf("%d calls in %v, want %d at most", n, time.Since(begin), most)
	}
}

func TestTheLastUpdateSurvivesACrash(t *testing.T) {
	vars := map[string]string{"SESSION_PARAMETERS_INTERVAL": "700ms"}
	r := newRig(t, vars)
	s := r.session(ada)
	r.mustUpdate(s, map[string]string{"page": "first"})
	r.mustUpdate(s, map[string]string{"page": "last"})
	r.stop()
	if got := r.axpValue(s, "page"); got != "first" {
		t.Errorf("AXP has %q before the interval is over", got)
	}
	r.start(vars)
	r.axpHas(s, "page", "last")
	if n := r.axp.Calls(axp.OpUpdateSessionParameters); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}

func TestAnAgentSeesTheNewestContext(t *testing.T) {
	r := newRig(t, map[string]string{"SESSION_PARAMETERS_INTERVAL": "1h"})
	s := r.session(ada)
	r.mustUpdate(s, map[string]string{"page": "first"})
	r.mustUpdate(s, map[string]string{"page": "last"})
	r.engagement(s)
	if got := r.axpValue(s, "page"); got != "last" {
		t.Errorf("AXP has %q when the chat is there", got)
	}
}

func TestAChatStartsWithoutItsContextWhereAXPTakesNone(t *testing.T) {
	r := newRig(t, map[string]string{"SESSION_PARAMETERS_INTERVAL": "300ms"})
	s := r.session(ada)
	down := axptest.Fault{Status: 503}
	r.axp.Fail(axp.OpUpdateSessionParameters, down, down)
	r.mustUpdate(s, map[string]string{"page": "one"}) // AXP's trouble is not the caller's
	r.engagement(s)
	r.axpHas(s, "page", "one")
}

// TestAXPThatTakesNoMoreKeys is told the values of those that it has.
func TestAXPThatTakesNoMoreKeys(t *testing.T) {
	r := newRig(t, map[string]string{"SESSION_PARAMETERS_INTERVAL": "0s"})
	s := r.session(ada)
	full := map[string]string{}
	for i := range 20 {
		full[fmt.Sprintf("k%02d", i)] = "v"
	}
	r.mustUpdate(s, full)
	r.axp.Fail(axp.OpUpdateSessionParameters, axptest.Fault{Status: 400})
	got := r.mustUpdate(s, map[string]string{"one more": "v", "k19": "new"})
	if _, has := got["k00"]; has || got["one more"] != "v" || len(got) != 20 {
		t.Errorf("the session has %v: what was set longest ago goes", got)
	}
	r.axpHas(s, "k19", "new")
	before := r.axp.Calls(axp.OpUpdateSessionParameters)
	r.mustUpdate(s, map[string]string{"k18": "new"})
	if n := r.axp.Calls(axp.OpUpdateSessionParameters); n != before+1 || r.axpValue(s, "k18") != "new" || r.axpValue(s, "one more") != "" {
		t.Errorf("%d more calls; what AXP refused is not tried for ever", n-before)
	}
}

func TestAnUpdateInASessionThatAXPForgotMeanwhile(t *testing.T) {
	r := newRig(t, map[string]string{"SESSION_PARAMETERS_INTERVAL": "300ms"})
	s := r.session(ada)
	r.mustUpdate(s, map[string]string{"page": "one"})
	r.axp.Forget(s.GetAxpSessionId())
	r.mustUpdate(s, map[string]string{"page": "two"})
	r.event(s.GetSessionId(), "session.closed")
	_, err := r.client.KeepAlive(r.ctx(), &orchestratorv1.KeepAliveRequest{Caller: ada, Request: &axpchatv1.KeepAliveRequest{SessionId: s.GetSessionId()}})
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED)
}
