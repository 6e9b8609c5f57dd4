package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
)

// due takes the next timer that comes due within a time.
func due(t *testing.T, b *bus.Bus, within time.Duration) (bus.Timer, bool) {
	t.Helper()
	c, err := b.JS.Consumer(t.Context(), bus.TimersStream, bus.TimersConsumer)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(within))
	if err != nil {
		return bus.Timer{}, false
	}
	timer, ok := bus.ParseTimer(m.Subject())
	if !ok {
		t.Fatalf("subject %s", m.Subject())
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	return timer, true
}

func setTimer(t *testing.T, b *bus.Bus, timer bus.Timer, in time.Duration) {
	t.Helper()
	if err := b.SetTimer(t.Context(), timer, time.Now().Add(in)); err != nil {
		t.Fatal(err)
	}
}

func TestATimerComesDueOnceAtTheTimeThatWasSetLast(t *testing.T) {
	b := bustest.Start(t)
	timer := bus.Timer{Kind: "idle", Account: "ABCDEF", Session: "s1"}
	begin := time.Now()
	setTimer(t, b, timer, time.Hour)
	setTimer(t, b, timer, 300*time.Millisecond)
	if has, err := b.HasTimer(t.Context(), timer); err != nil || !has {
		t.Errorf("set: %v, %v", has, err)
	}
	got, ok := due(t, b, 5*time.Second)
	if took := time.Since(begin); !ok || got != timer || took < 300*time.Millisecond {
		t.Errorf("got %v, %v after %v", got, ok, took)
	}
	if has, err := b.HasTimer(t.Context(), timer); err != nil || has {
		t.Errorf("when it has come due: %v, %v", has, err)
	}
	if again, ok := due(t, b, 700*time.Millisecond); ok {
		t.Errorf("%v came due again", again)
	}
	s, err := b.JS.Stream(t.Context(), bus.TimersStream)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := s.Info(t.Context()); err != nil || info.State.Msgs != 0 {
		t.Errorf("left over: %v, %v", info.State, err)
	}
	if err := b.SetTimer(t.Context(), bus.Timer{Kind: "idle", Account: "ABCDEF", Session: "*"}, time.Now()); err == nil {
		t.Error("a wildcard as session")
	}
}

func TestATimerSurvivesARestartOfNATS(t *testing.T) {
	dir := t.TempDir()
	open := func() (*natsembed.Server, *bus.Bus) {
		s, err := natsembed.Start(dir, natsembed.Options{Name: "test"})
		if err != nil {
			t.Fatal(err)
		}
		return s, bustest.Connect(t, s, bustest.Config())
	}
	s, b := open()
	timer := bus.Timer{Kind: "idle", Account: "ABCDEF", Session: "s1"}
	setTimer(t, b, timer, 200*time.Millisecond)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	s, b = open()
	t.Cleanup(s.Shutdown)
	if got, ok := due(t, b, 5*time.Second); !ok || got != timer {
		t.Errorf("got %v, %v", got, ok)
	}
}

func TestPresenceIsToldByWhoServesTheClient(t *testing.T) {
	b := bustest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if here, err := b.Present(ctx, "ABCDEF", "s1"); err != nil || here {
		t.Errorf("without gateways: %v, %v", here, err)
	}
	for _, mine := range []string{"s1", "s2"} { // two gateways
		stop, err := b.AnswerPresence(func(k bus.SessionKey) bool { return k == bus.SessionKey{Account: "ABCDEF", Session: mine} })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
	}
	for session, want := range map[string]bool{"s1": true, "s2": true, "s3": false} {
		if here, err := b.Present(ctx, "ABCDEF", session); err != nil || here != want {
			t.Errorf("%s: %v, %v", session, here, err)
		}
	}
}

// TestATimerIsPostponedUnlessItWasSetAnew: what came due in vain comes again, and
// knows how often it did; but what was set meanwhile stays.
func TestATimerIsPostponedUnlessItWasSetAnew(t *testing.T) {
	b := bustest.Start(t)
	timer := bus.Timer{Kind: "idle", Account: "ABCDEF", Session: "s1"}
	postpone := func(in time.Duration, tries int) {
		t.Helper()
		if err := b.PostponeTimer(t.Context(), timer, time.Now().Add(in), tries); err != nil {
			t.Fatal(err)
		}
	}
	next := func(want int) {
		t.Helper()
		c, err := b.JS.Consumer(t.Context(), bus.TimersStream, bus.TimersConsumer)
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if got := bus.TimerTries(m.Headers()); got != want {
			t.Errorf("came due in vain %d times, want %d", got, want)
		}
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	postpone(100*time.Millisecond, 3)
	next(3)
	setTimer(t, b, timer, 200*time.Millisecond)
	postpone(time.Hour, 4)
	next(0)
}
