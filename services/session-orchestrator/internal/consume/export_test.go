package consume

import "time"

// HurryBroken shortens the pauses after a panic.
func (l *Loop) HurryBroken(d time.Duration) { l.broken = func(uint64) time.Duration { return d } }
