package axp

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func FuzzProblem(f *testing.F) {
	f.Add([]byte(`{"type":"t","title":"x","status":"400","violations":[{"field":"f","message":"m","code":20002}]}`))
	f.Add([]byte(`<html>`))
	f.Add([]byte(`{"violations":[[[[]]]],"title":{"a":"\u0000"}}`))
	f.Add([]byte(`{"title":"\ud800"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p := parseProblem(body)
		if len(p.Violations) > maxViolations {
			t.Fatalf("%d violations", len(p.Violations))
		}
		texts := []string{p.Type, p.Title, p.Detail, p.Instance}
		for _, v := range p.Violations {
			texts = append(texts, v.Field, v.Message, v.Code)
		}
		for _, text := range texts {
			if utf8.RuneCountInString(text) > maxProblemText || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
				t.Fatalf("unbounded or unclean: %q", text)
			}
		}
		e := &Error{Operation: OpGetSession, Status: 400, Problem: p}
		_, _ = e.Error(), e.AsError().Error()
	})
}

func FuzzAdvisedWait(f *testing.F) {
	f.Add("3", "4")
	f.Add("Wed, 11 Mar 2026 09:00:07 GMT", "-1")
	f.Add("NaN", "1e999")
	now := time.Date(2026, 3, 11, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, after, reset string) {
		h := http.Header{"Retry-After": {after}, "Ratelimit-Reset": {reset}}
		if got := advisedWait(h, http.StatusTooManyRequests, now); got < 0 || got > maxAdvisedWait {
			t.Fatalf("got %v", got)
		}
	})
}

func TestBackoffGrowsWithinItsBounds(t *testing.T) {
	for _, jitter := range []float64{0, 0.5, 1} {
		before := time.Duration(0)
		for n := 1; n < 200; n++ {
			got := backoff(n, time.Second, 30*time.Second, func() float64 { return jitter })
			if got < before || got < time.Second/2 || got > 30*time.Second {
				t.Fatalf("jitter %v, failure %d: got %v after %v", jitter, n, got, before)
			}
			before = got
		}
	}
}
