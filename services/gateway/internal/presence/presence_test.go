package presence_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/axpchat/connector/services/gateway/internal/presence"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

func TestAClientCountsForAMinuteAfterItHasLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, k := presence.New(), bus.SessionKey{Account: "ABCDEF", Session: "s1"}
		check := func(when string, want bool) {
			t.Helper()
			if got := r.Here(k); got != want {
				t.Errorf("%s: %v", when, got)
			}
		}
		check("before", false)
		r.Enter(k)
		r.Enter(k)
		check("two clients", true)
		r.Leave(k)
		wait(2 * time.Minute)
		check("one of two is left", true)
		r.Leave(k)
		wait(59 * time.Second)
		check("a moment after", true)
		wait(2 * time.Second)
		check("a minute after", false)
		for i := range 5000 { // the memory of those who left is bounded
			passing := bus.SessionKey{Account: "ABCDEF", Session: fmt.Sprint(i)}
			r.Enter(passing)
			r.Leave(passing)
		}
		wait(time.Hour)
		check("long after", false)
	})
}

// wait lets time pass in the bubble.
func wait(d time.Duration) { <-time.After(d) }

func TestANilRegistryKnowsNobody(t *testing.T) {
	t.Parallel()
	var r *presence.Registry
	r.Enter(bus.SessionKey{})
	r.Leave(bus.SessionKey{})
	if r.Here(bus.SessionKey{}) {
		t.Error("somebody is there")
	}
}
