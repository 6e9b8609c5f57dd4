package httpx

import (
	"net/http"
	"strconv"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
)

// ProblemType is the media type of failures (RFC 9457).
const ProblemType = "application/problem+json"

// WriteProblem answers the request with the error, whatever it is: errs.From
// gives it a reason. Where [AccessLog] is around the handler, the cause goes to
// the log. When the answer has begun already, nothing is written.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	if t := tracked(r.Context()); t != nil {
		t.err = err
		if t.began() {
			return
		}
	}
	code, body := errs.MarshalProblem(err, grpcx.RequestID(r.Context()), r.URL.Path)
	header := w.Header()
	// What the handler meant to send in case of success.
	header.Del("Content-Length")
	header.Del("Content-Encoding")
	header.Del("Etag")
	header.Del("Last-Modified")
	header.Set("Content-Type", ProblemType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if s := errs.RetryAfterSeconds(err); s > 0 {
		header.Set("Retry-After", strconv.FormatInt(s, 10))
	}
	if code == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", challenge(err))
	}
	w.WriteHeader(code)
	// A client that is gone can't be told so.
	_, _ = w.Write(body) //nolint:gosec // JSON, declared as such and not to be guessed at
}

// challenge says whether there was a token at all, as RFC 6750 wants it.
func challenge(err error) string {
	if errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED) {
		return `Bearer error="invalid_token"`
	}
	return "Bearer"
}

// NotFound answers every request with NOT_FOUND.
func NotFound() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		WriteProblem(w, r, errs.New(axpchatv1.ErrorReason_ERROR_REASON_NOT_FOUND, ""))
	})
}

// Mux serves the mux, but answers what it has no route for with NOT_FOUND as a
// problem instead of text. A path that exists for other methods gets their list
// in the header Allow. The pattern becomes the name of the route; see [SetRoute].
func Mux(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			SetRoute(r.Context(), routeOf(pattern))
			mux.ServeHTTP(w, r)
			return
		}
		probe := &headerOnly{header: http.Header{}}
		h.ServeHTTP(probe, r)
		if allow := probe.header.Values("Allow"); len(allow) > 0 {
			w.Header()["Allow"] = allow
		}
		NotFound().ServeHTTP(w, r)
	})
}

// headerOnly takes the header of an answer and drops the rest.
type headerOnly struct{ header http.Header }

func (h *headerOnly) Header() http.Header         { return h.header }
func (h *headerOnly) Write(p []byte) (int, error) { return len(p), nil }
func (h *headerOnly) WriteHeader(int)             {}
