package api

import (
	"net/http"

	"github.com/axpchat/connector/services/axp-sandbox/internal/reply"
)

// problem is AXP's error body.
type problem struct {
	Type       string      `json:"type"`
	Title      string      `json:"title"`
	Status     int         `json:"status"`
	Detail     string      `json:"detail"`
	Instance   string      `json:"instance,omitempty"`
	Violations []Violation `json:"violations,omitempty"`
}

func refuse(status int, detail string, vs ...Violation) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Violations: vs}
}

// invalid is the answer to a request that breaks rules.
func invalid(vs ...Violation) *problem {
	return refuse(http.StatusBadRequest, "Validation failed", vs...)
}

func (p *problem) write(w http.ResponseWriter, r *http.Request) {
	p.Instance = r.URL.EscapedPath()
	reply.Problem(w, p.Status, p)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	if v == nil {
		w.WriteHeader(status)
		return
	}
	reply.JSON(w, status, v)
}
