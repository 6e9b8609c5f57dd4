package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

const account = "ABCDEF"

func testConfig() Config {
	return Config{QueueBytes: 256 << 10, TailCheck: 50 * time.Millisecond, CatchUps: 4, StallTimeout: 5 * time.Second, GiveUp: 10 * time.Second}
}

func startEngine(t testing.TB, b *bus.Bus, cfg Config) *Engine {
	t.Helper()
	e, err := New(Params{Config: cfg, Bus: b, Log: slog.New(slog.DiscardHandler), Meter: noop.NewMeterProvider()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return e
}

func publish(t testing.TB, b *bus.Bus, session, id, text string) uint64 {
	t.Helper()
	ack, err := b.PublishEvent(t.Context(), &busv1.EventRecord{Account: account, Event: &axpchatv1.Event{
		EventId: id, SessionId: session,
		Payload: &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{
			MessageId: id, Body: &axpchatv1.MessageBody{ElementText: &axpchatv1.ElementText{Text: text}},
		}},
	}})
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	return ack.Sequence
}

func attach(t testing.TB, e *Engine, session, at string) *Subscription {
	t.Helper()
	s, err := e.Attach(t.Context(), Request{Session: bus.SessionKey{Account: account, Session: session}, Cursor: at, Created: time.Now()})
	if err != nil {
		t.Fatalf("attach: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// next waits for an event.
func next(t testing.TB, s *Subscription) *axpchatv1.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if ev, ok := s.Take(); ok {
			return ev
		}
		if code, ended := s.End(); ended {
			t.Fatalf("the subscription ended: %v", code)
		}
		select {
		case <-s.Wake():
		case <-ctx.Done():
			t.Fatal("no event in time")
		}
	}
}

func TestAttachReadsTheJournalAndThenLive(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	publish(t, b, "s1", "a", "before")
	publish(t, b, "s2", "x", "somebody else's")
	publish(t, b, "s1", "b", "before")
	s := attach(t, e, "s1", "")
	other := attach(t, e, "s1", "")
	for _, sub := range []*Subscription{s, other} {
		for _, want := range []string{"a", "b"} {
			if ev := next(t, sub); ev.GetEventId() != want {
				t.Fatalf("event %q, want %q", ev.GetEventId(), want)
			}
		}
		<-sub.CaughtUp()
	}
	seq := publish(t, b, "s1", "c", "live")
	for _, sub := range []*Subscription{s, other} {
		ev := next(t, sub)
		if ev.GetEventId() != "c" || ev.GetSequence() != seq || ev.GetCursor() != sub.Cursor() {
			t.Fatalf("event %v at cursor %q", ev, sub.Cursor())
		}
	}
	again := attach(t, e, "s1", s.Cursor())
	<-again.CaughtUp()
	if ev, ok := again.Take(); ok {
		t.Fatalf("resumed after everything, but got %v", ev)
	}
	publish(t, b, "s1", "d", "live")
	if ev := next(t, again); ev.GetEventId() != "d" {
		t.Fatalf("event %q, want d", ev.GetEventId())
	}
}

func TestCursorsThatCannotBeHonoured(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	for i := range 3 {
		publish(t, b, "s1", fmt.Sprint("old", i), "")
	}
	first := attach(t, e, "s1", "")
	old := next(t, first).GetCursor()
	foreign := attach(t, e, "s2", "").Start()
	here, _ := parseCursor(old)

	stream, err := b.JS.Stream(t.Context(), bus.EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "s1", "new", "")
	waitForFirst(t, b)

	cases := []struct {
		name    string
		cursor  string
		created time.Time
		want    axpchatv1.ResetReason
	}{
		{"a cursor whose followers are gone", old, time.Time{}, axpchatv1.ResetReason_RESET_REASON_CURSOR_TOO_OLD},
		{"a cursor of a session that is younger than the oldest event", old, time.Now().Add(time.Hour), axpchatv1.ResetReason_RESET_REASON_UNSPECIFIED},
		{"a session that is younger only if all clocks are right", old, time.Now().Add(time.Minute), axpchatv1.ResetReason_RESET_REASON_CURSOR_TOO_OLD},
		{"a cursor of another session", foreign, time.Now(), axpchatv1.ResetReason_RESET_REASON_OTHER_SESSION},
		{"a cursor of another stream", cursor{"gone", here.tag, 1}.String(), time.Now(), axpchatv1.ResetReason_RESET_REASON_OTHER_EPOCH},
		{"a cursor beyond the end", cursor{here.epoch, here.tag, 1 << 40}.String(), time.Now(), axpchatv1.ResetReason_RESET_REASON_OTHER_EPOCH},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, err := e.Attach(t.Context(), Request{Session: bus.SessionKey{Account: account, Session: "s1"}, Cursor: c.cursor, Created: c.created})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got := s.Reset().GetReason(); got != c.want {
				t.Fatalf("reset %v, want %v", got, c.want)
			}
			if ev := next(t, s); ev.GetEventId() != "new" {
				t.Fatalf("began with %q, want what is still there", ev.GetEventId())
			}
		})
	}
	_, err = e.Attach(t.Context(), Request{Session: bus.SessionKey{Account: account, Session: "s1"}, Cursor: "rubbish"})
	if errs.From(err).Reason != axpchatv1.ErrorReason_ERROR_REASON_CURSOR_INVALID {
		t.Fatalf("attach with rubbish: %v", err)
	}
}

// waitForFirst waits until the bus no longer uses what it read of the journal
// before the purge.
// TestACursorAheadOfTheLeaderIsWaitedFor: replicas hand out events that a slow
// leader has still to apply; who has one must not be told that the journal is
// another one.
func TestACursorAheadOfTheLeaderIsWaitedFor(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	publish(t, b, "s1", "first", "")
	s := attach(t, e, "s1", "")
	at, err := parseCursor(next(t, s).GetCursor())
	if err != nil {
		t.Fatal(err)
	}
	at.sequence++ // of an event that the leader does not show yet
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		<-time.After(300 * time.Millisecond)
		publish(t, b, "s1", "second", "")
	})
	page, err := e.Read(t.Context(), Request{Session: bus.SessionKey{Account: account, Session: "s1"}, Cursor: at.String(), Created: time.Now()}, 10)
	if err != nil || page.Reset != nil {
		t.Fatalf("reset %v, error %v", page.Reset, err)
	}
}

func waitForFirst(t testing.TB, b *bus.Bus) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if info, err := b.Journal(t.Context()); err != nil || info.First > 1 {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		<-tick.C
	}
}

func TestSlowClientIsDroppedAloneAndCanResume(t *testing.T) {
	b := bustest.Start(t)
	cfg := testConfig()
	cfg.QueueBytes, cfg.StallTimeout = minQueueBytes, 200*time.Millisecond
	e := startEngine(t, b, cfg)
	slow, quick := attach(t, e, "s1", ""), attach(t, e, "s1", "")
	<-slow.CaughtUp()
	<-quick.CaughtUp()
	const events = 60
	text := string(make([]byte, 1000))
	for i := range events {
		publish(t, b, "s1", fmt.Sprint(i), text)
		if ev := next(t, quick); ev.GetEventId() != fmt.Sprint(i) {
			t.Fatalf("the quick client got %q, want %d", ev.GetEventId(), i)
		}
	}
	taken := 0
	for ended := false; !ended; {
		var code axpchatv1.CloseCode
		if code, ended = slow.End(); ended && code != axpchatv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER {
			t.Fatalf("the slow client ended with %v", code)
		}
		if !ended {
			<-slow.Wake()
		}
	}
	for {
		ev, ok := slow.Take()
		if !ok {
			break
		}
		if ev.GetEventId() != fmt.Sprint(taken) {
			t.Fatalf("event %q, want %d", ev.GetEventId(), taken)
		}
		taken++
	}
	if taken == 0 || taken == events {
		t.Fatalf("the slow client had %d events in its queue", taken)
	}
	resumed := attach(t, e, "s1", slow.Cursor())
	for ; taken < events; taken++ {
		if ev := next(t, resumed); ev.GetEventId() != fmt.Sprint(taken) {
			t.Fatalf("after the resume: event %q, want %d", ev.GetEventId(), taken)
		}
	}
}

// TestNothingIsLostWhilePublishersRunFlatOut is the promise itself: clients that
// come and go at random, while live copies are dropped by full buffers, see every
// event once and in order.
func TestNothingIsLostWhilePublishersRunFlatOut(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	const sessions, events = 8, 400
	seed := rand.Uint64()
	t.Logf("seed %d", seed)

	var publishers, clients sync.WaitGroup
	for n := range sessions {
		session := fmt.Sprint("s", n)
		publishers.Go(func() {
			for i := range events {
				_, err := b.PublishEvent(t.Context(), &busv1.EventRecord{Account: account, Event: &axpchatv1.Event{
					EventId: fmt.Sprint(i), SessionId: session, Payload: &axpchatv1.Event_Typing{Typing: &axpchatv1.Typing{}},
				}})
				if err != nil {
					t.Errorf("publish: %v", err)
					return
				}
			}
		})
		clients.Go(func() { follow(t, e, session, events, rand.New(rand.NewPCG(seed, uint64(n)))) })
	}
	publishers.Wait()
	clients.Wait()
}

// follow reads all events of a session, leaving and coming back at random.
func follow(t *testing.T, e *Engine, session string, events int, chance *rand.Rand) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	at, want, attaches := "", 0, 0
	for want < events {
		attaches++
		s, err := e.Attach(ctx, Request{Session: bus.SessionKey{Account: account, Session: session}, Cursor: at, Created: time.Now()})
		if err != nil {
			t.Errorf("attach: %v", err)
			return
		}
		for stay := chance.IntN(60); want < events && stay > 0; {
			ev, ok := s.Take()
			if !ok {
				if code, ended := s.End(); ended {
					t.Errorf("ended: %v", code)
					s.Close()
					return
				}
				select {
				case <-s.Wake():
				case <-ctx.Done():
					t.Errorf("%s: no event %d in time", session, want)
					s.Close()
					return
				}
				continue
			}
			if ev.GetEventId() != fmt.Sprint(want) {
				t.Errorf("%s: event %s, want %d", session, ev.GetEventId(), want)
				s.Close()
				return
			}
			want++
			stay--
		}
		at = s.Cursor()
		s.Close()
	}
	t.Logf("%s: %d attaches", session, attaches)
}

func TestLiveEventsThatVanishAreFoundByTheTailCheck(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	s := attach(t, e, "s1", "")
	<-s.CaughtUp()
	// The live copy goes nowhere, as after a change of leader: the server has
	// forgotten the interest, the client has not.
	if err := s.feed.sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "s1", "a", "")
	if ev := next(t, s); ev.GetEventId() != "a" {
		t.Fatalf("event %q, want a", ev.GetEventId())
	}
}

// TestTheTailCheckLeavesOutOnlyWhoLacksNothing: sessions that were busy at the
// last look are not asked for, and yet nothing of theirs stays lost.
func TestTheTailCheckLeavesOutOnlyWhoLacksNothing(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	s := attach(t, e, "s1", "")
	<-s.CaughtUp()
	last := publish(t, b, "s1", "live", "")
	if ev := next(t, s); ev.GetEventId() != "live" {
		t.Fatalf("event %q, want live", ev.GetEventId())
	}
	if !s.feed.reached(last) || s.feed.reached(last+1) || s.feed.reached(0) {
		t.Errorf("handed on up to %d: reached(%d) = %v, reached(%d) = %v, reached(0) = %v", last,
			last, s.feed.reached(last), last+1, s.feed.reached(last+1), s.feed.reached(0))
	}
	if err := s.feed.sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		id := fmt.Sprintf("lost-%d", i)
		publish(t, b, "s1", id, "")
		if ev := next(t, s); ev.GetEventId() != id {
			t.Fatalf("event %q, want %s", ev.GetEventId(), id)
		}
	}
}

func TestReadPagesWithoutASubscription(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	key := bus.SessionKey{Account: account, Session: "s1"}
	empty, err := e.Read(t.Context(), Request{Session: key}, 10)
	if err != nil || len(empty.Events) != 0 || empty.More {
		t.Fatalf("Read of nothing = %+v, %v", empty, err)
	}
	for i := range 5 {
		publish(t, b, "s1", fmt.Sprint(i), "")
	}
	at, got := empty.Cursor, 0
	for more := true; more; {
		page, err := e.Read(t.Context(), Request{Session: key, Cursor: at, Created: time.Now()}, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range page.Events {
			if ev.GetEventId() != fmt.Sprint(got) {
				t.Fatalf("event %q, want %d", ev.GetEventId(), got)
			}
			got++
		}
		if len(page.Events) == 0 && page.Cursor != at {
			t.Fatalf("an empty page moved the cursor from %q to %q", at, page.Cursor)
		}
		at, more = page.Cursor, page.More
	}
	if got != 5 {
		t.Fatalf("read %d events, want 5", got)
	}
}
