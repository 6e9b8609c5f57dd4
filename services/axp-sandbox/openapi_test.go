package sandbox_test

import (
	"cmp"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// documents is where AXP's documents lie, if anywhere: AXP_SPEC_DIR, else
// beside the repository.
func documents() string {
	return filepath.Join(cmp.Or(os.Getenv("AXP_SPEC_DIR"), "../../../shared/axp"), "openapi")
}

// documented is an operation of the documents.
type documented struct {
	doc       *openapi3.T
	path      string
	item      *openapi3.PathItem
	method    string
	operation *openapi3.Operation
	matches   *regexp.Regexp
}

type contract struct {
	operations []documented
	event      *openapi3.Schema // CallbackEvent
	seen       map[string]map[int]bool
	mu         sync.Mutex
}

// read reads the documents once; none: nil.
var read = sync.OnceValues(func() (*contract, error) {
	files, err := filepath.Glob(filepath.Join(documents(), "*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, err
	}
	c := &contract{seen: map[string]map[int]bool{}}
	names := regexp.MustCompile(`\\\{(\w+)\\\}`)
	for _, file := range files {
		doc, err := openapi3.NewLoader().LoadFromFile(file)
		if err != nil {
			return nil, err
		}
		for path, item := range doc.Paths.Map() {
			for method, operation := range item.Operations() {
				pattern := names.ReplaceAllString(regexp.QuoteMeta(doc.Servers[0].URL+path), `(?P<$1>[^/:]+)`)
				c.operations = append(c.operations, documented{doc, path, item, method, operation, regexp.MustCompile("^" + pattern + "$")})
			}
		}
		if s := doc.Components.Schemas["CallbackEvent"]; s != nil {
			c.event = s.Value
		}
	}
	return c, nil
})

// theContract skips where there are no documents.
func theContract(t *testing.T) *contract {
	t.Helper()
	c, err := read()
	if err != nil {
		t.Fatal(err)
	}
	if c == nil {
		t.Skipf("AXP's documents are not at %s: only the project's own contract tests ran", documents())
	}
	return c
}

// conforms holds an answer of one of AXP's operations to the documents: its
// status, its media type and its body.
func conforms(t testing.TB, r *http.Request, a answer) {
	t.Helper()
	c, err := read()
	if err != nil || c == nil {
		return // theContract tells
	}
	for _, d := range c.operations {
		found := d.matches.FindStringSubmatch(r.URL.Path)
		if d.method != r.Method || found == nil {
			continue
		}
		parameters := map[string]string{}
		for i, name := range d.matches.SubexpNames() {
			if name != "" {
				parameters[name] = found[i]
			}
		}
		in := &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{
				Request: r, PathParams: parameters,
				Route: &routers.Route{Spec: d.doc, Path: d.path, PathItem: d.item, Method: d.method, Operation: d.operation},
			},
			Status: a.status, Header: a.header, Body: io.NopCloser(strings.NewReader(string(a.data))),
			Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
		}
		if a.status == http.StatusNoContent && len(a.data) > 0 {
			t.Errorf("%s answers 204 with a body", d.operation.OperationID)
		}
		// Any operation may meet a gateway that has no backend.
		if declared := d.operation.Responses.Status(a.status); declared == nil && a.status > 500 {
			return
		}
		if err := openapi3filter.ValidateResponse(t.Context(), in); err != nil {
			t.Errorf("%s answers %d against the documents: %v", d.operation.OperationID, a.status, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.seen[d.operation.OperationID] == nil {
			c.seen[d.operation.OperationID] = map[int]bool{}
		}
		c.seen[d.operation.OperationID][a.status] = true
		return
	}
}

// eventConforms holds a callback to the schema of callbacks.
func eventConforms(t testing.TB, event object) {
	t.Helper()
	c, err := read()
	if err != nil || c == nil {
		return
	}
	if err := c.event.VisitJSON(event, openapi3.MultiErrors(), openapi3.EnableFormatValidation()); err != nil {
		t.Errorf("callback against the documents: %v", err)
	}
}

// drive makes a success and the usual failures of every operation.
func drive(b *box) {
	b.t.Helper()
	s := b.session("Maren")
	tk := b.talk(s)
	upload := object{"mediaName": "a.txt", "mediaContentType": "text/plain", "mediaSize": 5}
	signed := into[object](b.post(store+"/accounts/"+account+"/media/signed-upload-uri", upload).want(200))
	media := store + "/accounts/" + account + "/media/" + text(signed, "mediaId") + "/signed-download-uri"
	sub := object{"channelProviderId": provider, "callbackUrl": "https://example.com/x", "eventTypes": []string{"ALL"}}
	subscription := b.post(hooks, sub).want(201).text("subscriptionId")
	query := "?dialogId=" + tk.dialog + "&sessionId=" + s
	page := "/messages" + query
	missing := chat + "/sessions/" + nobody
	gone := chat + "/engagements/" + nobody
	lost := object{"sessionId": nobody, "dialogId": nobody}
	letter := object{"sessionId": nobody, "dialogId": nobody, "body": object{"elementType": "text"}}
	for _, op := range []struct {
		method, path string
		body         any
		status       int
		bad, absent  string // paths of a refused request, and of one to what does not exist
		badBody      any    // for the refused request
		lostBody     any    // for what does not exist
	}{
		{"POST", chat + "/sessions", newSession("Nils"), 201, chat + "/sessions", "", object{}, nil},
		{"GET", chat + "/sessions/" + s, nil, 200, chat + "/sessions/x", missing, nil, nil},
		{"POST", chat + "/sessions/" + s + ":appendIdentifiers", object{"phoneNumbers": []string{"1"}}, 200, chat + "/sessions/" + s + ":appendIdentifiers", missing + ":appendIdentifiers", object{}, object{"a": []string{}}},
		{"POST", chat + "/sessions/" + s + ":updateSessionParameters", object{"page": "tents"}, 200, chat + "/sessions/" + s + ":updateSessionParameters", missing + ":updateSessionParameters", object{"a": 1}, object{}},
		{"POST", chat + "/engagements", object{"sessionId": s, "channelId": "Chat"}, 201, chat + "/engagements", chat + "/engagements", object{}, object{"sessionId": nobody, "channelId": "Chat"}},
		{"GET", chat + "/engagements?sessionId=" + s, nil, 200, chat + "/engagements", chat + "/engagements?sessionId=" + nobody, nil, nil},
		{"GET", tk.path(""), nil, 200, chat + "/engagements/x", gone, nil, nil},
		{"POST", tk.path(":join"), tk.ids(), 200, tk.path(":join"), gone + ":join", object{}, lost},
		{"POST", tk.path("/messages"), tk.message("Hello"), 202, tk.path("/messages"), gone + "/messages", object{}, letter},
		{"GET", tk.path(page), nil, 200, tk.path("/messages"), gone + page, nil, nil},
		{"POST", tk.path(":disconnect"), tk.ids(), 200, tk.path(":disconnect"), gone + ":disconnect", object{}, lost},
		{"DELETE", chat + "/sessions/" + s + "?reason=USER_CLOSED", nil, 204, chat + "/sessions/" + s, missing + "?reason=UNKNOWN", nil, nil},
		{"POST", hooks, sub, 201, hooks, "", object{}, nil},
		{"GET", hooks + "?channelProviderId=" + provider, nil, 200, hooks + "?channelProviderId=x", "", nil, nil},
		{"GET", hooks + "/" + subscription, nil, 200, hooks + "/x", hooks + "/" + nobody, nil, nil},
		{"PUT", hooks + "/" + subscription, sub, 200, hooks + "/" + subscription, hooks + "/" + nobody, object{}, sub},
		{"DELETE", hooks + "/" + subscription, nil, 204, hooks + "/x", hooks + "/" + nobody, nil, nil},
		{"POST", store + "/accounts/" + account + "/media/signed-upload-uri", upload, 200, store + "/accounts/" + account + "/media/signed-upload-uri", "", object{}, nil},
		{"GET", media, nil, 200, store + "/accounts/" + account + "/media/x/signed-download-uri", store + "/accounts/" + account + "/media/" + nobody + "/signed-download-uri", nil, nil},
	} {
		b.call(op.method, op.path, op.body, header("appkey", "wrong")).want(401)
		b.call(op.method, op.path, op.body, header("Authorization", "Bearer wrong")).want(401)
		b.call(op.method, strings.Replace(op.path, account, "OTHERS", 1), op.body).want(403)
		b.call(op.method, op.bad, op.badBody).want(400)
		if op.absent != "" {
			b.call(op.method, op.absent, op.lostBody).want(404)
		}
		b.call(op.method, op.path, op.body).want(op.status)
	}
	download := func() answer {
		b.t.Helper()
		return b.get(strings.TrimPrefix(b.get(media).want(200).text("downloadSignedUri"), b.url))
	}
	download().want(204)
	b.upload(text(signed, "uploadSignedUri"), "mediaFile", "hello").want(202)
	b.upload(text(signed, "uploadSignedUri")+"0", "mediaFile", "hello").want(400)
	download().want(200)
	b.get(store + "/media/" + nobody + "?ttl=1&signature=x").want(400)
	b.post(tokenPath, url.Values{"grant_type": {"client_credentials"}}).want(400)
}

func TestEveryOperationConformsToTheDocuments(t *testing.T) {
	c := theContract(t)
	b := start(t, nil)
	drive(b)
	throttled := map[string]bool{}
	b.control("faults", object{"kind": "status", "status": 429, "retryAfterSeconds": 3})
	for _, path := range []string{chat + "/sessions/" + nobody, hooks, tokenPath} {
		method := http.MethodGet
		if path == tokenPath {
			method = http.MethodPost
		}
		throttled[path] = b.call(method, path, nil).want(429).header.Get("Retry-After") == "3"
	}
	for path, ok := range throttled {
		if !ok {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.operations {
		var good, bad bool
		for status := range c.seen[d.operation.OperationID] {
			good = good || status < 300
			bad = bad || status >= 400
		}
		if !good || !bad {
			t.Errorf("%s: success driven %t, failure driven %t", d.operation.OperationID, good, bad)
		}
	}
}

// The names of faults and records are those of the documents.
func TestEveryOperationCanBeNamedInAFault(t *testing.T) {
	c := theContract(t)
	b := start(t, nil)
	var names []string
	for _, d := range c.operations {
		names = append(names, d.operation.OperationID)
		b.control("faults", object{"operation": d.operation.OperationID, "kind": "latency", "delayMs": 1, "count": 1})
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != 22 {
		t.Errorf("%d operations, want 22", len(names))
	}
}

// The check itself must be able to fail.
func TestAWrongAnswerDoesNotConform(t *testing.T) {
	theContract(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x"+chat+"/sessions/"+nobody, nil)
	if err != nil {
		t.Fatal(err)
	}
	inner := &failing{TB: t}
	conforms(inner, r, answer{t, 200, http.Header{"Content-Type": {"application/json"}}, []byte(`{"sessionId":1}`)})
	eventConforms(inner, object{"eventType": "MESSAGES"})
	if inner.failures != 2 {
		t.Errorf("%d failures, want 2", inner.failures)
	}
}

type failing struct {
	testing.TB
	failures int
}

func (f *failing) Errorf(string, ...any) { f.failures++ }
