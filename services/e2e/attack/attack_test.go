package attack

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/connector/dev"
	"github.com/axpchat/connector/services/internal/suitetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The default HTTP client keeps connections for its next request.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}

const patience = 60 * time.Second

// scene is a suite with a victim, who chats, and a thief, who has a token of his own.
type scene struct {
	*suitetest.Suite
	victim, thief string // tokens
	session, chat string // the victim's
	own           string // the thief's session
	said          int
}

func claims(subject string) jwt.MapClaims {
	return jwt.MapClaims{
		"iss": "axp-sandbox", "aud": "axp-chat-connector", "sub": subject, "account": suitetest.Account,
		"exp": time.Now().Add(time.Hour).Unix(), "identifiers": map[string][]string{"emailAddresses": {subject + "@example.net"}},
	}
}

func sign(t *testing.T, method jwt.SigningMethod, key any, c jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func start(ctx context.Context, t *testing.T, changes ...func(*dev.Config)) *scene {
	t.Helper()
	secret := []byte(suitetest.TokenSecret)
	return startWith(ctx, t, sign(t, jwt.SigningMethodHS256, secret, claims("victim")), sign(t, jwt.SigningMethodHS256, secret, claims("thief")), changes...)
}

// startWith is start with tokens that somebody else has signed.
func startWith(ctx context.Context, t *testing.T, victim, thief string, changes ...func(*dev.Config)) *scene {
	t.Helper()
	s := &scene{Suite: suitetest.Start(t, changes...), victim: victim, thief: thief}
	s.session = s.id(ctx, t, s.victim, "/v1/sessions", "session", "sessionId")
	s.own = s.id(ctx, t, s.thief, "/v1/sessions", "session", "sessionId")
	s.chat = s.id(ctx, t, s.victim, "/v1/sessions/"+s.session+"/engagements", "engagement", "engagementId")
	return s
}

func (s *scene) id(ctx context.Context, t *testing.T, token, path, of, field string) string {
	t.Helper()
	a := s.ask(ctx, t, request{method: http.MethodPost, path: path, token: token, body: "{}"})
	var out map[string]map[string]any
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != http.StatusOK {
		t.Fatalf("%s: %d %s", path, a.status, a.body)
	}
	id, _ := out[of][field].(string)
	return id
}

// request is what is sent; the token goes into the header Authorization.
type request struct {
	method, path, token, body string
	headers                   map[string]string
}

// answer is what came back; reason is that of the problem.
type answer struct {
	status       int
	reason, body string
}

func (s *scene) ask(ctx context.Context, t *testing.T, r request) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, r.method, s.HTTP, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	// As it stands: nothing is cleaned on the way out.
	path, query, _ := strings.Cut(r.path, "?")
	req.URL.Opaque, req.URL.RawQuery = "//"+req.URL.Host+path, query
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range r.headers {
		req.Header.Set(k, v)
	}
	// Redirects would hide the answer.
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %.80s: %v", r.method, r.path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var problem struct{ Reason string }
	_ = json.Unmarshal(body, &problem) // others have no reason
	return answer{resp.StatusCode, problem.Reason, string(body)}
}

// goesOn has the victim say something and find it in the history.
func (s *scene) goesOn(ctx context.Context, t *testing.T) {
	t.Helper()
	s.said++
	text := fmt.Sprint("still here ", s.said)
	path := "/v1/sessions/" + s.session + "/engagements/" + s.chat + "/messages"
	body := fmt.Sprintf(`{"clientMessageId":"m%d","text":%q}`, s.said, text)
	if a := s.ask(ctx, t, request{method: http.MethodPost, path: path, token: s.victim, body: body}); a.status != http.StatusOK {
		t.Errorf("the victim's chat does not go on: %d %s", a.status, a.body)
	}
	if a := s.ask(ctx, t, request{method: http.MethodGet, path: path + "?newestFirst=true", token: s.victim}); !strings.Contains(a.body, text) {
		t.Errorf("the victim's message is not in the history: %d %s", a.status, a.body)
	}
}

// attacks are tried one by one; each names the refusal that it must get.
type attack struct {
	name    string
	request request
	status  int
	reason  string
}

func (s *scene) try(ctx context.Context, t *testing.T, attacks []attack) {
	t.Helper()
	for _, a := range attacks {
		got := s.ask(ctx, t, a.request)
		if got.status != a.status || got.reason != a.reason {
			t.Errorf("%s: %d %s, want %d %s (%.200s)", a.name, got.status, got.reason, a.status, a.reason, got.body)
		}
		if strings.Contains(got.body, "still here") {
			t.Errorf("%s: the answer holds the victim's words", a.name)
		}
	}
	s.goesOn(ctx, t)
}

// unsigned makes a token by hand: head, claims and signature as they are given.
func unsigned(t *testing.T, head string, c jwt.MapClaims, mac func(signed string) []byte) string {
	t.Helper()
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString([]byte(head)) + "." + enc.EncodeToString(body)
	return signed + "." + enc.EncodeToString(mac(signed))
}

func TestForgedAndSwappedTokensAreRefused(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	s := start(ctx, t)
	secret := []byte(suitetest.TokenSecret)
	mac := func(key []byte) func(string) []byte {
		return func(signed string) []byte {
			h := hmac.New(sha256.New, key)
			h.Write([]byte(signed))
			return h.Sum(nil)
		}
	}
	with := func(field string, v any) jwt.MapClaims {
		c := claims("victim")
		c[field] = v
		return c
	}
	parts := strings.Split(s.victim, ".")
	thiefs := strings.Split(s.thief, ".")
	var attacks []attack
	for name, token := range map[string]string{
		"alg none":                         sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims("victim")),
		"alg none in other letters":        unsigned(t, `{"alg":"NoNe","typ":"JWT"}`, claims("victim"), func(string) []byte { return nil }),
		"signature left out":               parts[0] + "." + parts[1] + ".",
		"only two parts":                   parts[0] + "." + parts[1],
		"an algorithm that is not pinned":  sign(t, jwt.SigningMethodHS512, secret, claims("victim")),
		"RS256 named, signed by HMAC":      unsigned(t, `{"alg":"RS256","typ":"JWT"}`, claims("victim"), mac(secret)),
		"another secret":                   sign(t, jwt.SigningMethodHS256, []byte("another-secret-that-is-long-enough-for-it"), claims("victim")),
		"an empty secret, by its kid":      unsigned(t, `{"alg":"HS256","kid":"../../../dev/null"}`, claims("victim"), mac(nil)),
		"key in the token itself":          unsigned(t, `{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}`, claims("victim"), mac([]byte{0})),
		"key from an address in the token": unsigned(t, `{"alg":"HS256","jku":"http://127.0.0.1:1/keys"}`, claims("victim"), mac([]byte("x"))),
		"critical extension":               unsigned(t, `{"alg":"HS256","crit":["exp"],"exp":1}`, claims("victim"), mac([]byte("x"))),
		"the victim's claims, my own mark": parts[0] + "." + parts[1] + "." + thiefs[2],
		"of tomorrow":                      sign(t, jwt.SigningMethodHS256, secret, with("nbf", time.Now().Add(24*time.Hour).Unix())),
		"of another issuer":                sign(t, jwt.SigningMethodHS256, secret, with("iss", "somebody")),
		"for another audience":             sign(t, jwt.SigningMethodHS256, secret, with("aud", "somebody")),
		"without an end":                   sign(t, jwt.SigningMethodHS256, secret, with("exp", nil)),
		"without a subject":                sign(t, jwt.SigningMethodHS256, secret, with("sub", "")),
		"with an account that is a list":   sign(t, jwt.SigningMethodHS256, secret, with("account", []string{suitetest.Account})),
		"with wildcards for an account":    sign(t, jwt.SigningMethodHS256, secret, with("account", "*")),
		"garbage":                          strings.Repeat("A.", 3000),
	} {
		attacks = append(attacks, attack{name, request{method: http.MethodGet, path: "/v1/sessions/" + s.session, token: token}, http.StatusUnauthorized, "UNAUTHENTICATED"})
	}
	expired := sign(t, jwt.SigningMethodHS256, secret, with("exp", time.Now().Add(-time.Hour).Unix()))
	attacks = append(attacks, attack{"expired", request{method: http.MethodGet, path: "/v1/sessions/" + s.session, token: expired}, http.StatusUnauthorized, "TOKEN_EXPIRED"})
	s.try(ctx, t, attacks)
}

func TestAnothersSessionIsNotThereByAnyMethod(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	s := start(ctx, t)
	s.goesOn(ctx, t)
	session := "/v1/sessions/" + s.session
	var attacks []attack
	for _, r := range []request{
		{method: http.MethodGet, path: session},
		{method: http.MethodDelete, path: session},
		{method: http.MethodPost, path: session + ":updateParameters", body: `{"sessionParameters":{"a":"b"}}`},
		{method: http.MethodPost, path: session + ":appendIdentifiers", body: `{"customerIdentifiers":{"a":{"values":["b"]}}}`},
		{method: http.MethodPost, path: session + ":keepAlive", body: `{}`},
		{method: http.MethodPost, path: session + ":createTicket", body: `{}`},
		{method: http.MethodPost, path: session + "/engagements", body: `{}`},
		{method: http.MethodGet, path: session + "/engagements"},
		{method: http.MethodGet, path: session + "/engagements/" + s.chat},
		{method: http.MethodPost, path: session + "/engagements/" + s.chat + ":end", body: `{}`},
		{method: http.MethodPost, path: "/v1/sessions/" + s.own + "/engagements/" + s.chat + ":join", body: `{"ownerSessionId":"` + s.session + `"}`},
		{method: http.MethodPost, path: session + "/engagements/" + s.chat + "/messages", body: `{"clientMessageId":"x","text":"I am the victim"}`},
		{method: http.MethodGet, path: session + "/engagements/" + s.chat + "/messages"},
		{method: http.MethodPost, path: session + "/attachments", body: `{"name":"a.png","contentType":"image/png","size":"1"}`},
		{method: http.MethodGet, path: session + "/attachments/some"},
		{method: http.MethodGet, path: session + "/events", headers: map[string]string{"Accept": "text/event-stream"}},
		{method: http.MethodGet, path: session + "/events:poll?wait=0s"},
	} {
		r.token = s.thief
		attacks = append(attacks, attack{r.method + " " + r.path, r, http.StatusNotFound, "SESSION_NOT_FOUND"})
	}
	s.try(ctx, t, attacks)
	s.anothersByGRPC(ctx, t)
	s.anothersOnStreams(ctx, t)
	// A cursor shows nothing of where it was made: it is another session's, which is
	// told, and the reader begins at the beginning of his own.
	mine := s.ask(ctx, t, request{method: http.MethodGet, path: "/v1/sessions/" + s.session + "/events:poll?wait=0s", token: s.victim})
	var page struct{ Cursor string }
	if err := json.Unmarshal([]byte(mine.body), &page); err != nil || page.Cursor == "" {
		t.Fatalf("the victim's events: %s", mine.body)
	}
	got := s.ask(ctx, t, request{method: http.MethodGet, path: "/v1/sessions/" + s.own + "/events:poll?wait=0s&cursor=" + page.Cursor, token: s.thief})
	if got.status != http.StatusOK || !strings.Contains(got.body, "RESET_REASON_OTHER_SESSION") || strings.Contains(got.body, "still here") {
		t.Errorf("the victim's cursor with the thief's session: %d %s", got.status, got.body)
	}
}

func TestPathsAndHeadersAreNoWayAround(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	s := start(ctx, t)
	session := "/v1/sessions/" + s.session
	get := func(path string, headers ...string) request {
		r := request{method: http.MethodGet, path: path, headers: map[string]string{}}
		for i := 0; i < len(headers); i += 2 {
			r.headers[headers[i]] = headers[i+1]
		}
		return r
	}
	thiefs := func(path string) request { return request{method: http.MethodGet, path: path, token: s.thief} }
	s.try(ctx, t, []attack{
		{"the token where gRPC would find it", get(session, "Grpc-Metadata-Authorization", "Bearer "+s.victim), http.StatusUnauthorized, "UNAUTHENTICATED"},
		{"handed over within", get(session, "Axpchat-Customer", "victim", "Grpc-Metadata-Axpchat-Customer", "victim", "Grpcgateway-Axpchat-Customer", "victim"), http.StatusUnauthorized, "UNAUTHENTICATED"},
		{"the token in a trailer", get(session, "Grpc-Trailer-Authorization", "Bearer "+s.victim), http.StatusUnauthorized, "UNAUTHENTICATED"},
		{"the token in the query", get(session + "?access_token=" + s.victim), http.StatusUnauthorized, "UNAUTHENTICATED"},
		{"the token as a cookie", get(session, "Cookie", "authorization=Bearer "+s.victim), http.StatusUnauthorized, "UNAUTHENTICATED"},
		{"the token by another scheme", get(session, "Authorization", "Basic "+s.victim), http.StatusUnauthorized, "UNAUTHENTICATED"},
		{"a wildcard for a session", thiefs("/v1/sessions/*"), http.StatusBadRequest, "INVALID_ARGUMENT"},
		{"all for a session", thiefs("/v1/sessions/%3E"), http.StatusBadRequest, "INVALID_ARGUMENT"},
		{"a key below another session", thiefs("/v1/sessions/" + s.own + "." + s.session), http.StatusBadRequest, "INVALID_ARGUMENT"},
		{"lines in a path", thiefs("/v1/sessions/a%0d%0aX-Forged:%20yes"), http.StatusBadRequest, "INVALID_ARGUMENT"},
		{"a zero byte", thiefs("/v1/sessions/a%00"), http.StatusBadRequest, "INVALID_ARGUMENT"},
	})
	// Metadata by REST headers changes nothing of who somebody is.
	got := s.ask(ctx, t, request{method: http.MethodGet, path: session, token: s.thief, headers: map[string]string{"Grpc-Metadata-Authorization": "Bearer " + s.victim}})
	if got.status != http.StatusNotFound && got.status != http.StatusUnauthorized {
		t.Errorf("two tokens by two headers: %d %s", got.status, got.body)
	}
	for _, path := range []string{"/v1/../v1/sessions/" + s.session, "/%2e%2e/metrics", "/healthz/ready", "/metrics", "/debug/pprof/", "//v1/sessions/" + s.session, "/v1/sessions/" + s.own + "/..%2f" + s.session,
		"/v1/sessions/" + s.own + "/%2e%2e/" + s.session, "/v1/sessions/" + s.own + "%2f..%2f" + s.session, "/v1/sessions/" + s.own + "/%252e%252e/" + s.session,
		"/v1/sessions/" + s.own + ";/../" + s.session, "/v1/sessions/" + s.own + "/..;/" + s.session, "/v1/sessions/" + s.own + "%5c..%5c" + s.session, "/v1/sessions/" + s.session + "%00" + s.own,
		"/v1/sessions/" + s.session + "?sessionId=" + s.own, "/v1/sessions/" + s.own + "?sessionId=" + s.session, "/v1/sessions/" + s.own + "/engagements/" + s.chat,
		"/v1/sessions/" + s.own + "/engagements/" + s.chat + "/messages?sessionId=" + s.session, "/V1/SESSIONS/" + s.session, "/v1/sessions/" + s.session + "/", "/v1/sessions/%EF%BB%BF" + s.session} {
		if got := s.ask(ctx, t, thiefs(path)); strings.Contains(got.body, `"sessionId":"`+s.session) || strings.Contains(got.body, "victim@example.net") || got.status == http.StatusOK && !strings.HasPrefix(path, "/v1/sessions/"+s.own+"?") {
			t.Errorf("%s: %d %.200s", path, got.status, got.body)
		}
	}
	// Nothing but the method says what is to be done, and nothing but the path with what.
	for _, name := range []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"} {
		s.ask(ctx, t, request{method: http.MethodPost, path: session, token: s.victim, body: "{}", headers: map[string]string{name: "DELETE"}})
		s.ask(ctx, t, request{method: http.MethodGet, path: session + "?_method=DELETE", token: s.victim, headers: map[string]string{name: "DELETE"}})
	}
	for _, name := range []string{"X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Path", "X-Forwarded-Prefix"} {
		if got := s.ask(ctx, t, request{method: http.MethodGet, path: "/v1/sessions/" + s.own, token: s.thief, headers: map[string]string{name: session}}); !strings.Contains(got.body, s.own) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	// A page of another company opens a socket in the customer's browser.
	socket := strings.Replace(s.HTTP, "http", "ws", 1) + session + ":connect"
	_, resp, err := websocket.Dial(ctx, socket, &websocket.DialOptions{
		Subprotocols: []string{"axpchat.v1+json"}, HTTPHeader: http.Header{"Origin": {"https://evil.example"}, "Authorization": {"Bearer " + s.victim}},
	})
	if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a socket from a foreign page: %v, %v, want 403", resp, err)
	}
	s.goesOn(ctx, t)
}

func TestBodiesThatWouldBurstAreRefused(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	s := start(ctx, t)
	var bomb bytes.Buffer
	z, err := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(bytes.Repeat([]byte(" "), 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	post := func(body string, headers map[string]string) request {
		return request{method: http.MethodPost, path: "/v1/sessions", token: s.thief, body: body, headers: headers}
	}
	deep := strings.Repeat(`{"sessionParameters":`, 20000)
	s.try(ctx, t, []attack{
		{"nested without end", post(deep, nil), http.StatusRequestEntityTooLarge, "TOO_LARGE"},
		{"nested deeply", post(strings.Repeat(`[`, 100000), nil), http.StatusBadRequest, "INVALID_ARGUMENT"},
		{"larger than is allowed", post(`{"displayName":"`+strings.Repeat("a", 1<<20)+`"}`, nil), http.StatusRequestEntityTooLarge, "TOO_LARGE"},
		{"a decompression bomb", post(bomb.String(), map[string]string{"Content-Encoding": "gzip"}), http.StatusBadRequest, "INVALID_ARGUMENT"},
	})
	s.bombsByGRPC(ctx, t)
}

func TestACallbackThatIsReplayedIsOneEvent(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	s := start(ctx, t)
	hook := s.CallbackURL(ctx, t)
	own := s.ask(ctx, t, request{method: http.MethodGet, path: "/v1/sessions/" + s.session + "/engagements/" + s.chat, token: s.victim})
	var e struct {
		Engagement struct {
			AxpDialogID string `json:"axpDialogId"`
		} `json:"engagement"`
	}
	if err := json.Unmarshal([]byte(own.body), &e); err != nil {
		t.Fatal(err)
	}
	callback := map[string]any{
		"eventType": "MESSAGES", "eventDate": time.Now().UTC().Format(time.RFC3339Nano), "accountId": suitetest.Account, "messageId": "replayed", "dialogId": e.Engagement.AxpDialogID,
		"senderParticipantId": "agent", "senderParticipantType": "AGENT", "body": map[string]any{"elementType": "text", "elementText": map[string]any{"text": "said once"}},
	}
	for range 20 {
		if err := suitetest.CallJSON(ctx, http.MethodPost, hook, "", callback, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.goesOn(ctx, t)
	got := s.ask(ctx, t, request{method: http.MethodGet, path: "/v1/sessions/" + s.session + "/events:poll?wait=0s&maxEvents=500", token: s.victim})
	if n := strings.Count(got.body, "said once"); n != 1 {
		t.Errorf("a callback that came twenty times is told %d times", n)
	}
}

// TestNobodyWritesLinesIntoTheLogs: what strangers send must not look like a line of
// the service's own, nor steer a terminal.
func TestNobodyWritesLinesIntoTheLogs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	s := start(ctx, t)
	forged := `{"level":"ERROR","msg":"forged"}`
	for _, r := range []request{
		{method: http.MethodGet, path: "/v1/sessions/%0a%1b%5b31m" + "forged", token: s.thief},
		{method: http.MethodGet, path: "/%0a%1b%5b31m" + "forged"},
		{method: http.MethodPost, path: "/v1/sessions", token: s.thief, body: "{\"displayName\":\"\x1b[31mforged\\n" + `forged"}`},
		{method: http.MethodGet, path: "/v1/sessions", headers: map[string]string{"X-Request-Id": forged, "User-Agent": forged, "Traceparent": forged}},
		{method: "FORGED", path: "/v1/sessions"},
	} {
		s.ask(ctx, t, r)
	}
	s.goesOn(ctx, t)
	logs := s.Logs.String()
	if len(logs) == 0 {
		t.Fatal("there are no logs: the test would prove nothing")
	}
	for line := range strings.Lines(logs) {
		if !json.Valid([]byte(line)) || strings.ContainsRune(line, 0x1b) || strings.Contains(line, "forged") || strings.Contains(line, "FORGED") {
			t.Errorf("a line in the log: %q", line)
		}
	}
}
