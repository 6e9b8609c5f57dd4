package backfill

import (
	"testing"

	"pgregory.net/rapid"
)

// TestIndexesAreASet compares with a map, whatever comes in whatever order.
func TestIndexesAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s indexes
		want := map[int64]bool{}
		for _, i := range rapid.SliceOf(rapid.Int64Range(-20, 60)).Draw(t, "indexes") {
			s.add(i)
			want[i] = true
		}
		lowest, highest := int64(1<<32), int64(-1<<32)
		for i := range want {
			lowest, highest = min(lowest, i), max(highest, i)
		}
		whole := true
		for i := int64(-25); i < 65; i++ {
			if s.has(i) != want[i] {
				t.Fatalf("has(%d) is %v, want %v (%v)", i, s.has(i), want[i], s.ranges)
			}
			whole = whole && (i < lowest || i > highest || want[i])
		}
		if s.whole() != whole {
			t.Fatalf("whole is %v, want %v (%v)", s.whole(), whole, s.ranges)
		}
		for i := 1; i < len(s.ranges); i++ {
			if s.ranges[i].first <= s.ranges[i-1].last+1 {
				t.Fatalf("ranges touch or overlap: %v", s.ranges)
			}
		}
		if s.close(); !s.whole() || len(want) > 0 && (!s.has(lowest) || !s.has(highest) || s.has(lowest-1) || s.has(highest+1)) {
			t.Fatalf("after closing: %v", s.ranges)
		}
	})
}
