package gateway_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

// garble stores what nobody can read.
func (s *suite) garble(session string) {
	s.t.Helper()
	if _, err := s.bus.JS.Publish(s.t.Context(), bus.EventSubject(account, session), []byte("\xff\xff\xff\xff")); err != nil {
		s.t.Fatal(err)
	}
}

// sayNever publishes a message of a time that JSON has no form for.
func (s *suite) sayNever(session, id string) {
	s.t.Helper()
	s.publish(session, &axpchatv1.Event{EventId: id, EngagementId: "e-" + session, Payload: &axpchatv1.Event_MessageArrived{
		MessageArrived: &axpchatv1.Message{MessageId: id, EngagementId: "e-" + session, ReceiveTime: &timestamppb.Timestamp{Seconds: 1 << 50}},
	}})
}

// wantUnshown reads the event that stands for another one, and nothing of that.
func wantUnshown(t testing.TB, f follower, session, kind string) *axpchatv1.Event {
	t.Helper()
	ev := wantEvent(t, f, "")
	if ev.GetUnshown() == nil || ev.GetUnshown().GetKind() != kind || ev.GetCursor() == "" || ev.GetSequence() == 0 || ev.GetSessionId() != session {
		t.Fatalf("got %v instead of an event that can't be shown", ev)
	}
	return ev
}

// TestAnEventThatCannotBeShownEndsNoSession: over every transport the client is told
// that there is one, in its place, gets what comes behind it, and can resume after it.
func TestAnEventThatCannotBeShownEndsNoSession(t *testing.T) {
	s := start(t, nil)
	tok := token(t, subject, nil)
	for i, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			session := fmt.Sprint("unshown-", i)
			s.session(session)
			overJSON := slices.Contains([]string{"WebSocket JSON", "SSE", "NDJSON", "long polling"}, tr.name)
			poison := func(round string) {
				s.garble(session)
				s.say(session, "between"+round, "")
				s.sayNever(session, "never"+round)
				s.say(session, "behind"+round, "")
			}
			read := func(f follower, round string) (cursors []string) {
				first := wantUnshown(t, f, session, "")
				cursors = append(cursors, first.GetCursor(), wantEvent(t, f, "between"+round).GetCursor())
				if overJSON {
					cursors = append(cursors, wantUnshown(t, f, session, "message_arrived").GetCursor())
				} else {
					cursors = append(cursors, wantEvent(t, f, "never"+round).GetCursor())
				}
				last := wantEvent(t, f, "behind"+round)
				if last.GetSequence() <= first.GetSequence() {
					t.Errorf("sequence %d after %d", last.GetSequence(), first.GetSequence())
				}
				return append(cursors, last.GetCursor())
			}
			poison("-0")
			f := mustOpen(t, s, tr, tok, session, "")
			cursors := read(f, "-0")
			poison("-1")
			read(f, "-1") // as it happens, without having been sent away
			f.leave()
			wantEvent(t, mustOpen(t, s, tr, tok, session, cursors[0]), "between-0")
			wantEvent(t, mustOpen(t, s, tr, tok, session, cursors[2]), "behind-0")
			read(mustOpen(t, s, tr, tok, session, cursors[3]), "-1")
		})
	}
}

// TestAJoinedSessionIsToldOfWhatCannotBeRead in any of the journals that it follows.
func TestAJoinedSessionIsToldOfWhatCannotBeRead(t *testing.T) {
	s := start(t, nil)
	s.session("owner")
	s.session("joiner")
	_, err := s.bus.Sessions.Modify(t.Context(), bus.SessionKeyOf(account, "joiner"), func(r *busv1.SessionRecord) error {
		r.Joined = append(r.Joined, "owner.e-owner")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []string{"owner", "joiner"} {
		s.garble(of)
		s.say(of, "behind-"+of, "")
	}
	for _, tr := range transports() {
		f := mustOpen(t, s, tr, token(t, subject, nil), "joiner", "")
		for _, of := range []string{"owner", "joiner"} {
			wantUnshown(t, f, "joiner", "")
			wantEvent(t, f, "behind-"+of)
		}
	}
}

// TestHistoryShowsWhatItCan: a message that can't be encoded is there by its id.
func TestHistoryShowsWhatItCan(t *testing.T) {
	s := start(t, nil)
	s.session("history")
	s.garble("history")
	s.say("history", "before", "hello")
	s.sayNever("history", "never")
	s.say("history", "behind", "hello?")
	got := s.call(http.MethodGet, s.url("history", "/engagements/e-history/messages"), token(t, subject, nil), "")
	list := &axpchatv1.ListMessagesResponse{}
	if err := protojson.Unmarshal([]byte(got.body), list); err != nil || got.status != http.StatusOK {
		t.Fatalf("%d %s: %v", got.status, got.body, err)
	}
	var ids []string
	for _, m := range list.GetMessages() {
		ids = append(ids, m.GetMessageId())
		if (m.GetMessageId() == "never") != (m.GetBody() == nil) {
			t.Errorf("message %v", m)
		}
	}
	if strings.Join(ids, " ") != "before never behind" {
		t.Errorf("messages %v", ids)
	}
}
