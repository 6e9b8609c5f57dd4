package e2e

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// signed is a token as the company's backend signs it.
func signed(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	claims["iss"], claims["aud"], claims["account"] = "axp-sandbox", "axp-chat-connector", suitetest.Account
	claims["exp"] = time.Now().Add(time.Hour).Unix()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(suitetest.TokenSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestAVisitorSignsInDuringTheChat: nobody knows who writes, until the visitor
// signs in; the agent then sees it, and the chat goes on, on a running stream and
// by a call.
func TestAVisitorSignsInDuringTheChat(t *testing.T) {
	s := suitetest.Start(t)
	desk := s.Desk("Robin")
	for _, by := range []string{"gRPC", "REST"} {
		t.Run(by, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			visitor := "visitor-" + by
			before := signed(t, jwt.MapClaims{"sub": visitor, "anonymous": true, "name": "Visitor " + by, "identifiers": map[string][]string{"emailAddresses": {visitor + "@visitor.invalid"}}})
			after := signed(t, jwt.MapClaims{"sub": "maren-" + by, "anonymous_sub": visitor, "name": "Maren Solheim", "verified": true, "identifiers": map[string][]string{"emailAddresses": {"maren@example.com"}}})
			app := newGRPCCustomer(t, s.GRPC, before)
			session, err := app.createSession(ctx, &axpchatv1.CreateSessionRequest{})
			if err != nil || !session.GetAnonymous() {
				t.Fatalf("session %v, %v", session, err)
			}
			box, err := app.watch(ctx, session.GetSessionId(), "")
			if err != nil {
				t.Fatal(err)
			}
			chat, err := app.createEngagement(ctx, &axpchatv1.CreateEngagementRequest{})
			if err != nil {
				t.Fatal(err)
			}
			waiting, err := desk.Find(ctx, "Visitor "+by, func(c suitetest.DeskChat) bool { return c.Waiting && c.Status == "ACTIVE" })
			if err == nil {
				err = desk.Accept(ctx, waiting.DialogID)
			}
			if err != nil {
				t.Fatal(err)
			}
			say := func(id, text string) {
				t.Helper()
				if _, err := app.send(ctx, &axpchatv1.SendMessageRequest{EngagementId: chat.GetEngagementId(), ClientMessageId: id, Text: text}); err != nil {
					t.Fatal(err)
				}
			}
			say("1", "I would like to change my order")
			if by == "gRPC" {
				_, err = app.command(ctx, &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_RefreshToken{RefreshToken: &axpchatv1.RefreshToken{Token: after}}})
				app.token = after
			} else {
				out := &axpchatv1.StepUpResponse{}
				web := &restCustomer{base: s.HTTP, token: after}
				if err = web.call(ctx, http.MethodPost, "/v1/sessions/"+session.GetSessionId()+":stepUp", &axpchatv1.StepUpRequest{}, out); err == nil {
					// The stream of the visitor ends; its app comes back as the customer.
					_ = box.until(ctx, "close", func() bool { return box.closed != nil })
					if code := box.closed.GetCode(); code != axpchatv1.CloseCode_CLOSE_CODE_STEPPED_UP {
						t.Fatalf("closed with %s", code)
					}
					app.token = after
					box, err = app.watch(ctx, session.GetSessionId(), box.closed.GetCursor())
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			say("2", "This is Maren")
			seen, err := desk.Find(ctx, "Visitor "+by, func(c suitetest.DeskChat) bool {
				return slices.Equal(c.CustomerTexts(), []string{"I would like to change my order", "This is Maren"})
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := seen.Customer.Identifiers["emailAddresses"]; !slices.Contains(got, "maren@example.com") || !slices.Contains(got, visitor+"@visitor.invalid") {
				t.Errorf("the agent sees %v", got)
			}
			if err := desk.Say(ctx, waiting.DialogID, "Good to see you, Maren"); err != nil {
				t.Fatal(err)
			}
			_, err = box.event(ctx, "the agent's answer", func(e *axpchatv1.Event) bool {
				return e.GetMessageArrived().GetBody().GetElementText().GetText() == "Good to see you, Maren"
			})
			if err != nil {
				t.Fatal(err)
			}
			app.token = before
			if _, err := app.client.GetSession(app.auth(ctx), &axpchatv1.GetSessionRequest{SessionId: session.GetSessionId()}); err == nil {
				t.Error("the anonymous token still finds the session")
			}
		})
	}
}
