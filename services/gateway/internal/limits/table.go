package limits

import (
	"sync"
	"time"
)

// table holds the buckets and open streams of one scope, by keyed hashes: it
// holds nobody's name, and nobody can choose whose key to hit. It is safe for
// concurrent use.
//
// Buckets live in two generations. When the young one has half of what is
// allowed it becomes the old one, and what nobody has asked for since goes: that
// forgets whom nobody has seen for longest, without a list to keep in order.
type table struct {
	rates rates
	limit int // of open streams; 0: none
	size  int

	mu         sync.Mutex
	young, old map[uint64]buckets
	open       map[uint64]int32 // streams; as many entries as there are streams at most
}

func newTable(r rates, streams, size int) *table {
	return &table{rates: r, limit: streams, size: size, young: map[uint64]buckets{}, open: map[uint64]int32{}}
}

// take takes all of it or nothing; wait says how long to wait then.
func (t *table) take(now int64, key uint64, c *Cost) (Kind, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.young[key]
	if !ok {
		b = t.old[key]
	}
	kind, wait := b.take(now, &t.rates, c)
	t.keep(key, b, !ok)
	return kind, wait
}

func (t *table) keep(key uint64, b buckets, news bool) {
	if news && len(t.young) >= t.size/2 {
		t.young, t.old = map[uint64]buckets{}, t.young
	}
	t.young[key] = b
}

// giveBack undoes take.
func (t *table) giveBack(key uint64, c *Cost) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, all := range []map[uint64]buckets{t.young, t.old} {
		if b, ok := all[key]; ok {
			b.giveBack(&t.rates, c)
			all[key] = b
			return
		}
	}
}

// enter counts a stream in, unless there are too many.
func (t *table) enter(key uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.open[key]
	if t.limit > 0 && int(n) >= t.limit {
		return false
	}
	t.open[key] = n + 1
	return true
}

// leave counts a stream out.
func (t *table) leave(key uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.open[key]; n > 1 {
		t.open[key] = n - 1
	} else {
		delete(t.open, key)
	}
}
