package gateway_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go/jetstream"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

// TestEveryTransport runs the same cases over each transport: a client may
// choose any, and change at any event.
func TestEveryTransport(t *testing.T) {
	s := start(t, nil)
	for i, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			id := func(name string) string { return fmt.Sprintf("%s-%d", name, i) }
			t.Run("begins with a welcome", func(t *testing.T) { beginsWithWelcome(t, s, tr, id("welcome")) })
			t.Run("events come in order, once, and go on from the cursor", func(t *testing.T) { resumes(t, s, tr, id("resume")) })
			t.Run("a cursor of another session resets", func(t *testing.T) { resets(t, s, tr, id("reset")) })
			t.Run("a session of somebody else is not found", func(t *testing.T) {
				s.session(id("owner"))
				wantRefusal(t, s, tr, token(t, other, nil), id("owner"), "",
					axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, axpchatv1.CloseCode_CLOSE_CODE_SESSION_NOT_FOUND)
				wantRefusal(t, s, tr, token(t, subject, func(c jwt.MapClaims) { c["account"] = "ZZZZZZ" }), id("owner"), "",
					axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, axpchatv1.CloseCode_CLOSE_CODE_SESSION_NOT_FOUND)
			})
			t.Run("an expired token is refused as such", func(t *testing.T) {
				s.session(id("expired"))
				wantRefusal(t, s, tr, token(t, subject, expired), id("expired"), "",
					axpchatv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED, axpchatv1.CloseCode_CLOSE_CODE_TOKEN_EXPIRED)
			})
			t.Run("a cursor that is none is refused", func(t *testing.T) {
				s.session(id("cursor"))
				wantRefusal(t, s, tr, token(t, subject, nil), id("cursor"), "rubbish",
					axpchatv1.ErrorReason_ERROR_REASON_CURSOR_INVALID, axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR)
			})
			if tr.stream {
				t.Run("the end of the session ends the stream", func(t *testing.T) { endsWithSession(t, s, tr, id("end")) })
			}
			if tr.twoWay {
				t.Run("commands are answered, messages keep their order", func(t *testing.T) { answers(t, s, tr, id("commands")) })
			}
		})
	}
}

func beginsWithWelcome(t *testing.T, s *suite, tr transport, session string) {
	if !tr.stream {
		t.Skip("polls have no welcome")
	}
	s.session(session)
	f := mustOpen(t, s, tr, token(t, subject, nil), session, "")
	frame, err := f.next()
	if err != nil {
		t.Fatal(err)
	}
	w := frame.GetWelcome()
	if w.GetSession().GetSessionId() != session || len(w.GetEngagements()) != 1 || w.GetEngagements()[0].GetEngagementId() != "e-"+session {
		t.Fatalf("welcome %v", frame)
	}
	if w.GetCursor() == "" || w.GetLimits().GetMessageTextLength() != 4096 || w.GetHeartbeatInterval().AsDuration() <= 0 || w.GetCapabilities().GetTyping() {
		t.Fatalf("welcome %v", w)
	}
}

func resumes(t *testing.T, s *suite, tr transport, session string) {
	s.session(session)
	s.say(session, "0", "before")
	s.say(session, "1", "before")
	tok := token(t, subject, nil)
	f := mustOpen(t, s, tr, tok, session, "")
	var last *axpchatv1.Event
	for i := range 6 {
		if i >= 2 {
			s.say(session, fmt.Sprint(i), "live")
		}
		ev := wantEvent(t, f, fmt.Sprint(i))
		if ev.GetSequence() <= last.GetSequence() || ev.GetCursor() == "" || ev.GetMessageArrived().GetMessageId() != fmt.Sprint(i) {
			t.Fatalf("event %v after %v", ev, last)
		}
		last = ev
	}
	f.leave()
	s.say(session, "6", "while away")
	back := mustOpen(t, s, tr, tok, session, last.GetCursor())
	s.say(session, "7", "after")
	wantEvent(t, back, "6")
	ev := wantEvent(t, back, "7")
	// And with the same cursor over another transport.
	changed := mustOpen(t, s, transports()[1], tok, session, ev.GetCursor())
	s.say(session, "8", "elsewhere")
	wantEvent(t, changed, "8")
	wantEvent(t, back, "8")
}

func resets(t *testing.T, s *suite, tr transport, session string) {
	s.session(session)
	s.session(session + "-b")
	s.say(session, "a", "")
	s.say(session+"-b", "b", "")
	tok := token(t, subject, nil)
	foreign := wantEvent(t, mustOpen(t, s, transports()[1], tok, session+"-b", ""), "b").GetCursor()
	f := mustOpen(t, s, tr, tok, session, foreign)
	r := want(t, f, "reset", func(r *axpchatv1.ConnectResponse) (*axpchatv1.Reset, bool) {
		return r.GetReset_(), r.GetReset_() != nil
	})
	if r.GetReason() != axpchatv1.ResetReason_RESET_REASON_OTHER_SESSION {
		t.Fatalf("reset %v", r)
	}
	wantEvent(t, f, "a")
}

func wantRefusal(t *testing.T, s *suite, tr transport, token, session, cursor string, reason axpchatv1.ErrorReason, code axpchatv1.CloseCode) {
	t.Helper()
	gotReason, gotCode := refusal(t, s, tr, token, session, cursor)
	if gotReason != reason && gotCode != code {
		t.Fatalf("refused with %v and %v, want %v or %v", gotReason, gotCode, reason, code)
	}
	if gotCode != axpchatv1.CloseCode_CLOSE_CODE_UNSPECIFIED && gotCode != code {
		t.Fatalf("closed with %v, want %v", gotCode, code)
	}
}

func endsWithSession(t *testing.T, s *suite, tr transport, session string) {
	s.session(session)
	f := mustOpen(t, s, tr, token(t, subject, nil), session, "")
	s.say(session, "bye", "")
	s.publish(session, closedEvent(session))
	wantEvent(t, f, "bye")
	wantEvent(t, f, "closed")
	c := wantClose(t, f, axpchatv1.CloseCode_CLOSE_CODE_SESSION_CLOSED)
	if c.GetReconnect() {
		t.Fatalf("close %v", c)
	}
	if frame, err := f.next(); err == nil {
		t.Fatalf("after the close came %v", frame)
	}
}

func answers(t *testing.T, s *suite, tr transport, session string) {
	s.session(session)
	f, ok := mustOpen(t, s, tr, token(t, subject, nil), session, "").(speaker)
	if !ok {
		t.Fatal("not two-way")
	}
	reply := func(id string) *axpchatv1.Reply {
		t.Helper()
		r := want(t, f, "reply", func(r *axpchatv1.ConnectResponse) (*axpchatv1.Reply, bool) { return r.GetReply(), r.GetReply() != nil })
		if id != "" && r.GetFrameId() != id {
			t.Fatalf("reply %v, want that to %q", r, id)
		}
		return r
	}
	say := func(id string, m *axpchatv1.SendMessageRequest) {
		t.Helper()
		if err := f.say(&axpchatv1.ConnectRequest{FrameId: id, Payload: &axpchatv1.ConnectRequest_SendMessage{SendMessage: m}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.say(&axpchatv1.ConnectRequest{FrameId: "ping", Payload: &axpchatv1.ConnectRequest_Ping{Ping: &axpchatv1.Ping{}}}); err != nil {
		t.Fatal(err)
	}
	want(t, f, "pong", func(r *axpchatv1.ConnectResponse) (bool, bool) { return true, r.GetPong().GetFrameId() == "ping" })

	say("bad", &axpchatv1.SendMessageRequest{EngagementId: "e-" + session, ClientMessageId: "x", Text: strings.Repeat("a", 5000)})
	if p := reply("bad").GetProblem(); p.GetReason() != axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT || len(p.GetViolations()) != 1 || p.GetViolations()[0].GetField() != "text" {
		t.Fatalf("problem %v", p)
	}
	say("foreign", &axpchatv1.SendMessageRequest{SessionId: "another", EngagementId: "e", ClientMessageId: "x", Text: "hi"})
	if p := reply("foreign").GetProblem(); p.GetReason() != axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT {
		t.Fatalf("problem %v", p)
	}
	var ids []string
	for i := range 40 {
		id := fmt.Sprintf("%s-%d", session, i)
		ids = append(ids, id)
		say(id, &axpchatv1.SendMessageRequest{EngagementId: "e-" + session, ClientMessageId: id, Text: "hello"})
	}
	for _, id := range ids {
		if m := reply(id).GetSendMessage().GetMessage(); m.GetClientMessageId() != id || m.GetSessionId() != session {
			t.Fatalf("message %v, want %s", m, id)
		}
	}
	var sent []string
	for _, id := range s.orchestrator.sentIDs() {
		if strings.HasPrefix(id, session+"-") {
			sent = append(sent, id)
		}
	}
	if strings.Join(sent, " ") != strings.Join(ids, " ") {
		t.Fatalf("sent %v, want %v", sent, ids)
	}
	refresh := func(tok string) *axpchatv1.Reply {
		if err := f.say(&axpchatv1.ConnectRequest{FrameId: "r", Payload: &axpchatv1.ConnectRequest_RefreshToken{RefreshToken: &axpchatv1.RefreshToken{Token: tok}}}); err != nil {
			t.Fatal(err)
		}
		return reply("r")
	}
	if r := refresh(token(t, other, nil)); r.GetProblem().GetReason() != axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED {
		t.Fatalf("another customer's token: %v", r)
	}
	if r := refresh(token(t, subject, nil)); r.GetRefreshToken().GetExpireTime() == nil {
		t.Fatalf("fresh token: %v", r)
	}
	// A second hello breaks the protocol.
	if err := f.say(hello(session, "")); err != nil {
		t.Fatal(err)
	}
	wantClose(t, f, axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR)
}

// TestSlowClientsAreDroppedAndResume: a client that reads nothing is dropped
// after a bounded number of bytes, another one of the same session notices
// nothing, and the slow one loses nothing.
func TestSlowClientsAreDroppedAndResume(t *testing.T) {
	s := start(t, map[string]string{"DELIVERY_QUEUE_BYTES": "64KiB", "STREAM_WRITE_TIMEOUT": "2s", "DELIVERY_STALL_TIMEOUT": "2s"})
	for i, tr := range transports() {
		if !tr.stream {
			continue
		}
		t.Run(tr.name, func(t *testing.T) {
			session := fmt.Sprint("slow-", i)
			s.session(session)
			tok := token(t, subject, nil)
			slow := mustOpen(t, s, tr, tok, session, "")
			want(t, slow, "welcome", func(r *axpchatv1.ConnectResponse) (bool, bool) { return true, r.GetWelcome() != nil })
			quick := mustOpen(t, s, transports()[3], tok, session, "")
			const events = 300
			text := strings.Repeat("x", 10_000)
			for n := range events {
				s.say(session, fmt.Sprint(n), text)
				wantEvent(t, quick, fmt.Sprint(n))
			}
			got, at := 0, ""
			for {
				frame, err := slow.next()
				if err != nil {
					break
				}
				if ev := frame.GetEvent(); ev != nil {
					if ev.GetEventId() != fmt.Sprint(got) {
						t.Fatalf("event %q, want %d", ev.GetEventId(), got)
					}
					got, at = got+1, ev.GetCursor()
				}
				if c := frame.GetClose(); c != nil && (c.GetCode() != axpchatv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER || !c.GetReconnect()) {
					t.Fatalf("close %v", c)
				}
			}
			t.Logf("dropped after %d of %d events", got, events)
			if got == events {
				t.Fatal("the slow client was never dropped")
			}
			back := mustOpen(t, s, tr, tok, session, at)
			for ; got < events; got++ {
				wantEvent(t, back, fmt.Sprint(got))
			}
		})
	}
}

// TestDrainMovesClients: each stream is told to move and closed with its cursor,
// polls are answered, and another gateway goes on where this one stopped.
func TestDrainMovesClients(t *testing.T) {
	b := bustest.Start(t)
	s, second := startOn(t, b, nil), startOn(t, b, nil)
	tok := token(t, subject, nil)
	s.session("s1")
	s.say("s1", "a", "")
	var all []follower
	var ways []transport
	for _, tr := range transports() {
		if !tr.stream {
			continue
		}
		f := mustOpen(t, s, tr, tok, "s1", "")
		wantEvent(t, f, "a")
		all, ways = append(all, f), append(ways, tr)
	}
	drained := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		drained <- s.gw.Drain(ctx)
	}()
	// Streams end while the others are looked at, so none may get events now.
	ends := make([]*axpchatv1.Close, len(all))
	for i, f := range all {
		away := want(t, f, "go_away", func(r *axpchatv1.ConnectResponse) (*axpchatv1.GoAway, bool) {
			return r.GetGoAway(), r.GetGoAway() != nil
		})
		c := wantClose(t, f, axpchatv1.CloseCode_CLOSE_CODE_SERVER_SHUTDOWN)
		if away.GetCursor() == "" || away.GetCursor() != c.GetCursor() || !c.GetReconnect() {
			t.Fatalf("%s: %v and then %v", ways[i].name, away, c)
		}
		if frame, err := f.next(); err == nil {
			t.Fatalf("after the close came %v", frame)
		}
		ends[i] = c
	}
	for i, c := range ends {
		moved := mustOpen(t, second, ways[i], tok, "s1", c.GetCursor())
		id := fmt.Sprint("moved-", i)
		second.say("s1", id, "")
		for n := range i + 1 {
			wantEvent(t, moved, fmt.Sprint("moved-", n))
		}
		moved.leave()
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
}

func TestPollsAreAnsweredWhenTheGatewayDrains(t *testing.T) {
	s := start(t, nil)
	s.session("s1")
	before := s.bus.NC.NumSubscriptions()
	answered := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		resp, err := get(ctx, s, token(t, subject, nil), s.url("s1", "/events:poll?wait=20s"), nil)
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	waitFollowed(t, s, before)
	began := time.Now()
	if err := s.gw.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Fatalf("the poll held up the drain for %s", took)
	}
}

// waitFollowed waits until somebody follows a session: a subscription beyond
// those that were there before, which stays.
func waitFollowed(t testing.TB, s *suite, before int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for stays := 0; stays < 5; {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("nobody follows the session")
		}
		if stays++; s.bus.NC.NumSubscriptions() <= before {
			stays = 0
		}
	}
}

// TestJoinedEngagementsAreFollowed: a session that joins the chat of another one
// is told what happens in it from then on, in one order with its own events, on
// every transport, and of nothing else of the other session.
func TestJoinedEngagementsAreFollowed(t *testing.T) {
	s := start(t, nil)
	tok := token(t, subject, nil)
	for i, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			owner, joiner := fmt.Sprint("owner-", i), fmt.Sprint("joiner-", i)
			s.session(owner)
			s.session(joiner)
			s.say(joiner, "own-0", "")
			early := mustOpen(t, s, tr, tok, joiner, "")
			at := wantEvent(t, early, "own-0").GetCursor()
			_, err := s.bus.Sessions.Modify(t.Context(), bus.SessionKeyOf(account, joiner), func(r *busv1.SessionRecord) error {
				r.Joined = append(r.Joined, owner+".e-"+owner)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			late := mustOpen(t, s, tr, tok, joiner, at)
			var ids []string
			for n := range 20 {
				of, id := owner, fmt.Sprint("event-", n)
				if n%3 == 0 {
					of = joiner
				}
				s.say(of, id, "")
				ids = append(ids, id)
				s.publish(owner, &axpchatv1.Event{EventId: "private-" + id, EngagementId: "e-other", Payload: &axpchatv1.Event_Typing{Typing: &axpchatv1.Typing{}}})
			}
			var last uint64
			for _, f := range []follower{late, early} {
				last = 0
				for _, id := range ids {
					ev := wantEvent(t, f, id)
					if ev.GetSequence() <= last {
						t.Fatalf("sequence %d after %d", ev.GetSequence(), last)
					}
					last = ev.GetSequence()
				}
			}
		})
	}
}

// TestAJoinIsFollowedThoughNobodyTells: that a session's record has changed is
// told at most once, by NATS; a stream looks by itself as well.
func TestAJoinIsFollowedThoughNobodyTells(t *testing.T) {
	s := start(t, map[string]string{"STREAM_STATE_CHECK": "50ms"})
	bucket, err := s.bus.JS.KeyValue(t.Context(), bus.SessionsBucket)
	if err != nil {
		t.Fatal(err)
	}
	status, err := bucket.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	silent := status.(*jetstream.KeyValueBucketStatus).Config()
	silent.RePublish = nil
	if _, err := s.bus.JS.UpdateKeyValue(t.Context(), silent); err != nil {
		t.Fatal(err)
	}
	tok := token(t, subject, nil)
	for i, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			owner, joiner := fmt.Sprint("owner-", i), fmt.Sprint("joiner-", i)
			s.session(owner)
			s.session(joiner)
			f := mustOpen(t, s, tr, tok, joiner, "")
			s.say(joiner, "own-0", "")
			wantEvent(t, f, "own-0")
			_, err := s.bus.Sessions.Modify(t.Context(), bus.SessionKeyOf(account, joiner), func(r *busv1.SessionRecord) error {
				r.Joined = append(r.Joined, owner+".e-"+owner)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			s.say(owner, "theirs", "")
			wantEvent(t, f, "theirs")
		})
	}
}
