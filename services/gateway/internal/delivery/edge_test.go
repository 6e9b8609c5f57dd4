package delivery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

// drop removes what is before a sequence from the journal, as its limits do.
func drop(t testing.TB, b *bus.Bus, before uint64) {
	t.Helper()
	stream, err := b.JS.Stream(t.Context(), bus.EventsStream)
	if err == nil {
		err = stream.Purge(t.Context(), jetstream.WithPurgeSequence(before))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestWhatTheJournalDropsDuringACatchUpIsToldByAReset: the client reads slowly what
// the journal is about to drop. It must not be shown what comes after the hole as
// if there were none.
func TestWhatTheJournalDropsDuringACatchUpIsToldByAReset(t *testing.T) {
	b := bustest.Start(t)
	cfg := testConfig()
	cfg.QueueBytes = minQueueBytes
	e := startEngine(t, b, cfg)
	born := time.Now().Add(-time.Hour)
	text := string(make([]byte, 1000))
	const events = 2 * readBatch
	for i := range events {
		publish(t, b, "s1", fmt.Sprint(i), text)
	}
	publish(t, b, "s2", "somebody else's", "")
	key := bus.SessionKey{Account: account, Session: "s1"}
	s, err := e.Attach(t.Context(), Request{Session: key, Created: born})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first := next(t, s) // the queue is full: what comes after the batch has not been read
	drop(t, b, events-10)
	seen := first.GetSequence()
	for ended := false; !ended; {
		if ev, ok := s.Take(); ok {
			if ev.GetSequence() != seen+1 {
				t.Fatalf("event %d came after %d without a word", ev.GetSequence(), seen)
			}
			seen = ev.GetSequence()
			continue
		}
		if _, ended = s.End(); !ended {
			<-s.Wake()
		}
	}
	again, err := e.Attach(t.Context(), Request{Session: key, Created: born, Cursor: s.Cursor()})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := again.Reset().GetReason(); got != axpchatv1.ResetReason_RESET_REASON_CURSOR_TOO_OLD {
		t.Fatalf("reset %v", got)
	}
	for i := events - 10; i <= events; i++ {
		if ev := next(t, again); ev.GetSequence() != uint64(i) {
			t.Fatalf("event %d, want %d", ev.GetSequence(), i)
		}
	}
}

// TestTheCursorAtTheJournalsEdgeIsJudgedWhenItIsRead: what Attach knows of the
// journal may be a second old.
func TestTheCursorAtTheJournalsEdgeIsJudgedWhenItIsRead(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	born := time.Now().Add(-time.Hour)
	for i := range 10 {
		publish(t, b, "s1", fmt.Sprint(i), "")
	}
	key := bus.SessionKey{Account: account, Session: "s1"}
	for name, joins := range map[string][]Joined{"alone": nil, "merged": {{Session: bus.SessionKey{Account: account, Session: "owner"}, Engagement: "e1"}}} {
		t.Run(name, func(t *testing.T) {
			all, err := e.Read(t.Context(), Request{Session: key, Created: born}, 20)
			if err != nil || len(all.Events) < 5 {
				t.Fatalf("read %d events, %v", len(all.Events), err)
			}
			at := all.Events[1].GetCursor()
			if _, err := b.Journal(t.Context()); err != nil { // known as it is now
				t.Fatal(err)
			}
			drop(t, b, all.Events[3].GetSequence()+1)
			s, err := e.Attach(t.Context(), Request{Session: key, Created: born, Cursor: at, Joined: joins})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.Reset() == nil {
				ends(t, s)
			}
		})
	}
	t.Run("read", func(t *testing.T) {
		all, err := e.Read(t.Context(), Request{Session: key, Created: born}, 20)
		if err != nil || len(all.Events) < 2 {
			t.Fatalf("read %d events, %v", len(all.Events), err)
		}
		at := all.Events[0].GetCursor()
		publish(t, b, "s1", "last", "")
		if _, err := b.Journal(t.Context()); err != nil {
			t.Fatal(err)
		}
		drop(t, b, all.Events[len(all.Events)-1].GetSequence()+1)
		page, err := e.Read(t.Context(), Request{Session: key, Created: born, Cursor: at}, 20)
		if err != nil {
			t.Fatal(err)
		}
		if page.Reset.GetReason() != axpchatv1.ResetReason_RESET_REASON_CURSOR_TOO_OLD || len(page.Events) != 1 || page.Events[0].GetEventId() != "last" {
			t.Fatalf("reset %v, events %v", page.Reset, page.Events)
		}
	})
}

// TestTheCursorOfAResetIsGood: who comes back with it is not reset again, neither
// where something is left of the session nor where nothing is.
func TestTheCursorOfAResetIsGood(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	born := time.Now().Add(-time.Hour)
	publish(t, b, "s1", "old", "")
	publish(t, b, "s2", "old", "")
	keys := map[string]bus.SessionKey{"something is left": {Account: account, Session: "s1"}, "nothing is left": {Account: account, Session: "s2"}}
	old := map[string]string{}
	for name, key := range keys {
		page, err := e.Read(t.Context(), Request{Session: key, Created: born}, 10)
		if err != nil {
			t.Fatal(err)
		}
		old[name] = page.Cursor
	}
	last := publish(t, b, "s3", "others'", "")
	for range 5 {
		last = publish(t, b, "s3", fmt.Sprint("others' ", last), "")
	}
	publish(t, b, "s1", "kept", "")
	drop(t, b, last)
	waitForFirst(t, b)
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			s, err := e.Attach(t.Context(), Request{Session: key, Created: born, Cursor: old[name]})
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			if got := s.Reset().GetReason(); got != axpchatv1.ResetReason_RESET_REASON_CURSOR_TOO_OLD {
				t.Fatalf("reset %v", got)
			}
			page, err := e.Read(t.Context(), Request{Session: key, Created: born, Cursor: s.Reset().GetCursor()}, 10)
			if err != nil || page.Reset != nil {
				t.Fatalf("come back with the cursor of the reset: reset %v, error %v", page.Reset, err)
			}
			if want := map[string]int{"something is left": 1}[name]; len(page.Events) != want {
				t.Fatalf("%d events, want %d", len(page.Events), want)
			}
		})
	}
}

// TestAPassOverTheJournalServesNobodyBehindAHole: who has lost events to the journal's
// limits is left to read alone.
func TestAPassOverTheJournalServesNobodyBehindAHole(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	born := time.Now().Add(-time.Hour)
	var part []reading
	var last uint64
	for i := range 4 {
		for j := range 3 {
			last = publish(t, b, fmt.Sprint("s", i), fmt.Sprint("e", i, "-", j), "")
		}
	}
	info, err := b.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		key := bus.SessionKey{Account: account, Session: fmt.Sprint("s", i)}
		at := cursor{epoch: info.Epoch, tag: sessionTag(key), sequence: uint64(3*i) + 1}
		s := newSubscription(e, Request{Session: key, Created: born, Cursor: at.String()}, at, nil)
		defer s.Close()
		part = append(part, reading{sub: s, at: at.sequence, last: last})
	}
	slices.Reverse(part)
	drop(t, b, 6) // of the first all, of the second one too many
	if err := e.scan(part); err != nil {
		t.Fatal(err)
	}
	for _, r := range part {
		want := []uint64{r.at + 1, r.at + 2}
		if r.at < 6 {
			want = nil
		}
		var got []uint64
		for ev, ok := r.sub.Take(); ok; ev, ok = r.sub.Take() {
			got = append(got, ev.GetSequence())
		}
		if !slices.Equal(got, want) {
			t.Errorf("after %d: got %v, want %v", r.at, got, want)
		}
	}
}
