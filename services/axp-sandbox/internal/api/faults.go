package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Kinds of faults.
const (
	Latency     = "latency"     // the call takes DelayMs longer
	StatusFault = "status"      // Status is answered
	ResetBefore = "resetBefore" // the connection is reset, nothing was done
	ResetAfter  = "resetAfter"  // the call takes effect, then the connection is reset
	AnswerLost  = "answerLost"  // the call takes effect, then 503 is answered
	Revoke      = "revokeToken" // every token is revoked before the call is looked at
)

// Fault makes calls of an operation go wrong.
type Fault struct {
	Operation   string  `json:"operation"`   // an operationId of AXP's documents; * or empty: every one
	Kind        string  `json:"kind"`        // one of the kinds
	Count       int     `json:"count"`       // how many calls; 0: until healed
	Probability float64 `json:"probability"` // of each call; 0: every one
	DurationMs  int     `json:"durationMs"`  // from now on; 0: until healed
	DelayMs     int     `json:"delayMs"`     // for latency, and before the others
	Status      int     `json:"status"`      // for status
	AfterEffect bool    `json:"afterEffect"` // for status and latency: the call takes effect, then waits or fails

	RetryAfterSeconds     int `json:"retryAfterSeconds"`     // for status; 0: no Retry-After
	RateLimitResetSeconds int `json:"rateLimitResetSeconds"` // for status; 0: no RateLimit headers

	until time.Time
}

func (f Fault) check() error {
	switch {
	case f.Kind == StatusFault && (f.Status < 400 || f.Status > 599):
		return errors.New("status must be 400 to 599")
	case f.Kind == Latency && f.DelayMs == 0:
		return errors.New("delayMs must be more than 0")
	case !slices.Contains([]string{Latency, StatusFault, ResetBefore, ResetAfter, AnswerLost, Revoke}, f.Kind):
		return fmt.Errorf("kind must be %s, %s, %s, %s, %s or %s", Latency, StatusFault, ResetBefore, ResetAfter, AnswerLost, Revoke)
	case f.Probability < 0 || f.Probability > 1:
		return errors.New("probability must be 0 to 1")
	case min(f.Count, f.DelayMs, f.DurationMs, f.RetryAfterSeconds, f.RateLimitResetSeconds) < 0:
		return errors.New("numbers must not be negative")
	case f.Operation != "*" && !slices.Contains(Operations(), f.Operation):
		return errors.New("operation must be * or an operationId of AXP's documents")
	}
	return nil
}

// faults are those that wait for calls. Which calls one with a probability
// hits depends on the seed and the order of the calls alone.
type faults struct {
	now func() time.Time

	mu   sync.Mutex
	rng  *rand.Rand
	list []Fault
}

func newFaults(now func() time.Time, seed uint64) *faults {
	f := &faults{now: now}
	f.seed(seed)
	return f
}

func (s *faults) seed(seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rng = rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // faults are to be repeatable, not secret
}

func (s *faults) inject(f Fault) (Fault, error) {
	f.Operation = cmp.Or(f.Operation, "*")
	if err := f.check(); err != nil {
		return f, err
	}
	if f.DurationMs > 0 {
		f.until = s.now().Add(time.Duration(f.DurationMs) * time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, f)
	return f, nil
}

func (s *faults) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

// active lists the faults that wait for calls.
func (s *faults) active() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	return append([]Fault{}, s.list...)
}

func (s *faults) expire() {
	now := s.now()
	s.list = slices.DeleteFunc(s.list, func(f Fault) bool { return !f.until.IsZero() && !now.Before(f.until) })
}

// take is the fault for a call.
func (s *faults) take(operation string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	for i := range s.list {
		f := &s.list[i]
		if f.Operation != operation && f.Operation != "*" || f.Probability > 0 && s.rng.Float64() >= f.Probability {
			continue
		}
		out := *f
		if f.Count == 1 {
			s.list = slices.Delete(s.list, i, i+1)
		} else if f.Count > 1 {
			f.Count--
		}
		return out
	}
	return Fault{}
}

// strike lets a fault happen to a call.
func (f Fault) strike(w http.ResponseWriter, r *http.Request, h http.HandlerFunc) {
	delay := time.Duration(f.DelayMs) * time.Millisecond
	if !f.AfterEffect && !pause(r.Context(), delay) {
		return
	}
	switch {
	case f.Kind == ResetBefore:
		cut(w)
	case f.Kind == ResetAfter:
		h(newBuffer(), r)
		cut(w)
	case f.Kind == AnswerLost:
		h(newBuffer(), r)
		refuse(http.StatusServiceUnavailable, "the answer was lost").write(w, r)
	case f.Kind == StatusFault && !f.AfterEffect:
		f.answer(w, r)
	case f.Kind == StatusFault:
		h(newBuffer(), r)
		if pause(r.Context(), delay) {
			f.answer(w, r)
		}
	case f.Kind == Latency && f.AfterEffect:
		b := newBuffer()
		h(b, r)
		if pause(r.Context(), delay) {
			b.copyTo(w)
		}
	default:
		h(w, r)
	}
}

func (f Fault) answer(w http.ResponseWriter, r *http.Request) {
	if f.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfterSeconds))
	}
	if f.RateLimitResetSeconds > 0 {
		w.Header().Set("RateLimit-Limit", "100")
		w.Header().Set("RateLimit-Remaining", "0")
		w.Header().Set("RateLimit-Reset", strconv.Itoa(f.RateLimitResetSeconds))
		w.Header().Set("RateLimit-Policy", "100;w=60")
	}
	detail := "a fault was asked for"
	if f.Status == http.StatusUnauthorized {
		detail = refusedToken
	}
	refuse(f.Status, detail).write(w, r)
}

// cut resets the connection without an answer.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the server closes the connection then
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // closing is then a reset; a plain end else
	}
	_ = conn.Close() // that is the point
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// statusWriter tells which status is answered, before it is.
type statusWriter struct {
	http.ResponseWriter
	note func(status int)
	told bool
}

func (w *statusWriter) WriteHeader(status int) {
	w.told = true
	w.note(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(data []byte) (int, error) {
	if !w.told {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(data)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// buffer keeps an answer back.
type buffer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newBuffer() *buffer { return &buffer{header: http.Header{}, status: http.StatusOK} }

func (b *buffer) Header() http.Header            { return b.header }
func (b *buffer) WriteHeader(status int)         { b.status = status }
func (b *buffer) Write(data []byte) (int, error) { return b.body.Write(data) }

func (b *buffer) copyTo(w http.ResponseWriter) {
	maps.Copy(w.Header(), b.header)
	w.WriteHeader(b.status)
	_, _ = w.Write(b.body.Bytes()) // the caller has gone otherwise
}
