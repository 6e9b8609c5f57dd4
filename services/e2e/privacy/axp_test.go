package privacy

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// talkative stands between the orchestrator and the sandbox and, where it is
// told to, answers calls as an AXP would that repeats in its errors whatever it
// was sent: the body, the headers, the address. It also notes the access tokens
// that it sees.
type talkative struct {
	*httptest.Server

	mu    sync.Mutex
	wants []refusal
	marks *marks
}

// refusal is an answer in place of the sandbox's.
type refusal struct {
	path   string // part of the call's path
	status int
}

func startTalkative(t *testing.T, sandbox string, m *marks) *talkative {
	t.Helper()
	target, err := url.Parse(sandbox)
	if err != nil {
		t.Fatal(err)
	}
	a := &talkative{marks: m}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // signed addresses name the host that was asked
	}}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			m.add("AXP access token", token)
		}
		if want, ok := a.take(r.URL.Path); ok {
			repeat(w, r, want.status)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

// refuse has the next call whose path holds a text refused.
func (a *talkative) refuse(path string, status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wants = append(a.wants, refusal{path, status})
}

func (a *talkative) take(path string) (refusal, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, want := range a.wants {
		if strings.Contains(path, want.path) {
			a.wants = append(a.wants[:i:i], a.wants[i+1:]...)
			return want, true
		}
	}
	return refusal{}, false
}

// repeat answers a problem that repeats all of the call, as AXP's problems may;
// its title is always the same one (RFC 9457, section 3.1.4).
func repeat(w http.ResponseWriter, r *http.Request, status int) {
	var said bytes.Buffer
	said.WriteString(r.Method + " " + r.URL.String() + "\n")
	_ = r.Header.Write(&said) // into memory
	body, _ := io.ReadAll(r.Body)
	said.Write(body)
	problem := map[string]any{
		"type": "about:" + said.String(), "title": "Refused", "status": status, "detail": said.String(), "instance": said.String(),
		"violations": []map[string]string{{"field": "body", "message": said.String(), "code": "20006"}},
	}
	answer, err := json.Marshal(problem)
	if err != nil {
		status = http.StatusInternalServerError // strings and a number: it can't be
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(answer) // the caller has gone otherwise
}
