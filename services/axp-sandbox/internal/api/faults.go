package api

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Fault makes calls of an operation go wrong.
type Fault struct {
	Operation         string  `json:"operation"`   // an operationId of AXP's documents, or *
	Kind              string  `json:"kind"`        // latency, status, resetBefore, resetAfter
	Count             int     `json:"count"`       // how many calls; 0: until healed
	Probability       float64 `json:"probability"` // of each call; 0: every one
	DelayMs           int     `json:"delayMs"`     // for latency, and before the others
	Status            int     `json:"status"`      // for status
	RetryAfterSeconds int     `json:"retryAfterSeconds"`
	AfterEffect       bool    `json:"afterEffect"` // for status: the call takes effect, then the status is answered
}

// Call is a call that was made.
type Call struct {
	Time      time.Time `json:"time"`
	Operation string    `json:"operation"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Status    int       `json:"status"` // 0: the connection was cut
	Fault     string    `json:"fault,omitempty"`
}

// maxCalls bounds what is remembered.
const maxCalls = 10000

type recorder struct {
	now    func() time.Time
	mu     sync.Mutex
	rng    *rand.Rand
	faults []Fault
	calls  []Call
}

func newRecorder(now func() time.Time, seed uint64) *recorder {
	return &recorder{now: now, rng: rand.New(rand.NewPCG(seed, seed))} //nolint:gosec // faults are to be repeatable, not secret
}

func (rec *recorder) inject(f Fault) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.faults = append(rec.faults, f)
}

func (rec *recorder) heal() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.faults = nil
}

func (rec *recorder) forget() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.faults, rec.calls = nil, nil
}

func (rec *recorder) list(operation string) []Call {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	out := []Call{}
	for _, c := range rec.calls {
		if operation == "" || c.Operation == operation {
			out = append(out, c)
		}
	}
	return out
}

// fault takes the fault for a call.
func (rec *recorder) fault(operation string) Fault {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i := range rec.faults {
		f := &rec.faults[i]
		if f.Operation != operation && f.Operation != "*" || f.Probability > 0 && rec.rng.Float64() >= f.Probability {
			continue
		}
		out := *f
		if f.Count > 0 {
			f.Count--
			if f.Count == 0 {
				rec.faults = slices.Delete(rec.faults, i, i+1)
			}
		}
		return out
	}
	return Fault{}
}

func (rec *recorder) note(operation string, r *http.Request, status int, fault string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.calls) >= maxCalls {
		rec.calls = slices.Delete(rec.calls, 0, maxCalls/10)
	}
	rec.calls = append(rec.calls, Call{Time: rec.now().UTC(), Operation: operation, Method: r.Method, Path: r.URL.Path, Status: status, Fault: fault})
}

// wrap records the calls of an operation and lets its faults happen.
func (rec *recorder) wrap(operation string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f := rec.fault(operation)
		if f.DelayMs > 0 && !sleep(r.Context(), time.Duration(f.DelayMs)*time.Millisecond) {
			rec.note(operation, r, 0, f.Kind)
			return
		}
		switch f.Kind {
		case "resetBefore":
			rec.note(operation, r, 0, f.Kind)
			cut(w)
		case "resetAfter":
			h(httptest.NewRecorder(), r)
			rec.note(operation, r, 0, f.Kind)
			cut(w)
		case "status":
			if f.AfterEffect {
				h(httptest.NewRecorder(), r)
			}
			if f.RetryAfterSeconds > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfterSeconds))
			}
			rec.note(operation, r, f.Status, f.Kind)
			refuse(f.Status, "a fault was asked for").write(w)
		default:
			sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
			h(sw, r)
			rec.note(operation, r, sw.status, f.Kind)
		}
	}
}

// cut breaks the connection without an answer.
func cut(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close() // that is the point
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
