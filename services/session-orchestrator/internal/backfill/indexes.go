package backfill

import "slices"

// indexes is a set of messageIndex values, kept as sorted ranges: a dialog's
// indexes are dense, so that few ranges hold all of them. The zero value is
// empty. It is not safe for concurrent use.
type indexes struct {
	ranges []span
}

// span is a range of indexes, both ends included.
type span struct{ first, last int64 }

// add puts an index into the set.
func (s *indexes) add(i int64) { s.fill(i, i) }

// fill puts a range of indexes into the set.
func (s *indexes) fill(first, last int64) {
	// The ranges that touch or overlap the new one become one with it.
	from, _ := slices.BinarySearchFunc(s.ranges, first, func(r span, first int64) int {
		if r.last < first-1 {
			return -1
		}
		return 1
	})
	to := from
	for to < len(s.ranges) && s.ranges[to].first <= last+1 {
		first, last = min(first, s.ranges[to].first), max(last, s.ranges[to].last)
		to++
	}
	s.ranges = slices.Replace(s.ranges, from, to, span{first, last})
}

// has tells whether an index is in the set.
func (s *indexes) has(i int64) bool {
	return slices.ContainsFunc(s.ranges, func(r span) bool { return r.first <= i && i <= r.last })
}

// whole tells whether nothing is missing between the smallest and the largest
// index. AXP does not document the first one, so what is missing before the
// smallest can't show here.
func (s *indexes) whole() bool { return len(s.ranges) <= 1 }

// close fills every hole.
func (s *indexes) close() {
	if n := len(s.ranges); n > 1 {
		s.ranges = []span{{s.ranges[0].first, s.ranges[n-1].last}}
	}
}
