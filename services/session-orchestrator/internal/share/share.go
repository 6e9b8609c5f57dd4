// Package share owns how replicas share work that any of them could do: by
// rendezvous hashing over the replicas that are there. It keeps nothing and asks
// nobody.
package share

import (
	"hash/fnv"
	"slices"
)

// Share decides which replica is to work on a session: the one whose name gives
// the highest hash with it. When a replica comes or goes only its own part moves.
// For a moment two replicas may see the others differently; then something is
// worked twice, or not, so what either of them does must be harmless. The zero
// value has a share in nothing.
type Share struct {
	// Self is this replica, and All are the names of all, it among them.
	Self string
	All  []string
}

// Equal tells whether nobody has come or gone; the order of All counts.
func (s Share) Equal(o Share) bool { return s.Self == o.Self && slices.Equal(s.All, o.All) }

// Mine tells whether a session is this replica's to work on.
func (s Share) Mine(session string) bool {
	if s.Self == "" {
		return false
	}
	own := weight(s.Self, session)
	for _, other := range s.All {
		if other == s.Self {
			continue
		}
		if w := weight(other, session); w > own || w == own && other > s.Self {
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
