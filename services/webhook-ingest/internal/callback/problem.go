package callback

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// refusal is why a call was not taken. The catalogue of errors is for clients;
// AXP reads nothing but the status, and an operator the detail.
type refusal struct {
	status     int
	result     string // label of the metric
	detail     string
	retryAfter time.Duration
	close      bool // the body was not read: the connection can't be used again
}

// problem is the body of a refusal, after RFC 9457.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func (f *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if f.status == http.StatusMethodNotAllowed {
		h.Set("Allow", http.MethodPost)
	}
	if f.retryAfter > 0 {
		// The header has whole seconds; a shorter wait must not become none.
		h.Set("Retry-After", strconv.Itoa(int((f.retryAfter+time.Second-1)/time.Second)))
	}
	if f.close {
		h.Set("Connection", "close")
	}
	w.WriteHeader(f.status)
	p := problem{Type: "about:blank", Title: http.StatusText(f.status), Status: f.status, Detail: f.detail}
	_ = json.NewEncoder(w).Encode(p) //nolint:errchkjson // the caller may be gone
}

func refuse(status int, result, detail string) *refusal {
	return &refusal{status: status, result: result, detail: detail}
}

// later is a refusal that AXP should repeat the call after.
func later(result, detail string) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, result: result, detail: detail, retryAfter: retryAfter}
}

// outdatedDetail says why a call is refused that may be right.
const outdatedDetail = "this replica waits for the WEBHOOK_SECRET that is in force; send it again"

// retryAfter is what AXP is told to wait: a change of leader takes some seconds.
const retryAfter = 5 * time.Second
