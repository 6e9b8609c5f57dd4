package sandbox_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	sandbox "github.com/axpchat/connector/services/axp-sandbox"
	"github.com/axpchat/connector/services/internal/kit/await"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	account  = "SANDBX"
	provider = "sandbox-chat"
	chat     = "/api/digital/channel/v1/accounts/" + account
	hooks    = "/api/digital/webhook/v1/accounts/" + account + "/subscriptions"
	store    = "/api/media-store/v1"
	nobody   = "11111111-2222-4333-8444-555555555555" // an id that nothing has
)

type object = map[string]any

// patience bounds every wait; it is never waited out where all is well.
const patience = 10 * time.Second

// box is a running sandbox with a client that holds every answer of AXP's
// operations to the documents, where they are there.
type box struct {
	t      testing.TB
	url    string
	token  string
	client *http.Client
	stop   func()
}

func settings() sandbox.Config {
	return sandbox.Config{
		Addr: "127.0.0.1:0", AccountID: account, ClientID: "client", ClientSecret: "secret", AppKey: "key", ChannelProviderID: provider,
		TokenLifetime: time.Hour, ActivationDelay: time.Millisecond, AgentName: "Robin", AcceptDelay: time.Millisecond, ReplyDelay: time.Millisecond,
		RetryDelay: 20 * time.Millisecond, MaxAttempts: 5, CallbackTimeout: 5 * time.Second, AllowHTTP: true, Seed: 1,
	}
}

// start runs a sandbox until the test ends, or until stop.
func start(t testing.TB, change func(*sandbox.Config)) *box {
	t.Helper()
	cfg := settings()
	if change != nil {
		change(&cfg)
	}
	s, err := sandbox.New(t.Context(), sandbox.Params{Config: cfg, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	// Connections are not kept: net/http repeats reads over broken ones.
	transport := &http.Transport{DisableKeepAlives: true}
	b := &box{t: t, url: "http://" + s.Addr(), client: &http.Client{Transport: transport}}
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(b.stop)
	b.login()
	return b
}

// in is the sandbox as a subtest sees it.
func (b *box) in(t *testing.T) *box {
	t.Helper()
	c := *b
	c.t = t
	return &c
}

// answer is what came back.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	data   []byte
}

// request can be changed before it is sent.
type request func(*http.Request)

func header(name, value string) request {
	return func(r *http.Request) {
		r.Header.Set(name, value)
		if value == "" {
			r.Header.Del(name)
		}
	}
}

// try makes a call that may fail for want of an answer.
func (b *box) try(ctx context.Context, method, path string, body any, changes ...request) (answer, error) {
	b.t.Helper()
	var data []byte
	contentType := "application/json"
	switch body := body.(type) {
	case nil:
		contentType = ""
	case url.Values:
		data, contentType = []byte(body.Encode()), "application/x-www-form-urlencoded"
	case string:
		data = []byte(body)
	default:
		var err error
		if data, err = json.Marshal(body); err != nil {
			b.t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, b.url+path, bytes.NewReader(data))
	if err != nil {
		b.t.Fatal(err)
	}
	header("Content-Type", contentType)(r)
	r.Header.Set("appkey", "key")
	r.Header.Set("Authorization", "Bearer "+b.token)
	for _, change := range changes {
		change(r)
	}
	resp, err := b.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{b.t, resp.StatusCode, resp.Header, got}
	conforms(b.t, r, a)
	return a, nil
}

func (b *box) call(method, path string, body any, changes ...request) answer {
	b.t.Helper()
	a, err := b.try(b.t.Context(), method, path, body, changes...)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (b *box) get(path string) answer { b.t.Helper(); return b.call(http.MethodGet, path, nil) }
func (b *box) post(path string, body any) answer {
	b.t.Helper()
	return b.call(http.MethodPost, path, body)
}
func (b *box) control(path string, body object) answer {
	b.t.Helper()
	return b.post("/control/"+path, body).want(200)
}

// want checks the status and goes on.
func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.data)
	}
	return a
}

// into reads the body.
func into[T any](a answer) (v T) {
	a.t.Helper()
	if err := json.Unmarshal(a.data, &v); err != nil {
		a.t.Fatalf("%v: %s", err, a.data)
	}
	return v
}

// text reads one field of the body, by its path.
func (a answer) text(path string) string { a.t.Helper(); return text(into[object](a), path) }

func text(v any, path string) string {
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(object)
		v = m[name]
	}
	s, _ := v.(string)
	return s
}

type violation struct {
	Field, Message string
	Code           int
}

// refused checks that a field was named in a problem, and returns its code.
func (a answer) refused(field string) int {
	a.t.Helper()
	p := into[struct{ Violations []violation }](a.want(http.StatusBadRequest))
	i := slices.IndexFunc(p.Violations, func(v violation) bool { return v.Field == field })
	if i < 0 {
		a.t.Errorf("no violation of %s: %s", field, a.data)
		return 0
	}
	if p.Violations[i].Message == "" {
		a.t.Errorf("the violation of %s says nothing", field)
	}
	return p.Violations[i].Code
}

const tokenPath = "/api/auth/v1/" + account + "/protocol/openid-connect/token"

func credentials() url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"}, "client_secret": {"secret"}}
}

func (b *box) login() {
	b.t.Helper()
	b.token = b.post(tokenPath, credentials()).want(200).text("access_token")
}

// newSession is a body of Create Session for a customer.
func newSession(customer string) object {
	return object{
		"accountId": account, "channelProviderId": provider, "displayName": customer,
		"customerIdentifiers": object{"emailAddresses": []string{strings.ToLower(customer) + "@example.com"}},
	}
}

func (b *box) session(customer string) string {
	b.t.Helper()
	return b.post(chat+"/sessions", newSession(customer)).want(201).text("sessionId")
}

// talk is a dialog with the ids that calls need.
type talk struct {
	b                           *box
	session, engagement, dialog string
}

// talk starts a chat of a session and waits until it is ACTIVE.
func (b *box) talk(session string) talk {
	b.t.Helper()
	t := b.pending(session, "")
	await.Until(b.t, "the dialog to be ACTIVE", func() bool { return t.status() == "ACTIVE" })
	return t
}

func (b *box) pending(session, conversation string) talk {
	b.t.Helper()
	key := "key-" + conversation + time.Now().Format(time.RFC3339Nano)
	body := object{"sessionId": session, "channelId": "Chat", "providerDialogId": key}
	if conversation != "" {
		body["conversation"] = conversation
	}
	e := into[engagement](b.post(chat+"/engagements", body).want(201))
	for _, d := range e.Dialogs {
		if d.ProviderDialogID == key {
			return talk{b, session, e.EngagementID, d.DialogID}
		}
	}
	b.t.Fatalf("no dialog carries %s", key)
	return talk{}
}

type engagement struct {
	EngagementID, Conversation, CorrelationID string
	Dialogs                                   []struct {
		DialogID, DialogStatus, ProviderDialogID, InitiatorParticipantID string
		Connections                                                      []struct {
			ConnectionID, ParticipantID, ParticipantType, ConnectionState, DisplayName string
			SessionIDs                                                                 []string
		}
	}
}

func (t talk) path(rest string) string { return chat + "/engagements/" + t.engagement + rest }

func (t talk) ids() object { return object{"sessionId": t.session, "dialogId": t.dialog} }

func (t talk) status() string {
	t.b.t.Helper()
	for _, d := range into[engagement](t.b.get(t.path("")).want(200)).Dialogs {
		if d.DialogID == t.dialog {
			return d.DialogStatus
		}
	}
	return ""
}

func (t talk) message(words string) object {
	m := t.ids()
	m["body"] = object{"elementType": "text", "elementText": object{"text": words, "textFormat": "PLAINTEXT"}}
	m["providerMessageId"] = words
	return m
}

func (t talk) say(words string) {
	t.b.t.Helper()
	t.b.post(t.path("/messages"), t.message(words)).want(202)
}

func (t talk) desk(verb string, body any) answer {
	t.b.t.Helper()
	return t.b.post("/desk/api/chats/"+t.dialog+"/"+verb, body)
}

// receiver takes callbacks and holds them to the documents, where they are
// there.
type receiver struct {
	t      testing.TB
	url    string
	events chan object

	mu     sync.Mutex
	answer func(event object, w http.ResponseWriter, r *http.Request)
}

// receive subscribes a new receiver to everything, or to some types.
func (b *box) receive(types ...string) *receiver {
	b.t.Helper()
	rec := listen(b.t)
	if len(types) == 0 {
		types = []string{"ALL"}
	}
	b.post(hooks, object{"channelProviderId": provider, "callbackUrl": rec.url, "eventTypes": types}).want(201)
	return rec
}

func listen(t testing.TB) *receiver {
	t.Helper()
	rec := &receiver{t: t, events: make(chan object, 1000)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		var event object
		if err == nil {
			err = json.Unmarshal(data, &event)
		}
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("callback %s of type %q: %v", r.Method, r.Header.Get("Content-Type"), err)
		}
		eventConforms(t, event)
		rec.mu.Lock()
		f := rec.answer
		rec.mu.Unlock()
		rec.events <- event
		if f != nil {
			f(event, w, r)
		}
	}))
	t.Cleanup(server.Close)
	rec.url = server.URL + "/callback"
	return rec
}

// answers changes what is answered; 200 else.
func (rec *receiver) answers(f func(event object, w http.ResponseWriter, r *http.Request)) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.answer = f
}

// next is the next callback.
func (rec *receiver) next() object {
	rec.t.Helper()
	ctx, cancel := context.WithTimeout(rec.t.Context(), patience)
	defer cancel()
	select {
	case e := <-rec.events:
		return e
	case <-ctx.Done():
		rec.t.Fatal("no callback came")
		return nil
	}
}

// tell says in short what an event is.
func tell(e object) string {
	who := cmp.Or(text(e, "senderParticipantType"), text(e, "participantType"))
	out := text(e, "eventType")
	if who != "" {
		out += " " + who
	}
	if words := text(e, "body.elementText.text"); words != "" {
		out += ": " + words
	}
	return out
}

// expect waits for callbacks in order.
func (rec *receiver) expect(want ...string) {
	rec.t.Helper()
	for _, w := range want {
		if got := tell(rec.next()); got != w {
			rec.t.Fatalf("callback %q, want %q", got, w)
		}
	}
}

// began is what a chat that starts tells.
var began = []string{"ENGAGEMENT_CREATED", "PARTICIPANT_ADDED CUSTOMER"}
