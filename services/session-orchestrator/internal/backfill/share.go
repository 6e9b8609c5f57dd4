package backfill

import (
	"hash/fnv"
	"slices"
)

// share decides which replica watches a dialog: for each session the one whose
// name gives the highest hash with it. When a replica comes or goes only its own
// part moves. For a moment two replicas may see the others differently; then a
// dialog is watched twice, or not, and what either of them does is harmless.
type share struct {
	self string
	all  []string
}

func (s share) equal(o share) bool { return s.self == o.self && slices.Equal(s.all, o.all) }

// mine tells whether a session is this replica's to watch.
func (s share) mine(session string) bool {
	if s.self == "" {
		return false
	}
	own := weight(s.self, session)
	for _, other := range s.all {
		if other == s.self {
			continue
		}
		if w := weight(other, session); w > own || w == own && other > s.self {
			return false
		}
	}
	return true
}

func weight(replica, session string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(replica)) // never fails
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(session))
	// FNV's high bits hardly depend on the last bytes; mix them.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}
