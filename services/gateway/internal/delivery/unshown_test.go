package delivery

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/axpchat/connector/services/gateway/internal/unshown"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

// TestAnEventWhoseMakingPanicsIsToldOf: after some tries, in its place, to everybody
// who follows the session, and again to who comes back before it. Nobody is sent away.
func TestAnEventWhoseMakingPanicsIsToldOf(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	publish(t, b, "s1", "0", "before")
	var tries atomic.Int64
	e.render = func(s bus.StoredEvent, epoch string, key bus.SessionKey) item {
		if s.Record.GetEvent().GetEventId() == "poison" {
			tries.Add(1)
			s.Record.GetEvent().SessionId = "half made"
			panic("poison")
		}
		return newItem(s, epoch, key)
	}
	read := func(s *Subscription, live bool) {
		t.Helper()
		if live {
			publish(t, b, "s1", "poison", "live")
			publish(t, b, "s1", "1", "live")
		}
		ev := next(t, s)
		if ev.GetUnshown().GetKind() != "message_arrived" || ev.GetSessionId() != "s1" || ev.GetCursor() != s.Cursor() || ev.GetMessageArrived() != nil {
			t.Fatalf("got %v at %s", ev, s.Cursor())
		}
		if ev := next(t, s); ev.GetEventId() != "1" {
			t.Fatalf("then got %v", ev)
		}
	}
	s := attach(t, e, "s1", "")
	next(t, s)
	<-s.CaughtUp()
	at := s.Cursor()
	read(s, true)
	if n := tries.Load(); n != unshown.Tries {
		t.Errorf("tried %d times, want %d", n, unshown.Tries)
	}
	read(attach(t, e, "s1", at), false)
}

// TestAPassOverTheJournalPassesWhatCannotBeRead: of many who come back at once nobody
// is kept from going on.
func TestAPassOverTheJournalPassesWhatCannotBeRead(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	info, err := b.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var part []reading
	for i := range 3 {
		session := fmt.Sprint("s", i)
		s := newSubscription(e, Request{Session: bus.SessionKey{Account: account, Session: session}}, cursor{epoch: info.Epoch}, nil)
		t.Cleanup(s.cancel)
		publish(t, b, session, "0", "")
		if _, err := b.JS.Publish(t.Context(), bus.EventSubject(account, session), []byte("\xff\xff")); err != nil {
			t.Fatal(err)
		}
		part = append(part, reading{sub: s, last: publish(t, b, session, "1", "")})
	}
	if err := e.scan(part); err != nil {
		t.Fatal(err)
	}
	for _, r := range part {
		if a, u, z := next(t, r.sub), next(t, r.sub), next(t, r.sub); a.GetEventId() != "0" || u.GetUnshown() == nil || z.GetEventId() != "1" {
			t.Errorf("got %v, %v and %v", a, u, z)
		}
	}
}
