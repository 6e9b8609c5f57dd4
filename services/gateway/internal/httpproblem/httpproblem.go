// Package httpproblem writes problems whose HTTP status says more than their
// reason does, such as 405. Everything else goes through the kit's writer.
package httpproblem

import (
	"encoding/json"
	"net/http"
	"regexp"

	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
)

// Write writes err as application/problem+json with another status than that of
// its reason.
func Write(w http.ResponseWriter, r *http.Request, status int, err error) {
	_, body := errs.MarshalProblem(err, grpcx.RequestID(r.Context()), r.URL.Path)
	var problem map[string]any
	if json.Unmarshal(body, &problem) == nil {
		problem["status"], problem["title"] = status, http.StatusText(status)
		if changed, err := json.Marshal(problem); err == nil {
			body = changed
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON of a type that no browser renders; the client may be gone; nobody is left to be told
}

// unknownField finds the name as it was written, in JSON.
var unknownField = regexp.MustCompile(`unknown field ("(?:[^"\\]|\\.){1,100}")`)

// UnknownField finds the name of the field that a JSON decoder did not know in
// its error's text. Nothing else of such a text may be shown or logged: it may
// repeat what a customer wrote.
func UnknownField(text string) (name string, ok bool) {
	found := unknownField.FindStringSubmatch(text)
	if found == nil || json.Unmarshal([]byte(found[1]), &name) != nil {
		return "", false
	}
	return name, true
}
