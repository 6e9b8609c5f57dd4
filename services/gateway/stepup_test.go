package gateway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

const visitor = "visitor-7c1d"

func anonymous(c jwt.MapClaims) {
	c["anonymous"] = true
	delete(c, "verified")
}

func formerly(visitor string) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { c["anonymous_sub"] = visitor }
}

// visit makes a session of the anonymous customer.
func (s *suite) visit(id string) {
	s.t.Helper()
	s.session(id)
	_, err := s.bus.Sessions.Modify(s.t.Context(), bus.SessionKeyOf(account, id), func(r *busv1.SessionRecord) error {
		r.Subject, r.Session.Anonymous = visitor, true
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func refreshFrame(id, token string) *axpchatv1.ConnectRequest {
	return &axpchatv1.ConnectRequest{FrameId: id, Payload: &axpchatv1.ConnectRequest_RefreshToken{RefreshToken: &axpchatv1.RefreshToken{Token: token}}}
}

func wantReply(t *testing.T, f follower, id string) *axpchatv1.Reply {
	t.Helper()
	r := want(t, f, "reply", func(r *axpchatv1.ConnectResponse) (*axpchatv1.Reply, bool) { return r.GetReply(), r.GetReply() != nil })
	if r.GetFrameId() != id {
		t.Fatalf("reply %v, want that to %q", r, id)
	}
	return r
}

// TestACustomerSignsInOnARunningStream: the stream goes on, without a gap, what
// was sent before is the anonymous customer's, what comes after the known one's,
// and the streams and tokens of the anonymous one are over.
func TestACustomerSignsInOnARunningStream(t *testing.T) {
	s := start(t, nil)
	for i, tr := range transports() {
		if !tr.twoWay {
			continue
		}
		t.Run(tr.name, func(t *testing.T) {
			session := fmt.Sprint("visit-", i)
			s.visit(session)
			before, after := token(t, visitor, anonymous), token(t, subject, formerly(visitor))
			s.say(session, "0", "Hello")
			f, ok := mustOpen(t, s, tr, before, session, "").(speaker)
			if !ok {
				t.Fatal("not two-way")
			}
			wantEvent(t, f, "0")
			tab := mustOpen(t, s, transports()[0], before, session, "")
			wantEvent(t, tab, "0")
			say := func(frame *axpchatv1.ConnectRequest) {
				t.Helper()
				if err := f.say(frame); err != nil {
					t.Fatal(err)
				}
			}
			message := func(id string) *axpchatv1.ConnectRequest {
				return &axpchatv1.ConnectRequest{FrameId: id, Payload: &axpchatv1.ConnectRequest_SendMessage{
					SendMessage: &axpchatv1.SendMessageRequest{EngagementId: "e-" + session, ClientMessageId: session + id, Text: "hi"},
				}}
			}
			for _, refused := range []string{token(t, other, nil), token(t, other, formerly("visitor-other")), token(t, "visitor-other", anonymous)} {
				say(refreshFrame("no", refused))
				if p := wantReply(t, f, "no").GetProblem(); p.GetReason() != axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED {
					t.Fatalf("problem %v", p)
				}
			}
			// All at once: each is worked as the customer of its moment.
			say(message("a"))
			say(refreshFrame("in", after))
			say(message("b"))
			for _, id := range []string{"a", "in", "b"} {
				if r := wantReply(t, f, id); r.GetProblem() != nil {
					t.Fatalf("reply %v", r)
				}
			}
			if got, want := s.orchestrator.sender(session+"a")+" "+s.orchestrator.sender(session+"b"), visitor+" "+subject; got != want {
				t.Fatalf("sent by %s, want %s", got, want)
			}
			s.say(session, "1", "Welcome, Ada")
			wantEvent(t, f, "1")
			if c := wantClose(t, tab, axpchatv1.CloseCode_CLOSE_CODE_STEPPED_UP); !c.GetReconnect() || c.GetCursor() == "" {
				t.Fatalf("close %v", c)
			}
			wantRefusal(t, s, tr, before, session, "",
				axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, axpchatv1.CloseCode_CLOSE_CODE_SESSION_NOT_FOUND)
			back := mustOpen(t, s, tr, token(t, subject, nil), session, "")
			wantEvent(t, back, "0")
			wantEvent(t, back, "1")
		})
	}
}

// sender is the subject that has sent a message.
func (o *orchestrator) sender(clientMessageID string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, id := range o.sent {
		if id == clientMessageID {
			return o.callers[len(o.callers)-len(o.sent)+i].GetSubject()
		}
	}
	return ""
}

// TestStepUpByCall: over gRPC and REST, with the new token alone.
func TestStepUpByCall(t *testing.T) {
	s := start(t, nil)
	client := axpchatv1.NewChatServiceClient(s.grpc)
	byGRPC := func(tok, session string) error {
		_, err := client.StepUp(bearer(t.Context(), tok), &axpchatv1.StepUpRequest{SessionId: session})
		return err
	}
	byREST := func(tok, session string) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url(session, ":stepUp"), bytes.NewBufferString("{}"))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+tok)
		resp, err := s.client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var problem struct{ Reason, Detail string }
		if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil || resp.StatusCode == http.StatusOK {
			return err
		}
		return errs.New(axpchatv1.ErrorReason(axpchatv1.ErrorReason_value["ERROR_REASON_"+problem.Reason]), problem.Detail)
	}
	for name, stepUp := range map[string]func(tok, session string) error{"gRPC": byGRPC, "REST": byREST} {
		t.Run(name, func(t *testing.T) {
			session := "call-" + name
			s.visit(session)
			for _, tok := range []string{token(t, other, nil), token(t, other, formerly("visitor-other"))} {
				if err := stepUp(tok, session); !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND) {
					t.Fatalf("got %v", err)
				}
			}
			for range 2 {
				if err := stepUp(token(t, subject, formerly(visitor)), session); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestANameOfOnesOwnChoiceIsNobodysElse: where the company lets anonymous customers
// choose their subject (from a cookie of theirs, say), that of somebody who has
// signed in opens nothing.
func TestANameOfOnesOwnChoiceIsNobodysElse(t *testing.T) {
	s := start(t, nil)
	s.session("s1")
	s.say("s1", "0", "for Ada alone")
	chosen := token(t, subject, anonymous)
	for _, tr := range transports() {
		wantRefusal(t, s, tr, chosen, "s1", "", axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, axpchatv1.CloseCode_CLOSE_CODE_SESSION_NOT_FOUND)
		if !tr.twoWay {
			continue
		}
		f, ok := mustOpen(t, s, tr, token(t, subject, nil), "s1", "").(speaker)
		if !ok {
			t.Fatal("not two-way")
		}
		wantEvent(t, f, "0")
		if err := f.say(refreshFrame("no", chosen)); err != nil {
			t.Fatal(err)
		}
		if p := wantReply(t, f, "no").GetProblem(); p.GetReason() != axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED {
			t.Errorf("%s: %v", tr.name, p)
		}
	}
	client, ctx := axpchatv1.NewChatServiceClient(s.grpc), bearer(t.Context(), chosen)
	if _, err := client.CreateTicket(ctx, &axpchatv1.CreateTicketRequest{SessionId: "s1"}); !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND) {
		t.Errorf("a ticket: %v", err)
	}
}
