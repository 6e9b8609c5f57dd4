package axp

import (
	"context"
	"time"
)

// Clock tells the time and waits. Tests may control it.
type Clock interface {
	// Now is the present time.
	Now() time.Time
	// Sleep waits for d, or until ctx is done, whose cause it then returns.
	Sleep(ctx context.Context, d time.Duration) error
}

// SystemClock is the Clock of the machine.
type SystemClock struct{}

// Now implements Clock.
func (SystemClock) Now() time.Time { return time.Now() }

// Sleep implements Clock.
func (SystemClock) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
