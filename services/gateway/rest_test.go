package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	ws "github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// answer is what a REST call gave.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) problem(t testing.TB) (p struct {
	Status     int
	Reason     string
	Detail     string
	RequestID  string
	Violations []errs.Violation
}) {
	t.Helper()
	if a.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("status %d, %q: %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != a.status || p.RequestID == "" {
		t.Fatalf("status %d with %s", a.status, a.body)
	}
	return p
}

func (s *suite) call(method, url, token, body string, header ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

func TestRESTAndGRPCFindTheSameViolations(t *testing.T) {
	s := start(t, nil)
	tok := token(t, subject, nil)
	cases := []*axpchatv1.SendMessageRequest{
		{SessionId: "s1", EngagementId: "e1", ClientMessageId: "c"},
		{SessionId: "s1", EngagementId: "e1", ClientMessageId: "c", Text: strings.Repeat("😀", 2049)},
		{SessionId: "s1", EngagementId: "e1", Text: "hi", SenderName: strings.Repeat("n", 71), CustomData: map[string]string{"": "v"}},
		{SessionId: "s1", EngagementId: "e1", ClientMessageId: strings.Repeat("c", 129), Text: "hi", TextFormat: 77},
	}
	for _, m := range cases {
		_, err := axpchatv1.NewChatServiceClient(s.grpc).SendMessage(bearer(t.Context(), tok), m)
		viaGRPC := errs.From(err)
		body, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		p := s.call(http.MethodPost, s.url("s1", "/engagements/e1/messages"), tok, string(body)).problem(t)
		if p.Reason != "INVALID_ARGUMENT" || len(p.Violations) == 0 || p.Status != http.StatusBadRequest {
			t.Fatalf("%v: %+v", m, p)
		}
		if diff := cmp.Diff(viaGRPC.Violations, p.Violations); diff != "" {
			t.Errorf("gRPC and REST differ:\n%s", diff)
		}
	}
}

func TestREST(t *testing.T) {
	s := start(t, map[string]string{"HTTP_ALLOWED_ORIGINS": "https://www.example.com"})
	tok := token(t, subject, nil)
	sessions := s.base + "/v1/sessions"

	t.Run("a command reaches the orchestrator with its customer", func(t *testing.T) {
		a := s.call(http.MethodPost, sessions, tok, `{"displayName":"Ada L.","sessionParameters":{"page":"boots"}}`, "X-Request-Id", "req-1")
		if a.status != http.StatusOK || a.body != `{"session":{"sessionId":"new","displayName":"Ada L."}}` && !strings.Contains(a.body, `"sessionId"`) {
			t.Fatalf("%+v", a)
		}
		c := s.orchestrator.callers[len(s.orchestrator.callers)-1]
		if c.GetAccount() != account || c.GetSubject() != subject || c.GetName() != "Ada" || !c.GetVerified() || len(c.GetIdentifiers()) != 1 {
			t.Fatalf("caller %v", c)
		}
		if a.header.Get("X-Request-Id") != "req-1" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Fatalf("headers %v", a.header)
		}
		for name := range a.header {
			if strings.HasPrefix(name, "Grpc-") {
				t.Errorf("header %s shows what is inside", name)
			}
		}
	})
	t.Run("Idempotency-Key is the request id", func(t *testing.T) {
		s.call(http.MethodPost, sessions, tok, `{}`, "Idempotency-Key", "key-1")
		if got := s.orchestrator.created[len(s.orchestrator.created)-1].GetRequestId(); got != "key-1" {
			t.Fatalf("request id %q", got)
		}
		p := s.call(http.MethodPost, sessions, tok, `{"requestId":"other"}`, "Idempotency-Key", "key-1").problem(t)
		if p.Status != http.StatusBadRequest || len(p.Violations) != 1 || p.Violations[0].Field != "requestId" {
			t.Fatalf("%+v", p)
		}
		if a := s.call(http.MethodPost, s.url("s1", "/engagements/e1/messages"), tok, `{"text":"hi","clientMessageId":"own"}`, "Idempotency-Key", "m-6"); a.status != http.StatusOK || !strings.Contains(a.body, `"own"`) {
			t.Errorf("a message keeps its own id, got %d %s", a.status, a.body)
		}
		if a := s.call(http.MethodPost, s.url("s1", "/engagements/e1/messages"), tok, `{"text":"hi"}`, "Idempotency-Key", "m-7"); a.status != http.StatusOK || !strings.Contains(a.body, `"m-7"`) {
			t.Fatalf("%+v", a)
		}
	})
	t.Run("only chosen headers become metadata", func(t *testing.T) {
		p := s.call(http.MethodGet, s.url("s1", ""), "", "", "Grpc-Metadata-Authorization", "Bearer "+tok).problem(t)
		if p.Status != http.StatusUnauthorized {
			t.Fatalf("%+v", p)
		}
	})
	cases := []struct {
		name, method, path, token, body string
		status                          int
		reason                          string
	}{
		{"no token", "GET", "/v1/sessions/s1", "", "", 401, "UNAUTHENTICATED"},
		{"an expired token", "GET", "/v1/sessions/s1", token(t, subject, expired), "", 401, "TOKEN_EXPIRED"},
		{"an error of the orchestrator", "GET", "/v1/sessions/s1", tok, "", 404, "SESSION_NOT_FOUND"},
		{"a field that is not known", "POST", "/v1/sessions", tok, `{"nme":"x"}`, 400, "INVALID_ARGUMENT"},
		{"a wrong type", "POST", "/v1/sessions", tok, `{"displayName":{"secret":"words"}}`, 400, "INVALID_ARGUMENT"},
		{"no JSON", "POST", "/v1/sessions", tok, `{"displayName":`, 400, "INVALID_ARGUMENT"},
		{"a wrong parameter", "GET", "/v1/sessions/s1/events:poll?wait=soon", tok, "", 400, "INVALID_ARGUMENT"},
		{"too long a wait", "GET", "/v1/sessions/s1/events:poll?wait=26s", tok, "", 400, "INVALID_ARGUMENT"},
		{"an unknown path", "GET", "/v1/nothing", tok, "", 404, "NOT_FOUND"},
		{"an unknown method", "PUT", "/v1/sessions", tok, "{}", 405, "NOT_FOUND"},
		{"a method by another name", "POST", "/v1/sessions/s1", tok, "{}", 405, "NOT_FOUND"},
		{"too large a body", "POST", "/v1/sessions", tok, `{"displayName":"` + strings.Repeat("x", 300<<10) + `"}`, 413, "TOO_LARGE"},
		{"a strange id", "GET", "/v1/sessions/a.b%2A", tok, "", 400, "INVALID_ARGUMENT"},
		{"no upgrade", "GET", "/v1/sessions/s1:connect", tok, "", 426, "INVALID_ARGUMENT"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := s.call(c.method, s.base+c.path, c.token, c.body)
			p := a.problem(t)
			if p.Status != c.status || p.Reason != c.reason {
				t.Fatalf("%s", a.body)
			}
			if strings.Contains(a.body, "secret") || strings.Contains(a.body, "words") {
				t.Errorf("the problem repeats what was sent: %s", a.body)
			}
		})
	}
	t.Run("a path that is for other methods says for which", func(t *testing.T) {
		for _, c := range []struct{ method, path, allow string }{
			{"PUT", "", "POST"},
			{"GET", "", "POST"},
			{"POST", "/s1", "DELETE, GET"},
			{"HEAD", "/s1", "DELETE, GET"},
			{"PUT", "/s1:stepUp", "POST"},
			{"POST", "/s1:connect", "GET"},
			{"POST", "/s1/events", "GET"},
			{"DELETE", "/s1/events:poll", "GET"},
			{"PATCH", "/s1/engagements", "GET, POST"},
			{"PUT", "/s1/engagements/e1/messages", "GET, POST"},
			{"PUT", "/s1/engagements/e1:end", "POST"},
			{"INVENTED", "/s1/attachments/a1", "GET"},
		} {
			if a := s.call(c.method, sessions+c.path, tok, ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != c.allow {
				t.Errorf("%s %s: %d, Allow %q, want %q", c.method, c.path, a.status, a.header.Get("Allow"), c.allow)
			}
		}
		if a := s.call("PUT", sessions+"/s1:nothing", tok, "{}"); a.status != http.StatusNotFound || a.header.Get("Allow") != "" {
			t.Errorf("a verb that there is not: %d, Allow %q", a.status, a.header.Get("Allow"))
		}
	})
	t.Run("the field that can't be read is named", func(t *testing.T) {
		for _, c := range []struct{ method, path, body, field string }{
			{http.MethodPost, "", `{"nme":"secret"}`, "nme"},
			{http.MethodPost, "", `{"displayName":17}`, "displayName"},
			{http.MethodPost, "/s1/engagements/e1/messages", `{"text":"secret words","textFormat":"secret"}`, "textFormat"},
			{http.MethodPost, "/s1/attachments", `{"size":"secret"}`, "size"},
			{http.MethodGet, "/s1/events:poll?wait=5", "", "wait"},
			{http.MethodGet, "/s1/events:poll?max_events=secret", "", "maxEvents"},
			{http.MethodDelete, "/s1?reason=secret", "", "reason"},
		} {
			a := s.call(c.method, sessions+c.path, tok, c.body)
			if p := a.problem(t); len(p.Violations) != 1 || p.Violations[0].Field != c.field || strings.Contains(a.body, "secret") {
				t.Errorf("%s %s: %s", c.path, c.body, a.body)
			}
		}
		// What a customer writes is no name of a field.
		for _, body := range []string{`{"displayName":[invalid value for string field secret: ]}`, `invalid value for string field secret: `, `{"displayName":{"parsing field \"secret\": ":1}}`} {
			if a := s.call(http.MethodPost, sessions, tok, body); a.status != http.StatusBadRequest || strings.Contains(a.body, "secret") {
				t.Errorf("%s: %s", body, a.body)
			}
		}
	})
	t.Run("pages of chosen origins only", func(t *testing.T) {
		ask := func(origin string) http.Header {
			a := s.call(http.MethodOptions, sessions, "", "", "Origin", origin, "Access-Control-Request-Method", "POST")
			if a.status != http.StatusNoContent {
				t.Fatalf("%+v", a)
			}
			return a.header
		}
		if h := ask("https://www.example.com"); h.Get("Access-Control-Allow-Origin") != "https://www.example.com" || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Idempotency-Key") {
			t.Fatalf("%v", h)
		}
		if h := ask("https://evil.example"); h.Get("Access-Control-Allow-Origin") != "" {
			t.Fatalf("%v", h)
		}
	})
	t.Run("pages and the description of the API", func(t *testing.T) {
		for path, kind := range map[string]string{
			"/openapi.yaml": "application/yaml", "/docs": "text/html; charset=utf-8", "/docs/docs.js": "text/javascript; charset=utf-8",
			"/docs/docs.css": "text/css; charset=utf-8", "/docs/operations.json": "application/json", "/": "text/html; charset=utf-8",
		} {
			a := s.call(http.MethodGet, s.base+path, "", "")
			if a.status != http.StatusOK || a.header.Get("Content-Type") != kind || a.body == "" || a.header.Get("Content-Security-Policy") == "" {
				t.Errorf("%s: %d %v", path, a.status, a.header)
			}
		}
		var ops []struct{ Method, Path string }
		if err := json.Unmarshal([]byte(s.call(http.MethodGet, s.base+"/docs/operations.json", "", "").body), &ops); err != nil || len(ops) < 15 {
			t.Fatalf("%d operations, %v", len(ops), err)
		}
		spec := s.call(http.MethodGet, s.base+"/openapi.yaml", "", "").body
		if !strings.Contains(spec, "title: AXP chat connector") || strings.Count(spec, "name: Idempotency-Key") < 10 || !strings.Contains(spec, "securityDefinitions:") {
			t.Errorf("the description begins: %.300s", spec)
		}
		if strings.Contains(spec, "Orchestrator") || strings.Contains(spec, "Erasure") {
			t.Error("the description tells of what the services say to each other")
		}
	})
}

func TestTickets(t *testing.T) {
	s := start(t, map[string]string{"HTTP_ALLOWED_ORIGINS": "https://www.example.com"})
	tok := token(t, subject, nil)
	s.session("s1")
	s.session("s2")
	s.say("s1", "a", "")
	create := func(session, use string) string {
		t.Helper()
		a := s.call(http.MethodPost, s.url(session, ":createTicket"), tok, `{"use":"`+use+`"}`)
		var out struct{ Ticket, ExpireTime string }
		if err := json.Unmarshal([]byte(a.body), &out); err != nil || out.Ticket == "" || out.ExpireTime == "" {
			t.Fatalf("%+v: %v", a, err)
		}
		return out.Ticket
	}
	events := func(session, ticket string) (follower, error) {
		resp, err := get(t.Context(), s, "", s.url(session, "/events?ticket="+ticket), map[string]string{"Accept": "text/event-stream"})
		if err != nil {
			return nil, err
		}
		f := &lineFollower{body: resp.Body, lines: newLines(resp.Body), parse: parseSSE}
		t.Cleanup(f.leave)
		return f, nil
	}
	refused := func(err error) {
		t.Helper()
		if errs.From(err).Reason != axpchatv1.ErrorReason_ERROR_REASON_TICKET_INVALID {
			t.Fatalf("got %v, want TICKET_INVALID", err)
		}
	}
	ticket := create("s1", "TICKET_USE_EVENTS")
	f, err := events("s1", ticket)
	if err != nil {
		t.Fatal(err)
	}
	wantEvent(t, f, "a")
	_, err = events("s1", ticket)
	refused(err) // it works once
	_, err = events("s2", create("s1", "TICKET_USE_EVENTS"))
	refused(err) // for one session
	_, err = events("s1", create("s1", "TICKET_USE_CONNECT"))
	refused(err) // for one use
	_, err = events("s1", "rubbish")
	refused(err)

	dial := func(ticket, origin string) (*ws.Conn, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conn, _, err := ws.Dial(ctx, s.url("s1", ":connect?ticket="+ticket), &ws.DialOptions{
			HTTPClient: s.client, Subprotocols: []string{"axpchat.v1+json"}, HTTPHeader: http.Header{"Origin": {origin}},
		})
		return conn, err
	}
	for _, origin := range []string{"https://www.example.com", s.base} {
		conn, err := dial(create("s1", "TICKET_USE_CONNECT"), origin)
		if err != nil {
			t.Fatal(err)
		}
		w := &wsFollower{ctx: t.Context(), conn: conn}
		if err := w.say(hello("", "")); err != nil {
			t.Fatal(err)
		}
		wantEvent(t, w, "a")
		w.leave()
	}
	if conn, err := dial(create("s1", "TICKET_USE_CONNECT"), "https://evil.example"); err == nil {
		_ = conn.CloseNow()
		t.Fatal("a page of another origin may connect")
	}
	conn, err := dial("rubbish", s.base)
	if err != nil {
		t.Fatal(err)
	}
	w := &wsFollower{ctx: t.Context(), conn: conn}
	defer w.leave()
	wantClose(t, w, axpchatv1.CloseCode_CLOSE_CODE_UNAUTHENTICATED)
	if _, err := w.next(); ws.CloseStatus(err) != 4501 {
		t.Fatalf("closed with %v, want 4501", err)
	}
	// Somebody else's session has no tickets for this customer.
	a := s.call(http.MethodPost, s.url("s1", ":createTicket"), token(t, other, nil), `{}`)
	if p := a.problem(t); p.Reason != "SESSION_NOT_FOUND" {
		t.Fatalf("%+v", p)
	}
}

func TestWebSocketBreaksTheProtocol(t *testing.T) {
	s := start(t, nil)
	s.session("s1")
	cases := []struct {
		name  string
		first []byte
	}{
		{"no JSON", []byte("hello")},
		{"a field that is not known", []byte(`{"hello":{"sesion":"x"}}`)},
		{"a value of another type", []byte(`{"hello":{"cursor":1}}`)},
		{"another frame than hello", []byte(`{"ping":{}}`)},
		{"another session than the address", []byte(`{"hello":{"sessionId":"s2"}}`)},
		{"too large a frame", bytes.Repeat([]byte("x"), 70<<10)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			conn, _, err := ws.Dial(ctx, s.url("s1", ":connect"), &ws.DialOptions{
				HTTPClient: s.client, Subprotocols: []string{"axpchat.v1+json"}, HTTPHeader: http.Header{"Authorization": {"Bearer " + token(t, subject, nil)}},
			})
			if err != nil {
				t.Fatal(err)
			}
			w := &wsFollower{ctx: ctx, conn: conn}
			defer w.leave()
			if err := conn.Write(ctx, ws.MessageText, c.first); err != nil {
				t.Fatal(err)
			}
			if len(c.first) > 64<<10 {
				// The transport itself may have closed by then.
				for err == nil {
					_, err = w.next()
				}
				if code := ws.CloseStatus(err); code != ws.StatusMessageTooBig && code != 4503 {
					t.Fatalf("closed with %v", err)
				}
				return
			}
			wantClose(t, w, axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR)
			if _, err := w.next(); ws.CloseStatus(err) != 4503 {
				t.Fatalf("closed with %v, want 4503", err)
			}
		})
	}
}

func TestHistory(t *testing.T) {
	s := start(t, nil)
	s.session("s1")
	tok := token(t, subject, nil)
	mine := func(id, client string, status axpchatv1.MessageStatus) *axpchatv1.Message {
		return &axpchatv1.Message{MessageId: id, ClientMessageId: client, Status: status, Body: &axpchatv1.MessageBody{ElementText: &axpchatv1.ElementText{Text: id}}}
	}
	s.publish("s1", &axpchatv1.Event{EventId: "1", EngagementId: "e-s1", Payload: &axpchatv1.Event_MessageAccepted{MessageAccepted: mine("m1", "c1", 1)}})
	s.say("s1", "agent-1", "hello")
	s.publish("s1", &axpchatv1.Event{EventId: "2", EngagementId: "e-s1", Payload: &axpchatv1.Event_MessageDelivered{MessageDelivered: mine("m1", "", 3)}})
	s.publish("s1", &axpchatv1.Event{EventId: "3", EngagementId: "e-s1", Payload: &axpchatv1.Event_MessageStatusChanged{
		MessageStatusChanged: &axpchatv1.MessageStatusChanged{MessageId: "m1", Status: axpchatv1.MessageStatus_MESSAGE_STATUS_SENT},
	}})
	s.publish("s1", &axpchatv1.Event{EventId: "4", EngagementId: "elsewhere", Payload: &axpchatv1.Event_MessageAccepted{MessageAccepted: mine("m9", "c9", 1)}})
	s.publish("s1", &axpchatv1.Event{EventId: "5", EngagementId: "e-s1", Payload: &axpchatv1.Event_MessageAccepted{MessageAccepted: mine("m2", "c2", 1)}})
	s.publish("s1", &axpchatv1.Event{EventId: "6", EngagementId: "e-s1", Payload: &axpchatv1.Event_MessageStatusChanged{
		MessageStatusChanged: &axpchatv1.MessageStatusChanged{MessageId: "m2", Status: axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED, Failure: &axpchatv1.MessageFailure{Reason: "AXP_REJECTED"}},
	}})
	client := axpchatv1.NewChatServiceClient(s.grpc)
	list := func(newest bool) (ids []string, last *axpchatv1.Message) {
		t.Helper()
		for next := ""; ; {
			resp, err := client.ListMessages(bearer(t.Context(), tok), &axpchatv1.ListMessagesRequest{
				SessionId: "s1", EngagementId: "e-s1", PageSize: 2, PageToken: next, NewestFirst: newest,
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range resp.GetMessages() {
				ids, last = append(ids, m.GetMessageId()+":"+m.GetClientMessageId()+":"+m.GetStatus().String()), m
			}
			if next = resp.GetNextPageToken(); next == "" {
				return ids, last
			}
		}
	}
	got, last := list(false)
	expect := []string{"m1:c1:MESSAGE_STATUS_DELIVERED", "agent-1::MESSAGE_STATUS_DELIVERED", "m2:c2:MESSAGE_STATUS_FAILED"}
	if diff := cmp.Diff(expect, got); diff != "" || last.GetFailure().GetReason() != "AXP_REJECTED" {
		t.Fatalf("%s %v", diff, last)
	}
	got, _ = list(true)
	if diff := cmp.Diff([]string{expect[2], expect[1], expect[0]}, got); diff != "" {
		t.Fatal(diff)
	}
	for name, req := range map[axpchatv1.ErrorReason]*axpchatv1.ListMessagesRequest{
		axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND:    {SessionId: "s9", EngagementId: "e-s1"},
		axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_NOT_FOUND: {SessionId: "s1", EngagementId: "e9"},
		axpchatv1.ErrorReason_ERROR_REASON_PAGE_TOKEN_INVALID:   {SessionId: "s1", EngagementId: "e-s1", PageToken: "rubbish"},
	} {
		if _, err := client.ListMessages(bearer(t.Context(), tok), req); errs.From(err).Reason != name {
			t.Errorf("%v: %v", name, err)
		}
	}
	if _, err := client.ListMessages(bearer(t.Context(), token(t, other, nil)), &axpchatv1.ListMessagesRequest{SessionId: "s1", EngagementId: "e-s1"}); errs.From(err).Reason != axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND {
		t.Errorf("another customer: %v", err)
	}
}
