package delivery

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world is the reference: a journal that everything is in, live copies of which
// any may be lost, replicas of the journal that lag behind, and a client that
// comes and goes with its cursor.
type world struct {
	journal []uint64 // sequences of the session
	next    uint64   // of the stream, which other sessions share
	flying  []item   // live copies under way, in order
	seen    []uint64 // by the client, over all its attaches
	splice  splice
	reading bool   // the catch-up has not come to the end of its replica yet
	horizon uint64 // what the replica that is read holds
}

func (w *world) attach() {
	last := uint64(0)
	if len(w.seen) > 0 {
		last = w.seen[len(w.seen)-1]
	}
	w.splice = splice{last: last, emit: func(it item) { w.seen = append(w.seen, it.sequence) }}
	w.flying = nil // a new subscription gets no old copies
	w.reading = false
}

// read is one batch of a catch-up, from a replica that may lag.
func (w *world) read(size int) {
	if !w.reading {
		return
	}
	i, _ := slices.BinarySearch(w.journal, w.splice.last+1)
	for ; i < len(w.journal) && w.journal[i] <= w.horizon; i++ {
		if size == 0 {
			return
		}
		size--
		w.splice.advance(item{sequence: w.journal[i], bytes: 100})
	}
	w.reading = false
	w.splice.settle()
}

// begin starts the next read of a catch-up at some replica.
func (w *world) begin(horizon uint64) {
	if !w.splice.live && !w.reading {
		w.reading, w.horizon = true, horizon
	}
}

func (w *world) check(t *rapid.T) {
	if len(w.seen) > len(w.journal) || !slices.Equal(w.seen, w.journal[:len(w.seen)]) {
		t.Fatalf("the client saw %v of the journal %v", w.seen, w.journal)
	}
}

func TestSpliceNeitherLosesNorRepeatsNorReorders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{}
		w.attach()
		t.Repeat(map[string]func(*rapid.T){
			"": w.check,
			"publish": func(t *rapid.T) {
				w.next += uint64(rapid.IntRange(1, 4).Draw(t, "others"))
				it := item{sequence: w.next, bytes: rapid.SampledFrom([]int{100, 3000}).Draw(t, "bytes")}
				if len(w.journal) > 0 {
					it.previous = w.journal[len(w.journal)-1]
				}
				w.journal = append(w.journal, it.sequence)
				if !rapid.Bool().Draw(t, "lost") {
					w.flying = append(w.flying, it)
				}
			},
			"live": func(t *rapid.T) {
				if len(w.flying) == 0 {
					t.Skip("nothing is under way")
				}
				it := w.flying[0]
				w.flying = w.flying[1:]
				w.splice.offer(it)
			},
			"begin read": func(t *rapid.T) { w.begin(rapid.Uint64Range(0, w.next).Draw(t, "horizon")) },
			"read":       func(t *rapid.T) { w.read(rapid.IntRange(1, 3).Draw(t, "batch")) },
			"tail check": func(t *rapid.T) {
				if len(w.journal) > 0 {
					newest := rapid.SampledFrom(w.journal).Draw(t, "newest of a replica")
					w.splice.behind(newest)
				}
			},
			"reattach": func(*rapid.T) { w.attach() },
		})
		// Once everything is quiet, a catch-up and a look at the tail show all.
		for range 3 {
			w.begin(w.next)
			w.read(len(w.journal))
		}
		if len(w.journal) > 0 {
			w.splice.behind(w.journal[len(w.journal)-1])
		}
		for range 3 {
			w.begin(w.next)
			w.read(len(w.journal))
		}
		if !slices.Equal(w.seen, w.journal) {
			t.Fatalf("at rest the client has seen %v of the journal %v", w.seen, w.journal)
		}
	})
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	q := queue{limit: 100}
	if !q.push(item{sequence: 1, bytes: 500}) {
		t.Fatal("an empty queue must take an event that is larger than itself")
	}
	if q.push(item{sequence: 2, bytes: 1}) {
		t.Fatal("a full queue must refuse")
	}
	if it, ok := q.pop(); !ok || it.sequence != 1 {
		t.Fatalf("pop = %v, %v", it, ok)
	}
	for seq := uint64(2); seq < 12; seq++ {
		if !q.push(item{sequence: seq, bytes: 10}) {
			t.Fatalf("event %d does not fit", seq)
		}
	}
	if q.push(item{bytes: 1}) {
		t.Fatal("the bound is not kept")
	}
}
