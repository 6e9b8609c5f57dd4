package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// answer is what REST answers to a bad request.
type answer struct {
	Status      int
	ContentType string
	Problem     struct {
		Reason     string `json:"reason"`
		Status     int    `json:"status"`
		Title      string `json:"title"`
		Detail     string `json:"detail"`
		RequestID  string `json:"requestId"`
		Violations []struct {
			Field   string `json:"field"`
			Message string `json:"message"`
		} `json:"violations"`
	}
}

func (a answer) fields() []string {
	var fs []string
	for _, v := range a.Problem.Violations {
		fs = append(fs, v.Field)
	}
	slices.Sort(fs)
	return fs
}

func ask(ctx context.Context, t testing.TB, method, url, token, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	status, header, data := suitetest.Answer(t, req)
	a := answer{Status: status, ContentType: header.Get("Content-Type")}
	if strings.HasPrefix(a.ContentType, "application/problem+json") {
		if err := json.Unmarshal([]byte(data), &a.Problem); err != nil {
			t.Fatalf("problem %s: %v", data, err)
		}
	}
	return a
}

func TestBadInputIsRefusedAlikeOverRESTAndGRPC(t *testing.T) {
	s := suitetest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	token, err := suitetest.Token(ctx, s.Sandbox, "Ada", "ada")
	if err != nil {
		t.Fatal(err)
	}
	g := newGRPCCustomer(t, s.GRPC, token)
	session, err := g.createSession(ctx, &axpchatv1.CreateSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	id := session.GetSessionId()
	eng, err := g.client.CreateEngagement(g.auth(ctx), &axpchatv1.CreateEngagementRequest{SessionId: id})
	if err != nil {
		t.Fatal(err)
	}
	chat := eng.GetEngagement().GetEngagementId()
	long := func(n int) string { return strings.Repeat("x", n) }
	pairs := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("k", i)] = "v"
		}
		return m
	}
	cases := []struct {
		name  string
		path  string
		grpc  func() error
		body  any
		field string
	}{
		{"text over the limit", "/v1/sessions/" + id + "/engagements/" + chat + "/messages",
			func() error {
				_, err := g.client.SendMessage(g.auth(ctx), &axpchatv1.SendMessageRequest{SessionId: id, EngagementId: chat, ClientMessageId: "m", Text: long(4097)})
				return err
			}, map[string]any{"clientMessageId": "m", "text": long(4097)}, "text"},
		{"text over the limit in UTF-16 units", "/v1/sessions/" + id + "/engagements/" + chat + "/messages",
			func() error {
				_, err := g.client.SendMessage(g.auth(ctx), &axpchatv1.SendMessageRequest{SessionId: id, EngagementId: chat, ClientMessageId: "m", Text: strings.Repeat("😀", 2049)})
				return err
			}, map[string]any{"clientMessageId": "m", "text": strings.Repeat("😀", 2049)}, "text"},
		{"no client message id", "/v1/sessions/" + id + "/engagements/" + chat + "/messages",
			func() error {
				_, err := g.client.SendMessage(g.auth(ctx), &axpchatv1.SendMessageRequest{SessionId: id, EngagementId: chat, Text: "hi"})
				return err
			}, map[string]any{"text": "hi"}, "clientMessageId"},
		{"too many custom data", "/v1/sessions/" + id + "/engagements/" + chat + "/messages",
			func() error {
				_, err := g.client.SendMessage(g.auth(ctx), &axpchatv1.SendMessageRequest{SessionId: id, EngagementId: chat, ClientMessageId: "m", Text: "hi", CustomData: pairs(21)})
				return err
			}, map[string]any{"clientMessageId": "m", "text": "hi", "customData": pairs(21)}, "customData"},
		{"display name over the limit", "/v1/sessions",
			func() error {
				_, err := g.client.CreateSession(g.auth(ctx), &axpchatv1.CreateSessionRequest{DisplayName: long(71)})
				return err
			}, map[string]any{"displayName": long(71)}, "displayName"},
		{"too many session parameters", "/v1/sessions/" + id + ":updateParameters",
			func() error {
				_, err := g.client.UpdateSessionParameters(g.auth(ctx), &axpchatv1.UpdateSessionParametersRequest{SessionId: id, SessionParameters: pairs(21)})
				return err
			}, map[string]any{"sessionParameters": pairs(21)}, "sessionParameters"},
		{"conversation over the limit", "/v1/sessions/" + id + "/engagements",
			func() error {
				_, err := g.client.CreateEngagement(g.auth(ctx), &axpchatv1.CreateEngagementRequest{SessionId: id, Conversation: long(257)})
				return err
			}, map[string]any{"conversation": long(257)}, "conversation"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			body, err := json.Marshal(c.body)
			if err != nil {
				t.Fatal(err)
			}
			rest := ask(ctx, t, http.MethodPost, s.HTTP+c.path, token, string(body))
			if rest.Status != http.StatusBadRequest || rest.Problem.Reason != "INVALID_ARGUMENT" || !slices.Contains(rest.fields(), c.field) {
				t.Errorf("REST: %+v, want a violation of %s", rest, c.field)
			}
			st := status.Convert(c.grpc())
			if st.Code() != codes.InvalidArgument {
				t.Fatalf("gRPC: %v", st)
			}
			var grpcFields []string
			for _, d := range st.Details() {
				if bad, ok := d.(*errdetails.BadRequest); ok {
					for _, v := range bad.GetFieldViolations() {
						grpcFields = append(grpcFields, v.GetField())
					}
				}
			}
			slices.Sort(grpcFields)
			if !slices.Equal(grpcFields, rest.fields()) {
				t.Errorf("gRPC names %v, REST names %v", grpcFields, rest.fields())
			}
		})
	}
	t.Run("nothing was stored", func(t *testing.T) {
		if err := noMessages(ctx, g, id, chat); err != nil {
			t.Error(err)
		}
	})
}

func TestStrangersAreKeptOut(t *testing.T) {
	s := suitetest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	ada, err := suitetest.Token(ctx, s.Sandbox, "Ada", "ada")
	if err != nil {
		t.Fatal(err)
	}
	eve, err := suitetest.Token(ctx, s.Sandbox, "Eve", "eve")
	if err != nil {
		t.Fatal(err)
	}
	rest := &restCustomer{base: s.HTTP, token: ada}
	session, err := rest.createSession(ctx, &axpchatv1.CreateSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	path := "/v1/sessions/" + session.GetSessionId()
	sign := func(method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
		claims := jwt.MapClaims{
			"iss": "axp-sandbox", "aud": "axp-chat-connector", "sub": "ada", "account": suitetest.Account,
			"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		}
		change(claims)
		text, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	secret := []byte(suitetest.TokenSecret)
	none := func(jwt.MapClaims) {}
	if a := ask(ctx, t, http.MethodGet, s.HTTP+path, sign(jwt.SigningMethodHS256, secret, none), ""); a.Status != http.StatusOK {
		t.Fatalf("a good token of this test must be taken: %+v", a)
	}
	cases := []struct {
		name, method, path, token, reason string
		status                            int
	}{
		{"no token", http.MethodGet, path, "", "UNAUTHENTICATED", 401},
		{"not a token", http.MethodGet, path, "abc", "UNAUTHENTICATED", 401},
		{"signed with another secret", http.MethodGet, path, sign(jwt.SigningMethodHS256, []byte("another-secret-another-secret-32"), none), "UNAUTHENTICATED", 401},
		{"not signed at all", http.MethodGet, path, sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, none), "UNAUTHENTICATED", 401},
		{"signed by another algorithm", http.MethodGet, path, sign(jwt.SigningMethodHS512, secret, none), "UNAUTHENTICATED", 401},
		{"expired", http.MethodGet, path, sign(jwt.SigningMethodHS256, secret, func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() }), "TOKEN_EXPIRED", 401},
		{"without expiry", http.MethodGet, path, sign(jwt.SigningMethodHS256, secret, func(c jwt.MapClaims) { delete(c, "exp") }), "UNAUTHENTICATED", 401},
		{"of another issuer", http.MethodGet, path, sign(jwt.SigningMethodHS256, secret, func(c jwt.MapClaims) { c["iss"] = "somebody" }), "UNAUTHENTICATED", 401},
		{"for another audience", http.MethodGet, path, sign(jwt.SigningMethodHS256, secret, func(c jwt.MapClaims) { c["aud"] = "other" }), "UNAUTHENTICATED", 401},
		{"without a subject", http.MethodGet, path, sign(jwt.SigningMethodHS256, secret, func(c jwt.MapClaims) { delete(c, "sub") }), "UNAUTHENTICATED", 401},
		{"another customer's session", http.MethodGet, path, eve, "SESSION_NOT_FOUND", 404},
		{"another customer's events", http.MethodGet, path + "/events:poll", eve, "SESSION_NOT_FOUND", 404},
		{"another customer's engagements", http.MethodGet, path + "/engagements", eve, "SESSION_NOT_FOUND", 404},
		{"chat in another customer's session", http.MethodPost, path + "/engagements", eve, "SESSION_NOT_FOUND", 404},
		{"deletion of another customer's session", http.MethodDelete, path, eve, "SESSION_NOT_FOUND", 404},
		{"same subject in another account", http.MethodGet, path, sign(jwt.SigningMethodHS256, secret, func(c jwt.MapClaims) { c["account"] = "OTHERS" }), "SESSION_NOT_FOUND", 404},
		{"unknown session", http.MethodGet, "/v1/sessions/00000000-0000-0000-0000-000000000000", ada, "SESSION_NOT_FOUND", 404},
		{"unknown path", http.MethodGet, "/v1/nothing", ada, "NOT_FOUND", 404},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			body := ""
			if c.method == http.MethodPost {
				body = "{}"
			}
			a := ask(ctx, t, c.method, s.HTTP+c.path, c.token, body)
			if a.Status != c.status || a.Problem.Reason != c.reason || a.Problem.RequestID == "" {
				t.Errorf("got %+v, want %d %s", a, c.status, c.reason)
			}
		})
	}
	t.Run("another customer's stream", func(t *testing.T) {
		streamCtx, stop := context.WithCancel(ctx)
		defer stop()
		if _, err := newGRPCCustomer(t, s.GRPC, eve).watch(streamCtx, session.GetSessionId(), ""); err == nil {
			t.Error("gRPC Connect must be refused")
		}
		for _, ws := range []bool{false, true} {
			if _, err := (&restCustomer{base: s.HTTP, token: eve, websocket: ws}).watch(streamCtx, session.GetSessionId(), ""); err == nil {
				t.Errorf("events (websocket %v) must be refused", ws)
			}
		}
	})
}

func TestBadCallbacksAreRefusedAndNotStored(t *testing.T) {
	s := suitetest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	hook := s.CallbackURL(ctx, t)
	token, err := suitetest.Token(ctx, s.Sandbox, "Ada", "ada")
	if err != nil {
		t.Fatal(err)
	}
	rest := &restCustomer{base: s.HTTP, token: token}
	session, err := rest.createSession(ctx, &axpchatv1.CreateSessionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	box, err := rest.watch(ctx, session.GetSessionId(), "")
	if err != nil {
		t.Fatal(err)
	}
	forged := fmt.Sprintf(`{"eventType":"MESSAGES","accountId":"SANDBX","providerDialogId":"%s.e1.AAAAAAAAAAAAAAAAAAAAAA","body":{"elementType":"text"}}`, session.GetSessionId())
	cases := []struct {
		name, url, body string
		status          int
	}{
		{"wrong key", hook[:len(hook)-4] + "AAAA", `{"eventType":"MESSAGES"}`, 404},
		{"no key", s.Webhook + "/webhooks/axp/SANDBX/", `{}`, 404},
		{"key of another account", strings.Replace(hook, "/SANDBX/", "/OTHERS/", 1), `{}`, 404},
		{"not JSON", hook, `{"eventType":`, 400},
		// AXP would only send these again: they are kept for an operator, and reach no client.
		{"not an object", hook, `[1,2]`, 200},
		{"nested too deep", hook, strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), 200},
		{"too large", hook, `{"a":"` + strings.Repeat("x", 5<<20) + `"}`, 413},
		{"another account inside", hook, `{"eventType":"MESSAGES","accountId":"OTHERS"}`, 403},
		{"forged providerDialogId", hook, forged, 403},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader([]byte(c.body)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d", resp.StatusCode, c.status)
			}
		})
	}
	box.mu.Lock()
	defer box.mu.Unlock()
	for _, e := range box.events {
		if kind(e) == "message_arrived" || kind(e) == "unknown" {
			t.Errorf("a refused callback reached the client: %v", e)
		}
	}
}

var errStored = errors.New("a refused message is in the history")

func noMessages(ctx context.Context, g *grpcCustomer, session, engagement string) error {
	page, err := g.listMessages(ctx, &axpchatv1.ListMessagesRequest{SessionId: session, EngagementId: engagement})
	for _, m := range page.GetMessages() {
		if m.GetSender().GetParticipantType() == axpchatv1.ParticipantType_PARTICIPANT_TYPE_CUSTOMER {
			return errStored
		}
	}
	return err
}
