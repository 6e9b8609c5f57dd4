package gateway_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

// TestAResetIsToldOnce: who is reset gets what is still there, also where the session
// has joined another one, and where nothing is there yet; and who comes back with the
// cursor of the reset is not reset again.
func TestAResetIsToldOnce(t *testing.T) {
	s := start(t, nil)
	tok := token(t, subject, nil)
	for i, tr := range transports() {
		for _, c := range []struct {
			name         string
			joined, kept bool
		}{{"alone", false, true}, {"joined", true, true}, {"nothing left", false, false}, {"joined, nothing left", true, false}} {
			t.Run(tr.name+"/"+c.name, func(t *testing.T) {
				id := fmt.Sprintf("old-%d-%t-%t", i, c.joined, c.kept)
				s.session(id)
				_, err := s.bus.Sessions.Modify(t.Context(), bus.SessionKeyOf(account, id), func(r *busv1.SessionRecord) error {
					r.Session.CreateTime = timestamppb.New(time.Now().Add(-time.Hour))
					if c.joined {
						r.Joined = append(r.Joined, "owner.e-owner")
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				s.say(id, "old", "")
				f := mustOpen(t, s, tr, tok, id, "")
				at := wantEvent(t, f, "old").GetCursor()
				f.leave()
				s.say(id, "dropped", "")
				s.dropAll()
				if c.kept {
					s.say(id, "kept", "")
				}
				f = mustOpen(t, s, tr, tok, id, at)
				reset := want(t, f, "reset", func(r *axpchatv1.ConnectResponse) (*axpchatv1.Reset, bool) {
					return r.GetReset_(), r.GetReset_() != nil
				})
				if c.kept {
					wantEvent(t, f, "kept")
				}
				s.say(id, "live", "")
				wantEvent(t, f, "live")
				f.leave()
				f = mustOpen(t, s, tr, tok, id, reset.GetCursor())
				if c.kept {
					wantEvent(t, f, "kept")
				}
				wantEvent(t, f, "live")
			})
		}
	}
}

// dropAll lets the journal drop all that it holds but an event of somebody else, as
// its limits do, and waits until that is known to all.
func (s *suite) dropAll() {
	s.t.Helper()
	ack, err := s.bus.PublishEvent(s.t.Context(), &busv1.EventRecord{Account: account, Event: &axpchatv1.Event{
		EventId: fmt.Sprint(time.Now().UnixNano()), SessionId: "others", Payload: &axpchatv1.Event_Typing{Typing: &axpchatv1.Typing{}},
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	stream, err := s.bus.JS.Stream(s.t.Context(), bus.EventsStream)
	if err == nil {
		err = stream.Purge(s.t.Context(), jetstream.WithPurgeSequence(ack.Sequence))
	}
	if err == nil {
		_, err = s.bus.JournalSince(s.t.Context(), time.Now())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
