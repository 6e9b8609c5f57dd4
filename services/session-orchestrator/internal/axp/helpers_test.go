package axp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testAccount = "ABCDEF"
	testSecret  = "very-secret-value"
	testAppKey  = "very-secret-key"
	tokenPath   = "/api/auth/v1/ABCDEF/protocol/openid-connect/token"
	id1         = "11111111-1111-4111-8111-111111111111"
	id2         = "22222222-2222-4222-8222-222222222222"
	id3         = "33333333-3333-4333-8333-333333333333"
)

// instantClock does not wait: sleeping moves its time ahead, and is recorded.
type instantClock struct {
	mu    sync.Mutex
	now   time.Time
	waits []time.Duration
}

func newInstantClock() *instantClock {
	return &instantClock{now: time.Date(2026, 3, 11, 9, 0, 0, 0, time.UTC)}
}

func (c *instantClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *instantClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.waits = append(c.waits, d)
	return ctx.Err()
}

func (c *instantClock) slept() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waits
}

// seen is a request as the double of AXP got it.
type seen struct {
	method, uri, body string
	header            http.Header
}

// fakeAXP is a double of AXP for precise protocol behaviour. It grants tokens
// "token-1", "token-2", ... and passes everything else to handler.
type fakeAXP struct {
	tb      testing.TB
	server  *httptest.Server
	handler http.HandlerFunc
	// token replaces the token endpoint.
	token http.HandlerFunc

	mu       sync.Mutex
	tokens   int
	requests []seen
}

func newFakeAXP(tb testing.TB, handler http.HandlerFunc) *fakeAXP {
	tb.Helper()
	f := &fakeAXP{tb: tb, handler: handler}
	f.server = httptest.NewServer(http.HandlerFunc(f.serve))
	tb.Cleanup(f.server.Close)
	return f
}

func (f *fakeAXP) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	if r.URL.Path == tokenPath {
		f.mu.Lock()
		f.tokens++
		n := f.tokens
		f.mu.Unlock()
		if f.token != nil {
			f.token(w, r)
			return
		}
		answer(w, http.StatusOK, fmt.Sprintf(`{"access_token":"token-%d","expires_in":900}`, n))
		return
	}
	f.mu.Lock()
	f.requests = append(f.requests, seen{r.Method, r.RequestURI, string(body), r.Header.Clone()})
	f.mu.Unlock()
	f.handler(w, r)
}

func (f *fakeAXP) tokenRequests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tokens
}

func (f *fakeAXP) calls() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]seen(nil), f.requests...)
}

// client is a Client of the double, with a clock that does not wait.
func (f *fakeAXP) client(change ...func(*axp.Params)) *axp.Client {
	f.tb.Helper()
	return newClient(f.tb, f.server.URL, change...)
}

func newClient(tb testing.TB, baseURL string, change ...func(*axp.Params)) *axp.Client {
	tb.Helper()
	p := axp.Params{
		Account: testAccountAt(baseURL),
		Clock:   newInstantClock(),
		Jitter:  func() float64 { return 1 },
	}
	for _, c := range change {
		c(&p)
	}
	client, err := axp.NewClient(p)
	if err != nil {
		tb.Fatalf("NewClient: %v", err)
	}
	tb.Cleanup(func() {
		if err := client.Close(); err != nil {
			tb.Errorf("Close: %v", err)
		}
	})
	return client
}

func testAccountAt(baseURL string) axp.Account {
	return axp.Account{
		AccountID:         testAccount,
		ClientID:          "client",
		ClientSecret:      config.Secret(testSecret),
		AppKey:            config.Secret(testAppKey),
		ChannelProviderID: "provider-1",
		BaseURL:           baseURL,
	}
}

func answer(w http.ResponseWriter, status int, body string) {
	kind := "application/json"
	if status >= 400 {
		kind = "application/problem+json"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// always answers every request alike.
func always(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { answer(w, status, body) }
}

// dropped takes the request and breaks the connection instead of answering.
func dropped(tb testing.TB) http.HandlerFunc {
	tb.Helper()
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			tb.Errorf("hijack: %v", err)
			return
		}
		_ = conn.Close()
	}
}

// inTurn gives each request its own answer; the last one stays.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := handlers[min(n, len(handlers)-1)]
		n++
		mu.Unlock()
		h(w, r)
	}
}

// specDir gives the folder with AXP's documents, or skips the test.
func specDir(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("AXP_SPEC_DIR")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "..", "shared", "axp")
	}
	if _, err := os.Stat(dir); err != nil {
		tb.Skipf("no AXP documents here (set AXP_SPEC_DIR): %v", err)
	}
	return dir
}

const (
	sessionJSON    = `{"sessionId":"` + id1 + `","accountId":"ABCDEF","channelProviderId":"provider-1","sessionStatus":"ACTIVE","createdAt":"2026-03-11T09:00:00Z","lastUpdatedAt":"2026-03-11T09:00:00Z","url":"/x"}`
	engagementJSON = `{"engagementId":"` + id2 + `","accountId":"ABCDEF","url":"/x","dialogs":[{"dialogId":"` + id3 + `","channelId":"Chat","dialogStatus":"PENDING","initiatorParticipantId":"p","providerDialogId":"ours","connections":[],"createdAt":"2026-03-11T09:00:00Z","lastUpdatedAt":"2026-03-11T09:00:00Z"}]}`
	messageJSON    = `{"accountId":"ABCDEF","channelProviderId":"provider-1","channelId":"Chat","senderParticipantId":"p","senderParticipantName":"n","senderParticipantType":"CUSTOMER","body":{"elementType":"text","elementText":{"text":"hi"}},"status":"SENT","providerMessageId":"m-1"}`
	subscription   = `{"subscriptionId":"` + id1 + `","channelProviderId":"provider-1","callbackUrl":"https://cb.example/webhooks/axp/ABCDEF/k","eventTypes":["MESSAGES"]}`
	signedJSON     = `{"mediaId":"` + id1 + `","mediaName":"a.txt","mediaContentType":"text/plain","mediaSize":5,"uploadSignedUri":"/v1/media/` + id1 + `?ttl=1&signature=s","downloadSignedUri":"/v1/media/` + id1 + `?ttl=1&signature=s"}`
)

// operation calls one operation with a sound request.
type operation struct {
	name string
	good http.HandlerFunc
	call func(ctx context.Context, c *axp.Client) error
}

// operations is every operation of a Client but the token's.
func operations() []operation {
	ignore := func(_ any, err error) error { return err }
	return []operation{
		{axp.OpCreateSession, always(201, sessionJSON), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.CreateSession(ctx, axp.CreateSession{
				CustomerIdentifiers: axp.CustomerIdentifiers{"emailAddresses": {"a@b.example"}},
				DisplayName:         "Ada", SessionParameters: map[string]string{"page": "home"},
				ProviderCustomerID: "c-1", CorrelationID: "corr-1",
			}))
		}},
		{axp.OpGetSession, always(200, sessionJSON), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.GetSession(ctx, id1))
		}},
		{axp.OpAppendIdentifiers, always(200, sessionJSON), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.AppendIdentifiers(ctx, id1, axp.CustomerIdentifiers{"phoneNumbers": {"1"}}))
		}},
		{axp.OpUpdateSessionParameters, always(200, sessionJSON), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.UpdateSessionParameters(ctx, id1, map[string]string{"page": "cart"}))
		}},
		{axp.OpDeleteSession, always(204, ""), func(ctx context.Context, c *axp.Client) error {
			return c.DeleteSession(ctx, id1, "")
		}},
		{axp.OpCreateEngagement, always(201, engagementJSON), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.CreateEngagement(ctx, axp.CreateEngagement{
				SessionID: id1, Conversation: "bikes", ProviderDialogID: "ours",
				EngagementParameters: map[string]string{"k": "v"}, CorrelationID: "corr-1",
			}))
		}},
		{axp.OpListEngagements, always(200, "["+engagementJSON+"]"), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.ListEngagements(ctx, id1))
		}},
		{axp.OpGetEngagement, always(200, engagementJSON), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.GetEngagement(ctx, id2))
		}},
		{axp.OpJoinEngagement, always(200, engagementJSON), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.JoinEngagement(ctx, id2, axp.JoinEngagement{SessionID: id1, DialogID: id3, CorrelationID: "x"}))
		}},
		{axp.OpDisconnectEngagement, always(200, `{"sessionId":"`+id1+`","dialogId":"`+id3+`"}`), func(ctx context.Context, c *axp.Client) error {
			return c.DisconnectEngagement(ctx, id2, axp.DisconnectEngagement{SessionID: id1, DialogID: id3})
		}},
		{axp.OpSendMessage, always(202, messageJSON), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.SendMessage(ctx, id2, soundMessage()))
		}},
		{axp.OpListMessages, always(200, `{"messages":[`+messageJSON+`]}`), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.ListMessages(ctx, id2, id3, id1, 1, 50))
		}},
		{axp.OpCreateSubscription, always(201, subscription), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.CreateSubscription(ctx, soundSubscription()))
		}},
		{axp.OpListSubscriptions, always(200, "["+subscription+"]"), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.ListSubscriptions(ctx, "provider-1"))
		}},
		{axp.OpGetSubscription, always(200, subscription), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.GetSubscription(ctx, id1))
		}},
		{axp.OpUpdateSubscription, always(200, subscription), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.UpdateSubscription(ctx, soundSubscription()))
		}},
		{axp.OpDeleteSubscription, always(204, ""), func(ctx context.Context, c *axp.Client) error {
			return c.DeleteSubscription(ctx, id1)
		}},
		{axp.OpSignedUploadURI, always(200, signedJSON), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.SignedUploadURI(ctx, axp.SignedMediaInfo{MediaName: "a.txt", MediaContentType: "text/plain", MediaSize: 5}))
		}},
		{axp.OpSignedDownloadURI, always(200, signedJSON), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.SignedDownloadURI(ctx, id1))
		}},
		{axp.OpUploadMedia, always(202, `{"mediaId":"`+id1+`","mediaName":"a.txt"}`), func(ctx context.Context, c *axp.Client) error {
			return ignore(c.UploadMedia(ctx, "/v1/media/"+id1+"?ttl=1&signature=s", axp.MediaFile{
				Name: "a.txt", ContentType: "text/plain", Size: 5, Content: strings.NewReader("hello"),
			}))
		}},
		{axp.OpDownloadMedia, always(200, "hello"), func(ctx context.Context, c *axp.Client) error {
			media, err := c.DownloadMedia(ctx, "/v1/media/"+id1+"?ttl=1&signature=s")
			if err != nil {
				return err
			}
			defer func() { _ = media.Body.Close() }()
			_, err = io.ReadAll(media.Body)
			return err
		}},
	}
}

func soundMessage() axp.SendMessage {
	return axp.SendMessage{
		SessionID: id1, DialogID: id3, Body: axp.TextBody("hello", ""), ProviderMessageID: "m-1",
		Headers:    &axp.MessageHeaders{ClientDeviceTag: "web", ProviderTimestamp: axp.Time{Time: time.Date(2026, 3, 11, 10, 0, 0, 5e8, time.FixedZone("", 3600))}},
		CustomData: map[string]string{"k": "v"}, FallbackText: "hello", CorrelationID: "corr-1",
	}
}

func soundSubscription() axp.Subscription {
	return axp.Subscription{
		SubscriptionID: id1, CallbackURL: "https://cb.example/webhooks/axp/ABCDEF/k",
		EventTypes: []axp.EventType{axp.EventMessages},
	}
}

func decodeJSON(tb testing.TB, text string) map[string]any {
	tb.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		tb.Fatalf("body %q: %v", text, err)
	}
	return out
}
