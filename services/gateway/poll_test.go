package gateway_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

// TestPollsSayThatTheSessionIsClosed with its last events and not before, and behind
// them no faster than the client asks.
func TestPollsSayThatTheSessionIsClosed(t *testing.T) {
	t.Run("alone", func(t *testing.T) { pollsToTheEnd(t, start(t, nil)) })
	t.Run("joined to another one", func(t *testing.T) {
		s := start(t, nil)
		s.session("owner")
		pollsToTheEnd(t, s, "owner.e-owner")
	})
}

func pollsToTheEnd(t *testing.T, s *suite, joined ...string) {
	s.session("s1")
	if _, err := s.bus.Sessions.Modify(t.Context(), bus.SessionKeyOf(account, "s1"), func(rec *busv1.SessionRecord) error {
		rec.Joined = joined
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	tok := token(t, subject, nil)
	poll := func(cursor, wait string, most int) *axpchatv1.PollEventsResponse {
		t.Helper()
		a := s.call(http.MethodGet, s.url("s1", fmt.Sprintf("/events:poll?cursor=%s&wait=%s&maxEvents=%d", cursor, wait, most)), tok, "")
		out := &axpchatv1.PollEventsResponse{}
		if err := protojson.Unmarshal([]byte(a.body), out); err != nil || a.status != http.StatusOK {
			t.Fatalf("%d %s: %v", a.status, a.body, err)
		}
		return out
	}
	s.say("s1", "a", "")
	open := poll("", "0s", 0)
	if len(open.GetEvents()) != 1 || open.GetClose() != nil {
		t.Fatalf("while it is open: %v", open)
	}

	// The end comes while the client waits.
	ended := make(chan *axpchatv1.PollEventsResponse, 1)
	before := s.bus.NC.NumSubscriptions()
	go func() { ended <- poll(open.GetCursor(), "20s", 0) }()
	waitFollowed(t, s, before)
	s.publish("s1", closedEvent("s1"))
	if got := <-ended; len(got.GetEvents()) != 1 || got.GetClose().GetCode() != axpchatv1.CloseCode_CLOSE_CODE_SESSION_CLOSED ||
		got.GetClose().GetReconnect() || got.GetClose().GetCursor() != got.GetCursor() {
		t.Fatalf("at the end: %v", got)
	}

	if _, err := s.bus.Sessions.Modify(t.Context(), bus.SessionKeyOf(account, "s1"), func(rec *busv1.SessionRecord) error {
		rec.Session.Status = axpchatv1.SessionStatus_SESSION_STATUS_CLOSED
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	first := poll("", "20s", 1)
	if len(first.GetEvents()) != 1 || !first.GetMore() || first.GetClose() != nil {
		t.Fatalf("with more to come: %v", first)
	}
	last := poll(first.GetCursor(), "20s", 1)
	for last.GetClose() == nil && len(last.GetEvents()) > 0 {
		last = poll(last.GetCursor(), "0s", 1)
	}
	if last.GetClose() == nil {
		t.Fatalf("after all events: %v", last)
	}
	began := time.Now()
	if got := poll(last.GetCursor(), "1s", 0); got.GetClose() == nil || len(got.GetEvents()) > 0 || got.GetCursor() != last.GetCursor() {
		t.Fatalf("behind the end: %v", got)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("a poll behind the end took %v, not the second that was asked for", took)
	}
	if got := poll(last.GetCursor(), "0s", 0); got.GetClose() == nil {
		t.Errorf("without a wait: %v", got)
	}
}
