// Package reply owns how the sandbox writes JSON answers. It knows nothing of
// what they say.
package reply

import (
	"encoding/json"
	"net/http"
)

// JSON answers with a body.
func JSON(w http.ResponseWriter, status int, v any) { write(w, status, "application/json", v) }

// Problem answers with a problem of RFC 9457.
func Problem(w http.ResponseWriter, status int, v any) {
	write(w, status, "application/problem+json", v)
}

// Refuse answers with a problem that has no more than a detail.
func Refuse(w http.ResponseWriter, status int, detail string) {
	Problem(w, status, map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
}

func write(w http.ResponseWriter, status int, contentType string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "the answer can't be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the caller has gone otherwise
}
