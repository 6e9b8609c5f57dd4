package delivery

import (
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// item is an event on its way to clients. The event is shared by all
// subscriptions of the session and must not be changed.
type item struct {
	sequence uint64
	previous uint64 // of the same session; only for live events
	event    *axpchatv1.Event
	bytes    int
}

// pendingBytes bounds what is kept of the live events that arrive during a
// catch-up. Beyond it they are forgotten and read from the journal instead.
const pendingBytes = minQueueBytes / 2

// splice joins live events, of which some may be missing, with reads of the
// journal into one sequence without holes, repeats or disorder. It is a plain
// state machine: what runs when is the business of its caller, which also
// guards it. It begins in a catch-up.
type splice struct {
	last  uint64 // everything up to here was emitted
	live  bool   // no catch-up is under way
	emit  func(item)
	held  []item // live events that arrived during the catch-up
	bytes int    // of held
	lost  bool   // held was given up: the journal must be read once more
}

// offer takes a live event. It returns true when the event does not follow what
// was emitted: then a catch-up is under way from now on.
func (s *splice) offer(it item) (gap bool) {
	switch {
	case it.sequence <= s.last:
		return false
	case !s.live:
		s.hold(it)
		return false
	case it.previous > s.last:
		s.live = false
		s.hold(it)
		return true
	}
	s.advance(it)
	return false
}

func (s *splice) hold(it item) {
	if s.lost || s.bytes+it.bytes > pendingBytes {
		s.held, s.bytes, s.lost = nil, 0, true
		return
	}
	s.held = append(s.held, it)
	s.bytes += it.bytes
}

// advance emits an event that the journal, or the chain of live events, says is
// the next one. One that was emitted before is dropped.
func (s *splice) advance(it item) {
	if it.sequence <= s.last {
		return
	}
	s.emit(it) // first: where it panics nothing has been emitted
	s.last = it.sequence
}

// settle goes over to live events after the journal was read to its end. It
// returns false when there is still a hole: the journal must be read again.
func (s *splice) settle() bool {
	for i, it := range s.held {
		if it.sequence > s.last && it.previous > s.last {
			s.held = s.held[i:]
			s.bytes = 0
			for _, kept := range s.held {
				s.bytes += kept.bytes
			}
			return false
		}
		s.advance(it)
	}
	s.held, s.bytes = nil, 0
	if s.lost {
		s.lost = false
		return false
	}
	s.live = true
	return true
}

// behind takes the newest sequence that the journal holds for the session. It
// returns true when live events are missing: then a catch-up is under way.
func (s *splice) behind(newest uint64) bool {
	if !s.live || newest <= s.last {
		return false
	}
	s.live = false
	return true
}
