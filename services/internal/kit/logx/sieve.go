package logx

import (
	"sync"
	"time"
)

const (
	// burst is how many records of a kind pass in the time.
	burst      = 20
	burstEvery = 10 * time.Second
	// kindsMax bounds a sieve's memory. Kinds are of closed sets, such as routes and
	// reasons; what were beyond it would share one budget.
	kindsMax = 1024
)

// Sieve thins out records that strangers can cause any number of, where one of
// each kind would be too few to find a caller's request by: it lets 20 of a kind
// pass in ten seconds and counts the rest. It is safe for concurrent use.
type Sieve[K comparable] struct {
	mu    sync.Mutex
	kinds map[K]*budget
	rest  budget
}

// budget is what is left of a kind's burst until end.
type budget struct {
	end     time.Time
	left    int
	leftOut int
}

// NewSieve returns a sieve that nothing has passed yet.
func NewSieve[K comparable]() *Sieve[K] { return &Sieve[K]{kinds: map[K]*budget{}} }

// Pass tells whether a record of the kind may be written at this time, and how
// many were not since the last one that was.
func (s *Sieve[K]) Pass(kind K, now time.Time) (leftOut int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.kinds[kind]
	switch {
	case b != nil:
	case len(s.kinds) < kindsMax:
		b = &budget{}
		s.kinds[kind] = b
	default:
		b = &s.rest
	}
	if !now.Before(b.end) {
		b.end, b.left = now.Add(burstEvery), burst
	}
	if b.left == 0 {
		b.leftOut++
		return 0, false
	}
	b.left--
	leftOut, b.leftOut = b.leftOut, 0
	return leftOut, true
}
