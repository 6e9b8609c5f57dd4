package axp

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// maxProblemText bounds each text that is taken from a problem body.
	maxProblemText = 1024
	// maxViolations bounds the list of violations.
	maxViolations = 50
	// maxAdvisedWait is the longest wait that is believed.
	maxAdvisedWait = time.Hour
)

// Problem is what AXP said about an error. Every part may be empty. Detail and
// the messages of violations may repeat what was sent: never log them.
type Problem struct {
	Type     string
	Title    string
	Detail   string
	Instance string
	// Violations name the fields that AXP found fault with.
	Violations []Violation
}

// Violation is one field that AXP found fault with. Decide by Code (20002
// missing, 20006 pattern; the full list is not documented), never by Message.
type Violation struct {
	Field   string
	Message string
	Code    string
}

// parseProblem reads the body of an error as far as it can: any part may be
// absent, null or of another type than documented, and the body may be empty,
// HTML or an OAuth error. It never fails; the HTTP status alone decides.
func parseProblem(body []byte) Problem {
	var wire map[string]json.RawMessage
	if json.Unmarshal(bytes.TrimSpace(body), &wire) != nil {
		return Problem{}
	}
	p := Problem{
		Type:     problemText(wire["type"]),
		Title:    problemText(wire["title"]),
		Detail:   problemText(wire["detail"]),
		Instance: problemText(wire["instance"]),
	}
	if p.Title == "" {
		p.Title = problemText(wire["error"])
	}
	if p.Detail == "" {
		p.Detail = problemText(wire["error_description"])
	}
	var violations []json.RawMessage
	if json.Unmarshal(wire["violations"], &violations) != nil {
		return p
	}
	for _, raw := range violations[:min(len(violations), maxViolations)] {
		var v map[string]json.RawMessage
		if json.Unmarshal(raw, &v) != nil || len(v) == 0 {
			continue
		}
		p.Violations = append(p.Violations, Violation{
			Field:   problemText(v["field"]),
			Message: problemText(v["message"]),
			Code:    problemText(v["code"]),
		})
	}
	return p
}

// problemText gives the text of a JSON string or number, bounded and without
// control characters, so that it can neither flood nor forge a log line.
func problemText(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		var number json.Number
		if json.Unmarshal(raw, &number) != nil {
			return ""
		}
		text = number.String()
	}
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n == maxProblemText {
			break
		}
		if unicode.IsControl(r) {
			r = ' '
		}
		b.WriteRune(r)
		n++
	}
	return strings.TrimSpace(b.String())
}

// advisedWait gives how long AXP asks to wait: Retry-After (seconds or a
// date), else, after a 429, RateLimit-Reset (seconds). 0 means no advice.
func advisedWait(h http.Header, status int, now time.Time) time.Duration {
	wait, ok := seconds(h.Get("Retry-After"))
	if !ok {
		if at, err := http.ParseTime(h.Get("Retry-After")); err == nil {
			wait, ok = at.Sub(now), true
		}
	}
	if !ok && status == http.StatusTooManyRequests {
		wait, _ = seconds(h.Get("RateLimit-Reset"))
	}
	return min(max(wait, 0), maxAdvisedWait)
}

func seconds(text string) (time.Duration, bool) {
	s, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || s != s {
		return 0, false
	}
	s = min(max(s, 0), maxAdvisedWait.Seconds())
	return time.Duration(s * float64(time.Second)), true
}
