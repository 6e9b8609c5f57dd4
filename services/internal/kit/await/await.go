// Package await waits in tests for what only shows from outside, such as at the
// other end of a socket; inside a process wait on a channel. For tests only.
package await

import (
	"context"
	"testing"
	"time"
)

const (
	// patience bounds what never takes this long, be the machine ever so busy.
	patience = time.Minute
	pause    = 5 * time.Millisecond
)

// Until asks every few milliseconds until cond holds. Where it does not in a minute
// the test fails, and ends, in words: what: not in time.
func Until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not in time", what)
		case <-tick.C:
		}
	}
}
