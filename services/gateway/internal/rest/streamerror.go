package rest

import (
	"context"
	"net/http"

	"google.golang.org/grpc/status"

	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/httpx"
)

// grpc-gateway writes the failure of a streaming method as a line of its own
// form, also where the stream never began. What follows gives such a call the
// same problem as every other one.

type streamErrorKey struct{}

// streamError is the failure of the call, once there is one.
type streamError struct{ err error }

func noteStreamError(ctx context.Context, err error) *status.Status {
	if note, ok := ctx.Value(streamErrorKey{}).(*streamError); ok {
		note.err = err
	}
	return errs.Status(err, "")
}

// serveAsProblem serves the request and replaces the answer of a stream that
// never began.
func serveAsProblem(h http.Handler, w http.ResponseWriter, r *http.Request) {
	note := &streamError{}
	r = r.WithContext(context.WithValue(r.Context(), streamErrorKey{}, note))
	out := &holdBack{ResponseWriter: w, note: note}
	h.ServeHTTP(out, r)
	if out.held {
		httpx.WriteProblem(w, r, note.err)
	}
}

// holdBack drops an answer that begins after the stream has failed.
type holdBack struct {
	http.ResponseWriter
	note  *streamError
	began bool
	held  bool
}

// WriteHeader implements http.ResponseWriter.
func (h *holdBack) WriteHeader(code int) {
	if !h.began && h.note.err != nil {
		h.began, h.held = true, true
		return
	}
	h.began = true
	h.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (h *holdBack) Write(p []byte) (int, error) {
	h.began = true
	if h.held {
		return len(p), nil
	}
	return h.ResponseWriter.Write(p)
}

// FlushError is used by http.ResponseController.
func (h *holdBack) FlushError() error {
	if h.held {
		return nil
	}
	return http.NewResponseController(h.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController find the connection.
func (h *holdBack) Unwrap() http.ResponseWriter { return h.ResponseWriter }
