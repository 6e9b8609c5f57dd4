package delivery

import (
	"fmt"
	"testing"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

// ends waits for a subscription to end by itself.
func ends(t testing.TB, s *Subscription) axpchatv1.CloseCode {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		if code, ended := s.End(); ended {
			return code
		}
		if ev, ok := s.Take(); ok {
			t.Fatalf("an event, where the subscription should end: %v", ev)
		}
		select {
		case <-s.Wake():
		case <-late:
			t.Fatal("the subscription goes on")
		}
	}
}

func joined(t testing.TB, e *Engine, session, at string) *Subscription {
	t.Helper()
	s, err := e.Attach(t.Context(), Request{
		Session: bus.SessionKey{Account: account, Session: session}, Cursor: at, Created: time.Now(),
		Joined: []Joined{{Session: bus.SessionKey{Account: account, Session: "owner"}, Engagement: "e1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestClientsOfAJournalThatIsMadeAnewAreSentBack: a journal that was deleted begins
// at 1 again. Who follows it must learn that, and not wait until the new one has
// come as far as the old one had.
func TestClientsOfAJournalThatIsMadeAnewAreSentBack(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	for i := range 3 {
		publish(t, b, "s1", fmt.Sprint("old-", i), "")
	}
	alone, merged := attach(t, e, "s1", ""), joined(t, e, "s1", "")
	for _, s := range []*Subscription{alone, merged} {
		for range 3 {
			next(t, s)
		}
		<-s.CaughtUp()
	}
	if err := b.JS.DeleteStream(t.Context(), bus.EventsStream); err != nil {
		t.Fatal(err)
	}
	if err := b.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "s1", "new", "")
	for name, s := range map[string]*Subscription{"alone": alone, "merged": merged} {
		if code := ends(t, s); code != axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE {
			t.Errorf("%s: ended with %v", name, code)
		}
	}
	late := attach(t, e, "s2", "")
	<-late.CaughtUp()
	for name, again := range map[string]*Subscription{"alone": attach(t, e, "s1", alone.Cursor()), "merged": joined(t, e, "s1", merged.Cursor())} {
		if got := again.Reset().GetReason(); got != axpchatv1.ResetReason_RESET_REASON_OTHER_EPOCH {
			t.Errorf("%s: reset %v", name, got)
		}
		if ev := next(t, again); ev.GetEventId() != "new" || ev.GetSequence() != 1 {
			t.Errorf("%s: event %v", name, ev)
		}
	}
	// The tail of the new one is looked at, whatever the old one's was.
	if err := late.feed.sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	publish(t, b, "s2", "lost", "")
	if ev := next(t, late); ev.GetEventId() != "lost" {
		t.Errorf("event %v", ev)
	}
}

// TestClosingEndsThoseThatFollowSeveralJournals like all others.
func TestClosingEndsThoseThatFollowSeveralJournals(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	s := joined(t, e, "s1", "")
	<-s.CaughtUp()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if code := ends(t, s); code != axpchatv1.CloseCode_CLOSE_CODE_SERVER_SHUTDOWN {
		t.Errorf("ended with %v", code)
	}
}
