// Package patience owns how long the orchestrator waits: for AXP on behalf of
// a command, for somebody else's unfinished command, and between two tries. It
// knows nothing of what is waited for.
package patience

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// Attempt is the longest that one attempt of a command may take, AXP's
	// answers included.
	Attempt = 25 * time.Second
	// Leftover is the age from which an unfinished attempt counts as left over
	// by a crash: longer than any attempt takes.
	Leftover = Attempt + 5*time.Second
	// Others is how long a command waits for somebody else's attempt at the same.
	Others = 5 * time.Second
	// Advice is what a caller is told to wait where somebody else is at work.
	Advice = time.Second
	// look is the pause between two looks where no wake-up is to be had.
	look = 50 * time.Millisecond
)

// Detach gives a command the time to finish although its caller goes away: a
// call to AXP that is cut off has an outcome that nobody knows. The values of
// ctx stay.
func Detach(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), Attempt)
}

// Pause waits until woken, for at most d, or until ctx ends (then its error).
// woken may be nil.
func Pause(ctx context.Context, d time.Duration, woken <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-woken:
		return nil
	case <-t.C:
		return nil
	}
}

// Until asks again and again, for at most d, until done says so. It returns
// whether it did.
func Until(ctx context.Context, d time.Duration, woken <-chan struct{}, done func(context.Context) (bool, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	every := look
	if woken != nil {
		every = time.Second // only for wake-ups that got lost
	}
	for {
		ok, err := done(ctx)
		if ctx.Err() != nil {
			return false, nil
		}
		if ok || err != nil {
			return ok, err
		}
		if Pause(ctx, every, woken) != nil {
			return false, nil
		}
	}
}

// Backoff is the pause after the n-th failure in a row (n from 1): doubled each
// time up to longest, then spread over its upper half, so that many who failed
// together do not come back together. At least advised, and then a little more
// for the same reason: everybody was advised the same.
func Backoff(n int, shortest, longest, advised time.Duration) time.Duration {
	d := longest
	if n < 31 {
		if grown := shortest << (n - 1); grown > 0 && grown < longest {
			d = grown
		}
	}
	d = d/2 + time.Duration(rand.Int64N(int64(d/2)+1)) //nolint:gosec // spreads waits, guards no secret
	if advised >= d {
		return advised + time.Duration(rand.Int64N(int64(shortest)+1)) //nolint:gosec // as above
	}
	return d
}
