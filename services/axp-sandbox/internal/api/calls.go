package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Call is a call that was made.
type Call struct {
	Time      time.Time       `json:"time"`
	Operation string          `json:"operation"`
	Method    string          `json:"method"`
	Path      string          `json:"path"`
	Query     string          `json:"query,omitempty"`
	Body      json.RawMessage `json:"body,omitempty"` // where it is JSON; tokens' and files' are not
	Status    int             `json:"status"`         // 0: the connection was cut, or the caller went
	Fault     string          `json:"fault,omitempty"`
}

// What is remembered of calls; the oldest go first.
const (
	maxCalls     = 10_000
	maxCallBytes = 32 << 20
	maxCallBody  = 64 << 10 // of one call; larger ones are left out
)

type recorder struct {
	now func() time.Time

	mu    sync.Mutex
	calls []*Call
	bytes int
}

func (rec *recorder) forget() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.calls, rec.bytes = nil, 0
}

func (rec *recorder) list(operation string) []Call {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	out := []Call{}
	for _, c := range rec.calls {
		if operation == "" || c.Operation == operation {
			out = append(out, *c)
		}
	}
	return out
}

// begin notes a call before anything is done about it.
func (rec *recorder) begin(c *Call) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.calls) >= maxCalls || rec.bytes > maxCallBytes {
		old := len(rec.calls)/10 + 1
		for _, c := range rec.calls[:old] {
			rec.bytes -= len(c.Body)
		}
		rec.calls = slices.Delete(rec.calls, 0, old)
	}
	rec.bytes += len(c.Body)
	rec.calls = append(rec.calls, c)
}

func (rec *recorder) answered(c *Call, status int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	c.Status = status
}

// peek reads a JSON body and puts it back. Reading it before a fault waits
// also lets net/http notice when the caller goes.
func peek(r *http.Request) json.RawMessage {
	if !isJSON(r) {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	rest := r.Body
	if err != nil { // whoever reads on gets the same error
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(data), broken{err}))
		return nil
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(data), rest), rest}
	if len(data) > maxCallBody || !json.Valid(data) {
		return nil
	}
	return data
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

func isJSON(r *http.Request) bool {
	ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(ct), "application/json")
}

// wrap records the calls of an operation and lets its faults happen. Whoever
// has an answer, or a broken connection, finds the call in the records.
func (a *API) wrap(operation string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f := a.faults.take(operation)
		c := &Call{
			Time: a.calls.now().UTC(), Operation: operation, Method: r.Method, Path: r.URL.Path, Body: peek(r), Fault: f.Kind,
		}
		if !strings.Contains(operation, "SignedMedia") { // whose query is a credential
			c.Query = r.URL.RawQuery
		}
		a.calls.begin(c)
		if f.Kind == Revoke {
			a.tokens.revoke()
		}
		w.Header().Set("av-log-id", uuid.NewString())
		f.strike(&statusWriter{ResponseWriter: w, note: func(status int) { a.calls.answered(c, status) }}, r, h)
	}
}
