package privacy

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/axpchat/connector/services/internal/suitetest"
)

// answers are what parties were answered to whom none of it belongs.
type answers struct {
	marks *marks

	mu  sync.Mutex
	all strings.Builder
}

func (a *answers) add(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all.WriteString(text + "\n")
}

func (a *answers) text() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all.String()
}

// call makes a request of any kind and returns the status and the body.
func call(ctx context.Context, t *testing.T, method, url, token, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(body, "{") {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	status, _, text := suitetest.Answer(t, req)
	return status, text
}

// stranger makes a call that must be refused with a status; the answer is kept,
// for it goes to somebody whom nothing belongs to.
func (s *stage) stranger(ctx context.Context, t *testing.T, want int, method, url, token, body string, headers ...string) {
	t.Helper()
	status, text := call(ctx, t, method, url, token, body, headers...)
	if status != want {
		t.Errorf("%s %.60s: status %d, want %d", method, url, status, want)
	}
	s.answers.add(text)
}

// does makes a call of the customer's that must succeed, and decodes the answer.
func (s *stage) does(ctx context.Context, t *testing.T, method, path string, in any) map[string]any {
	t.Helper()
	return s.doesAs(ctx, t, s.token, method, path, in)
}

func (s *stage) doesAs(ctx context.Context, t *testing.T, token, method, path string, in any) map[string]any {
	t.Helper()
	body := ""
	if in != nil {
		body = string(encode(t, in))
	}
	status, text := call(ctx, t, method, s.HTTP+path, token, body)
	if status != http.StatusOK {
		t.Fatalf("%s %s: status %d: %s", method, path, status, text)
	}
	var out map[string]any
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&out); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
	return out
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(data)
}

// at reads a text inside of an answer.
func at(answer map[string]any, path ...string) string {
	var v any = answer
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	text, _ := v.(string)
	return text
}

// polled waits until the customer's events hold a text.
func (s *stage) polled(ctx context.Context, t *testing.T, session, text string) {
	t.Helper()
	err := suitetest.Await(ctx, "an event with "+text, func(ctx context.Context) (bool, error) {
		_, body := call(ctx, t, http.MethodGet, s.HTTP+"/v1/sessions/"+session+"/events:poll?wait=0s&maxEvents=500", s.token, "")
		return strings.Contains(body, text), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
