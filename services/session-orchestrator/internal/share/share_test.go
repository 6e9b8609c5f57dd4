package share_test

import (
	"fmt"
	"testing"

	"github.com/axpchat/connector/services/session-orchestrator/internal/share"
)

// TestEverySessionHasOneWatcher, the replicas share fairly, and one that leaves
// moves only its own part.
func TestEverySessionHasOneWatcher(t *testing.T) {
	const sessions = 3000
	watcher := func(all []string, session string) string {
		found := ""
		for _, self := range all {
			if !(share.Share{Self: self, All: all}).Mine(session) {
				continue
			}
			if found != "" {
				t.Fatalf("%s has two watchers, %s and %s", session, found, self)
			}
			found = self
		}
		if found == "" {
			t.Fatalf("%s has no watcher", session)
		}
		return found
	}
	three, two := []string{"a", "b", "c"}, []string{"a", "c"}
	counts := map[string]int{}
	for i := range sessions {
		session := fmt.Sprint("session-", i)
		before, after := watcher(three, session), watcher(two, session)
		counts[before]++
		if before != "b" && before != after {
			t.Errorf("%s moved from %s to %s although neither left", session, before, after)
		}
	}
	for _, self := range three {
		if n := counts[self]; n < sessions/3*8/10 || n > sessions/3*12/10 {
			t.Errorf("%s watches %d of %d", self, n, sessions)
		}
	}
}
