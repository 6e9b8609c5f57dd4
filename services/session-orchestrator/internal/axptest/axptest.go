// Package axptest is a small AXP for tests of the orchestrator: sessions,
// engagements, messages, media and subscriptions in memory, with faults on
// demand, among them "done, but the answer was lost". It sends no webhooks: a
// test writes the events itself, when it wants them. For tests only.
package axptest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// AccountID is the account that the double serves.
const AccountID = "ABCDEF"

// ProviderID is the account's channel provider.
const ProviderID = "test-provider"

// Fault is what happens to one call.
type Fault struct {
	// Status is answered instead; 0: the connection is cut.
	Status int
	// After lets the call take effect first.
	After bool
	// Late lets it take effect when CatchUp is called.
	Late bool
	// RetryAfter is the header of that name, in seconds.
	RetryAfter string
	// Wait holds the call back until the channel is closed.
	Wait <-chan struct{}
	// Pass lets the call go through as usual, after Wait.
	Pass bool
}

// Double is the stand-in. It is safe for concurrent use.
type Double struct {
	URL string

	mu          sync.Mutex
	sessions    map[string]*axp.Session
	engagements map[string]*axp.Engagement
	owners      map[string]string // engagement to session
	messages    map[string][]axp.Message
	subs        []axp.Subscription
	media       map[string]axp.SignedMediaInfo
	deleted     []string
	faults      map[string][]Fault
	calls       map[string]int
	late        []func() // what takes effect later
	secret      string   // empty: any will do
	released    chan struct{}
	release     sync.Once
}

// Start starts a double that ends with the test.
func Start(t testing.TB) *Double {
	t.Helper()
	d := &Double{
		sessions: map[string]*axp.Session{}, engagements: map[string]*axp.Engagement{}, owners: map[string]string{},
		messages: map[string][]axp.Message{}, media: map[string]axp.SignedMediaInfo{},
		faults: map[string][]Fault{}, calls: map[string]int{}, released: make(chan struct{}),
	}
	server := httptest.NewServer(d.routes())
	t.Cleanup(server.Close)
	t.Cleanup(d.Release)
	d.URL = server.URL
	return d
}

// Account is the double's account, for a configuration.
func (d *Double) Account() axp.Account {
	return axp.Account{
		AccountID: AccountID, ClientID: "client", ClientSecret: config.Secret("secret"), AppKey: config.Secret("key"),
		ChannelProviderID: ProviderID, ChannelID: axp.DefaultChannelID, BaseURL: d.URL,
	}
}

// Fail has the next calls of an operation fail, one for each fault.
func (d *Double) Fail(operation string, faults ...Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults[operation] = append(d.faults[operation], faults...)
}

// Require has tokens be granted for this client secret alone; those that were
// granted before stay valid.
func (d *Double) Require(secret string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.secret = secret
}

// Release ends all waiting, for good.
func (d *Double) Release() { d.release.Do(func() { close(d.released) }) }

// Heal takes back the faults that have not happened.
func (d *Double) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.faults)
}

// CatchUp has the calls take effect that are late.
func (d *Double) CatchUp() {
	d.mu.Lock()
	late := d.late
	d.late = nil
	d.mu.Unlock()
	for _, f := range late {
		f()
	}
}

// Calls is how often an operation was called.
func (d *Double) Calls(operation string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[operation]
}

// Texts are the texts of all messages of a dialog, in AXP's order.
func (d *Double) Texts(dialog string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, m := range d.messages[dialog] {
		out = append(out, m.Body.ElementText.Text)
	}
	return out
}

// Messages are all messages of a dialog, in AXP's order.
func (d *Double) Messages(dialog string) []axp.Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]axp.Message(nil), d.messages[dialog]...)
}

// Say puts a message of an agent into a dialog; AXP tells nobody of it.
func (d *Double) Say(dialog, text string, index int64, received time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.messages[dialog] = append(d.messages[dialog], axp.Message{
		MessageID: id(), DialogID: dialog, Status: axp.MessageDelivered, MessageIndex: axp.Int{Value: index, Known: true},
		Body:                  axp.MessageBody{ElementType: "text", ElementText: &axp.ElementText{Text: text}},
		SenderParticipantType: axp.ParticipantAgent, ReceivedAt: axp.Time{Time: received.UTC()},
	})
}

// Sessions are the sessions that are there; Deleted those that were deleted.
func (d *Double) Sessions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sessions)
}

// Deleted are AXP's ids of the sessions that were deleted.
func (d *Double) Deleted() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.deleted...)
}

// Session is a copy of a session.
func (d *Double) Session(id string) (axp.Session, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.sessions[id]
	if !ok {
		return axp.Session{}, false
	}
	out := *s
	out.SessionParameters = maps.Clone(s.SessionParameters)
	return out, true
}

// Forget drops a session, as if AXP had ended it.
func (d *Double) Forget(session string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sessions, session)
}

// Dialogs are copies of all dialogs of a session.
func (d *Double) Dialogs(session string) []axp.Dialog {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []axp.Dialog
	for id, e := range d.engagements {
		if d.owners[id] == session {
			out = append(out, e.Dialogs...)
		}
	}
	return out
}

// EngagementOf is AXP's engagement that holds a dialog.
func (d *Double) EngagementOf(dialog string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, e := range d.engagements {
		if _, ok := e.DialogByID(dialog); ok {
			return id
		}
	}
	return ""
}

// Subscriptions are the webhook subscriptions.
func (d *Double) Subscriptions() []axp.Subscription {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]axp.Subscription(nil), d.subs...)
}

const (
	chat    = "/api/digital/channel/v1/accounts/{account}"
	webhook = "/api/digital/webhook/v1/accounts/{account}/subscriptions"
	store   = "/api/media-store/v1/accounts/{account}/media"
)

func (d *Double) routes() http.Handler {
	mux := http.NewServeMux()
	on := func(pattern, operation string, f func(r *http.Request) (int, any)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, operation, f) })
	}
	on("POST /api/auth/v1/{account}/protocol/openid-connect/token", axp.OpGenerateToken, func(r *http.Request) (int, any) {
		if d.secret != "" && r.PostFormValue("client_secret") != d.secret {
			return refuse(http.StatusUnauthorized)
		}
		return http.StatusOK, map[string]any{"access_token": "token", "expires_in": 900}
	})
	on("POST "+chat+"/sessions", axp.OpCreateSession, d.createSession)
	on("GET "+chat+"/sessions/{id}", axp.OpGetSession, d.getSession)
	on("DELETE "+chat+"/sessions/{id}", axp.OpDeleteSession, d.deleteSession)
	on("POST "+chat+"/engagements", axp.OpCreateEngagement, d.createEngagement)
	on("GET "+chat+"/engagements", axp.OpListEngagements, d.listEngagements)
	on("GET "+chat+"/engagements/{id}", axp.OpGetEngagement, d.getEngagement)
	on("POST "+chat+"/engagements/{id}/messages", axp.OpSendMessage, d.sendMessage)
	on("GET "+chat+"/engagements/{id}/messages", axp.OpListMessages, d.listMessages)
	on("POST "+store+"/signed-upload-uri", axp.OpSignedUploadURI, d.upload)
	on("GET "+store+"/{id}/signed-download-uri", axp.OpSignedDownloadURI, d.download)
	on("GET "+webhook, axp.OpListSubscriptions, d.listSubscriptions)
	on("POST "+webhook, axp.OpCreateSubscription, d.createSubscription)
	on("DELETE "+webhook+"/{id}", axp.OpDeleteSubscription, d.deleteSubscription)
	// net/http has no pattern for the :verb behind an id.
	mux.HandleFunc("POST "+chat+"/{kind}/{idverb}", func(w http.ResponseWriter, r *http.Request) {
		id, verb, _ := strings.Cut(r.PathValue("idverb"), ":")
		r.SetPathValue("id", id)
		f, operation := d.verb(verb)
		if f == nil {
			http.NotFound(w, r)
			return
		}
		d.serve(w, r, operation, f)
	})
	return mux
}

func (d *Double) verb(verb string) (func(*http.Request) (int, any), string) {
	switch verb {
	case "appendIdentifiers":
		return d.appendIdentifiers, axp.OpAppendIdentifiers
	case "updateSessionParameters":
		return d.updateParameters, axp.OpUpdateSessionParameters
	case "join":
		return d.join, axp.OpJoinEngagement
	case "disconnect":
		return d.disconnect, axp.OpDisconnectEngagement
	default:
		return nil, ""
	}
}

// serve applies a fault, or makes the call and answers.
func (d *Double) serve(w http.ResponseWriter, r *http.Request, operation string, f func(*http.Request) (int, any)) {
	d.mu.Lock()
	d.calls[operation]++
	var fault *Fault
	if q := d.faults[operation]; len(q) > 0 {
		fault, d.faults[operation] = &q[0], q[1:]
	}
	d.mu.Unlock()
	if fault != nil && fault.Wait != nil {
		select {
		case <-fault.Wait:
		case <-d.released:
		case <-r.Context().Done():
			return
		}
	}
	if fault != nil && !fault.Pass {
		switch {
		case fault.After:
			d.locked(r, f)
		case fault.Late:
			d.postpone(r, f)
		}
		fault.answer(w)
		return
	}
	status, body := d.locked(r, f)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON, for tests
}

// postpone keeps a call for CatchUp.
func (d *Double) postpone(r *http.Request, f func(*http.Request) (int, any)) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // it never came
	}
	later := r.Clone(context.WithoutCancel(r.Context()))
	later.Body = io.NopCloser(bytes.NewReader(body))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.late = append(d.late, func() { d.locked(later, f) })
}

// locked makes a call. What it answers is encoded before anybody changes it.
func (d *Double) locked(r *http.Request, f func(*http.Request) (int, any)) (int, []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	status, body := f(r)
	if body == nil {
		return status, nil
	}
	data, err := json.Marshal(body)
	if err != nil {
		return http.StatusInternalServerError, nil
	}
	return status, data
}

func (f *Fault) answer(w http.ResponseWriter) {
	if f.Status == 0 {
		if h, ok := w.(http.Hijacker); ok {
			if c, _, err := h.Hijack(); err == nil {
				_ = c.Close()
			}
		}
		return
	}
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(f.Status)
	_, _ = fmt.Fprintf(w, `{"title":"fault on demand","status":%d}`, f.Status)
}

func refuse(status int) (int, any) {
	return status, map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status}
}

func now() axp.Time { return axp.Time{Time: time.Now().UTC()} }

func id() string { return uuid.NewString() }

func read[T any](r *http.Request) (v T, ok bool) {
	return v, json.NewDecoder(r.Body).Decode(&v) == nil
}
