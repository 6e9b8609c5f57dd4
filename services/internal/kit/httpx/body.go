package httpx

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// LimitBody refuses bodies of more than n bytes with TOO_LARGE: at once when the
// length is declared, otherwise when the handler reads past the limit, as an
// error that errs.From recognises.
func LimitBody(n int64, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > n {
			// Whoever sends on regardless must not have the rest taken for
			// the next request.
			w.Header().Set("Connection", "close")
			WriteProblem(w, r, errs.Newf(axpchatv1.ErrorReason_ERROR_REASON_TOO_LARGE, "the body is larger than %d bytes", n))
			return
		}
		if hasBody(r) {
			r.Body = http.MaxBytesReader(w, r.Body, n)
		}
		h.ServeHTTP(w, r)
	})
}

// ReadTimeout gives the client d to send the body. Reading it later fails with
// DEADLINE_EXCEEDED. It is for handlers that read the whole body before they
// answer; not for streams and WebSockets.
func ReadTimeout(d time.Duration, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d <= 0 || !hasBody(r) {
			h.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		// It can't be set on the writers of tests; they do not wait either.
		if err := control.SetReadDeadline(time.Now().Add(d)); err == nil {
			r.Body = &timedBody{ReadCloser: r.Body, control: control}
		}
		h.ServeHTTP(w, r)
	})
}

func hasBody(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

// timedBody lifts the deadline when the body is read. After that net/http reads
// on, to notice when the client leaves, and would take the deadline for that.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
	lift    sync.Once
}

// Read reads from the body.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.lift.Do(func() { _ = b.control.SetReadDeadline(time.Time{}) })
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errs.New(axpchatv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, "the body did not arrive in time").WithCause(err)
	}
	return n, err
}
