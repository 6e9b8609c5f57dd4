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

// wrongValue finds the name of a field of ours whose value is of another type.
// It begins with the text, so that what a customer wrote can't pass for a name:
// values come behind the name. protojson puts a space or a no-break space behind
// "proto:", as it likes.
var wrongValue = regexp.MustCompile(`^(?:proto:[ \x{a0}])?(?:\(line \d+:\d+\): )?(?:invalid value for \w+ field (\w+): |parsing (?:field|list) "(\w+)": )`)

// Explain adds to err which field a decoder stumbled over, by its error's text.
// Nothing but the field's name may be shown or logged of such a text: it may
// repeat what a customer wrote. It tells whether there is such a field.
func Explain(err *errs.Error, text string) (explained *errs.Error, ok bool) {
	if found := unknownField.FindStringSubmatch(text); found != nil {
		name := ""
		if json.Unmarshal([]byte(found[1]), &name) == nil {
			return err.WithViolation(name, "is not known", "unknown_field"), true
		}
	}
	// The decoder calls each value of a map by this name, whatever its key.
	if found := wrongValue.FindStringSubmatch(text); found != nil && found[1] != "value" {
		return err.WithViolation(errs.JSONName(found[1]+found[2]), "does not have a value of its type", "wrong_value"), true
	}
	return err, false
}
