package delivery

import (
	"context"
	"fmt"
	"testing"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

// TestAnEventThatPanicsEndsOneSubscription: neither the pod nor another client of the
// same session, and the one that it ends has lost nothing.
func TestAnEventThatPanicsEndsOneSubscription(t *testing.T) {
	b := bustest.Start(t)
	e := startEngine(t, b, testConfig())
	publish(t, b, "s1", "0", "before")
	broken, other := attach(t, e, "s1", ""), attach(t, e, "s1", "")
	for _, s := range []*Subscription{broken, other} {
		next(t, s)
		<-s.CaughtUp()
	}
	at := broken.Cursor()
	broken.mu.Lock()
	broken.splice.emit = func(item) { panic("poison") }
	broken.mu.Unlock()
	for i := range 20 {
		publish(t, b, "s1", fmt.Sprint(i+1), "live")
	}
	for i := range 20 {
		if ev := next(t, other); ev.GetEventId() != fmt.Sprint(i+1) {
			t.Fatalf("the other one got %s after %d", ev.GetEventId(), i)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if code, ended := broken.End(); ended {
			if code != axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE || broken.Cursor() != at {
				t.Errorf("ended with %v at %s, want %s", code, broken.Cursor(), at)
			}
			break
		}
		select {
		case <-broken.Wake():
		case <-ctx.Done():
			t.Fatal("the broken one did not end")
		}
	}
	again := attach(t, e, "s1", at)
	for i := range 20 {
		if ev := next(t, again); ev.GetEventId() != fmt.Sprint(i+1) {
			t.Fatalf("who comes back got %s after %d", ev.GetEventId(), i)
		}
	}
}
