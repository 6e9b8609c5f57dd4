package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func event(session, id string) *busv1.EventRecord {
	return &busv1.EventRecord{
		Account: "ABCDEF",
		Event: &axpchatv1.Event{
			EventId: id, SessionId: session,
			Payload: &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{MessageId: id}},
		},
	}
}

func publish(t testing.TB, b *bus.Bus, session, id string) bus.Ack {
	t.Helper()
	ack, err := b.PublishEvent(t.Context(), event(session, id))
	if err != nil {
		t.Fatalf("publish %s: %v", id, err)
	}
	return ack
}

func TestAnEventIsStoredOnceUnderItsID(t *testing.T) {
	b := bustest.Start(t)
	first, again := publish(t, b, "s1", "e1"), publish(t, b, "s1", "e1")
	if first.Duplicate || !again.Duplicate || first.Sequence != again.Sequence {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if other := publish(t, b, "s2", "e1"); other.Duplicate {
		t.Error("the same id in another session is another event")
	}
}

func TestReadEventsGivesOneSessionInOrder(t *testing.T) {
	b := bustest.Start(t)
	for i := range 10 {
		publish(t, b, "s1", fmt.Sprint("a", i))
		publish(t, b, "s2", fmt.Sprint("b", i))
	}
	var got []string
	after, more := uint64(0), true
	for more {
		var events []bus.StoredEvent
		var err error
		events, more, err = b.ReadEvents(t.Context(), "ABCDEF", "s1", after, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Sequence <= after {
				t.Fatalf("sequence %d after %d", e.Sequence, after)
			}
			after = e.Sequence
			got = append(got, e.Record.GetEvent().GetEventId())
		}
	}
	if want := "[a0 a1 a2 a3 a4 a5 a6 a7 a8 a9]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if events, more, err := b.ReadEvents(t.Context(), "ABCDEF", "nobody", 0, 10); err != nil || more || len(events) != 0 {
		t.Errorf("a session without events: %v %v %v", events, more, err)
	}
}

func TestLiveEventsNameTheirPredecessor(t *testing.T) {
	b := bustest.Start(t)
	ch := make(chan *nats.Msg, 8)
	sub, err := b.SubscribeLive("ABCDEF", "s1", ch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	if err := b.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "s1", "e1")
	publish(t, b, "s2", "other")
	publish(t, b, "s1", "e2")
	var previous uint64
	for i := range 2 {
		e, err := bus.DecodeLive(<-ch)
		if err != nil {
			t.Fatal(err)
		}
		if e.Previous != previous {
			t.Errorf("event %d: previous %d, want %d", i, e.Previous, previous)
		}
		previous = e.Sequence
	}
}

func TestLastSequencesNamesOnlySessionsWithNews(t *testing.T) {
	b := bustest.Start(t)
	publish(t, b, "old", "e1")
	since := publish(t, b, "new", "e1").Sequence
	newest := publish(t, b, "new", "e2").Sequence
	keys := []bus.SessionKey{{Account: "ABCDEF", Session: "old"}, {Account: "ABCDEF", Session: "new"}, {Account: "ABCDEF", Session: "none"}}
	got, err := b.LastSequences(t.Context(), keys, since+1)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[keys[1]] != newest {
		t.Errorf("got %v, want only %v at %d", got, keys[1], newest)
	}
}

func TestTokensThatReachOtherSessionsAreRefused(t *testing.T) {
	b := bustest.Start(t)
	for _, bad := range []string{"", "*", ">", "a.b", "a b", "ü", string(make([]byte, 65))} {
		if bus.ValidToken(bad) {
			t.Errorf("%q is taken for a token", bad)
		}
		if _, err := b.PublishEvent(t.Context(), event(bad, "e")); !errors.Is(err, bus.ErrInvalidToken) {
			t.Errorf("publish to %q: %v", bad, err)
		}
		if _, _, err := b.ReadEvents(t.Context(), "ABCDEF", bad, 0, 1); !errors.Is(err, bus.ErrInvalidToken) {
			t.Errorf("read %q: %v", bad, err)
		}
		if _, err := b.SubscribeLive("ABCDEF", bad, nil); !errors.Is(err, bus.ErrInvalidToken) {
			t.Errorf("subscribe %q: %v", bad, err)
		}
	}
}

func TestStoreCompareAndSet(t *testing.T) {
	b := bustest.Start(t)
	ctx, key := t.Context(), bus.SessionKeyOf("ABCDEF", "s1")
	if _, _, err := b.Sessions.Get(ctx, key); !errors.Is(err, bus.ErrNotFound) {
		t.Fatalf("get of a missing key: %v", err)
	}
	rev, err := b.Sessions.Create(ctx, key, &busv1.SessionRecord{Subject: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Sessions.Create(ctx, key, &busv1.SessionRecord{}); !errors.Is(err, bus.ErrExists) {
		t.Errorf("second create: %v", err)
	}
	next, err := b.Sessions.Update(ctx, key, &busv1.SessionRecord{Subject: "eve"}, rev)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Sessions.Update(ctx, key, &busv1.SessionRecord{}, rev); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("update of an old revision: %v", err)
	}
	if err := b.Sessions.Delete(ctx, key, rev); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("delete of an old revision: %v", err)
	}
	if err := b.Sessions.Delete(ctx, key, next); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, _, err := b.Sessions.Get(ctx, key); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("get after delete: %v", err)
	}
}

func TestOneOfManyDeletesSucceeds(t *testing.T) {
	b := bustest.Start(t)
	rev, err := b.Tickets.Create(t.Context(), "ticket", &busv1.TicketRecord{}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	won := 0
	for range 8 {
		wg.Go(func() {
			err := b.Tickets.Delete(t.Context(), "ticket", rev)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case !errors.Is(err, bus.ErrConflict):
				t.Errorf("delete: %v", err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d deletes succeeded, want 1", won)
	}
}

func TestModifyLosesNoUpdate(t *testing.T) {
	b := bustest.Start(t)
	key := bus.SessionKeyOf("ABCDEF", "s1")
	if _, err := b.Sessions.Create(t.Context(), key, &busv1.SessionRecord{}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 5 {
				_, err := b.Sessions.Modify(t.Context(), key, func(r *busv1.SessionRecord) error {
					r.EngagementIds = append(r.EngagementIds, fmt.Sprint(w, "-", i))
					return nil
				})
				if err != nil {
					t.Errorf("modify: %v", err)
				}
			}
		})
	}
	wg.Wait()
	r, _, err := b.Sessions.Get(t.Context(), key)
	if err != nil || len(r.GetEngagementIds()) != 40 {
		t.Errorf("%d updates kept, want 40 (%v)", len(r.GetEngagementIds()), err)
	}
	boom := errors.New("boom")
	if _, err := b.Sessions.Modify(t.Context(), key, func(*busv1.SessionRecord) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("an error of the function must come back: %v", err)
	}
}

func TestProvisionIsRepeatableAndGuardsTheStreams(t *testing.T) {
	s := bustest.Server(t)
	cfg := bustest.Config()
	b := bustest.Connect(t, s, cfg)
	if err := b.Provision(t.Context()); err != nil {
		t.Fatalf("again: %v", err)
	}
	if _, err := b.PublishOutbox(t.Context(), &busv1.OutboxEntry{Account: "ABCDEF", SessionId: "s1"}, "m1"); err != nil {
		t.Fatal(err)
	}
	other := cfg
	other.Partitions = 8
	b2, err := bus.Connect(t.Context(), bus.Params{Config: other, Name: "other", Log: slog.New(slog.DiscardHandler), Options: []nats.Option{s.InProcess()}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b2.Close() }()
	if err := b2.Provision(t.Context()); err == nil {
		t.Error("other partitions over a filled outbox must be refused: they would break order")
	}
}

func TestAServerWithoutRoomIsToldBySettings(t *testing.T) {
	ns, err := natsembed.Start(t.TempDir(), natsembed.Options{MaxStore: 128 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.Shutdown)
	cfg := bustest.Config()
	b, err := bus.Connect(t.Context(), bus.Params{Config: cfg, Name: t.Name(), Log: slog.New(slog.DiscardHandler), Options: []nats.Option{ns.InProcess()}})
	if err != nil {
		t.Fatal(err)
	}
	err = b.Provision(t.Context())
	if err == nil || !strings.Contains(err.Error(), "stream UNROUTED") || !strings.Contains(err.Error(), "UNROUTED_MAX_BYTES") {
		t.Errorf("a stream that finds no room: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	cfg.UnroutedBytes = 16 << 20
	bustest.Connect(t, ns, cfg)
}

func TestPublishGivesUpWithItsContext(t *testing.T) {
	s := bustest.Server(t)
	b := bustest.Connect(t, s, bustest.Config())
	s.Shutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := b.PublishEvent(ctx, event("s1", "e1")); err == nil {
		t.Error("nothing may be acknowledged without a server")
	}
	if b.Ready(t.Context()) == nil {
		t.Error("the bus must not be ready without a server")
	}
}

func TestPartitionIsStable(t *testing.T) {
	// FNV-1a: what was stored under a partition must be found there by every version.
	for session, want := range map[string]int{"s1": 9, "session-2": 4, "019a0000-0000-7000-8000-000000000000": 3} {
		if got := bus.Partition(session, 16); got != want {
			t.Errorf("partition of %s: %d, want %d", session, got, want)
		}
	}
}

// TestASubscriberThatPanicsMissesOneMessage and goes on with the next.
func TestASubscriberThatPanicsMissesOneMessage(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t)
	got := make(chan string, 2)
	sub, err := b.Subscribe("chat.test", func(m *nats.Msg) {
		if string(m.Data) == "poison" {
			panic("poison")
		}
		got <- string(m.Data)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for _, text := range []string{"one", "poison", "two"} {
		if err := b.NC.Publish("chat.test", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"one", "two"} {
		select {
		case text := <-got:
			if text != want {
				t.Errorf("got %s, want %s", text, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nothing came")
		}
	}
}
