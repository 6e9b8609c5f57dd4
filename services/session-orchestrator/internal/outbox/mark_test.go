package outbox

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

func TestWhatWasStoredBeforeAMark(t *testing.T) {
	t.Parallel()
	moment := time.Now()
	m := mark{sequence: 10, at: moment}
	for name, test := range map[string]struct {
		mark     mark
		sequence uint64
		stored   time.Time
		want     bool
	}{
		"before":                          {m, 9, moment.Add(-time.Second), true},
		"the last":                        {m, 10, moment.Add(-time.Nanosecond), true},
		"after":                           {m, 11, moment, false},
		"before, by a clock that is fast": {m, 9, moment.Add(time.Hour), true},
		"after, by a clock that is slow":  {m, 11, moment.Add(-time.Hour), true}, // looked at for nothing
		"before, and the sequence was an older one": {mark{sequence: 5, at: moment}, 9, moment.Add(-time.Second), true},
		"the moment is not known":                   {everything(), 1 << 60, moment.Add(time.Hour), true},
		"there was no moment":                       {mark{}, 1, moment, false},
	} {
		md := &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: test.sequence}, Timestamp: test.stored}
		if got := test.mark.covers(md); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// looker notes which messages it was told to look for, once it may go on.
type looker struct {
	gate chan struct{}

	mu   sync.Mutex
	olds map[string]bool
}

func (l *looker) Work(ctx context.Context, it *Item) error {
	select {
	case <-l.gate:
	case <-ctx.Done():
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.olds[it.Entry.GetMessage().GetMessageId()] = it.delivery.old
	return nil
}

// TestClocksOfServersDoNotHideWhatAFormerOwnerHad: the server that the tenure's begin
// was asked of is an hour behind the one that stored the messages. By their times
// all are new.
func TestClocksOfServersDoNotHideWhatAFormerOwnerHad(t *testing.T) {
	s := bustest.Server(t)
	l := &looker{gate: make(chan struct{}), olds: map[string]bool{}}
	a := start(t, s, l)
	publish(t, a.bus, 3, 6, "before")
	await.Until(t, "the messages are held", func() bool { return a.holds() == 6 })
	for _, p := range a.all() {
		p.handling.Lock()
		if p.pin != "" {
			p.reset("test")
			p.began.at = p.began.at.Add(-time.Hour)
		}
		p.handling.Unlock()
	}
	close(l.gate)
	await.Until(t, "all are worked", func() bool { return stored(t, a.bus) == 0 })
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range []string{"before-0", "before-1", "before-2", "before-3", "before-4", "before-5"} {
		if !l.olds[id] {
			t.Errorf("%s was stored before the tenure and is not looked for", id)
		}
	}
}

// TestALeaderThatIsBehindSaysNothingOfTheTenure: it knows of less than was delivered.
func TestALeaderThatIsBehindSaysNothingOfTheTenure(t *testing.T) {
	t.Parallel()
	p := &partition{partitionParams: partitionParams{Bus: bustest.Start(t)}}
	put(t, p.Bus, "session", "m")
	info := &jetstream.ConsumerInfo{TimeStamp: time.Now(), Delivered: jetstream.SequenceInfo{Stream: 1}}
	if got := p.mark(t.Context(), info); got.sequence != 1 {
		t.Errorf("the mark is at %d, want 1", got.sequence)
	}
	info.Delivered.Stream = 2
	if got := p.mark(t.Context(), info); got != everything() {
		t.Errorf("the mark is at %d, want everything", got.sequence)
	}
	if sequence, err := p.Bus.LastOutbox(t.Context()); err != nil || sequence != 1 {
		t.Errorf("the last sequence is %d, %v", sequence, err)
	}
}
