package httpx

import (
	"log/slog"
	"maps"
	"net/http"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

// RequestIDHeader is the header that carries request ids in both directions.
const RequestIDHeader = "X-Request-Id"

// RequestID takes the request id of the caller, or makes one, puts it into the
// context, from where it goes on to gRPC, and sends it back.
func RequestID(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := grpcx.AcceptRequestID(r.Header.Get(RequestIDHeader))
		w.Header().Set(RequestIDHeader, id)
		h.ServeHTTP(w, r.WithContext(grpcx.WithRequestID(r.Context(), id)))
	})
}

// refusal is what requests have in common that are refused alike: a flood of them
// must not become one of lines.
type refusal struct {
	route  string
	status int
	reason axpchatv1.ErrorReason
}

// AccessLog writes a line for every request, at debug when it went well, and the
// cause of failures that are the connector's own. Where many
// are refused alike it tells of some, and with left_out of how many it did not;
// metrics count them all.
// It logs the route, never path, query, headers or bodies.
func AccessLog(log *slog.Logger, h http.Handler) http.Handler {
	refused := logx.NewSieve[refusal]()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, w, r := follow(w, r)
		began := time.Now()
		// Deferred, so that an answer that is aborted by a panic is logged too.
		defer func() {
			logRequest(log, refused, t, r, time.Since(began))
		}()
		h.ServeHTTP(w, r)
	})
}

func logRequest(log *slog.Logger, refused *logx.Sieve[refusal], t *track, r *http.Request, took time.Duration) {
	ctx, code := r.Context(), t.code()
	level := slog.LevelDebug
	switch {
	case code >= http.StatusInternalServerError:
		level = slog.LevelWarn
	case code >= http.StatusBadRequest:
		level = slog.LevelInfo
	}
	var e *errs.Error
	reason := axpchatv1.ErrorReason_ERROR_REASON_UNSPECIFIED
	if t.err != nil {
		e = errs.From(t.err)
		reason = e.Reason
	}
	if reason == axpchatv1.ErrorReason_ERROR_REASON_INTERNAL {
		level = slog.LevelError
	}
	if !log.Enabled(ctx, level) {
		return // most requests: the rest would be work for a line that nobody gets
	}
	leftOut := 0
	if level == slog.LevelInfo {
		var ok bool
		if leftOut, ok = refused.Pass(refusal{t.routeName(), code, reason}, time.Now()); !ok {
			return
		}
	}
	attrs := []any{"method", method(r), "route", t.routeName(), "status", code,
		"bytes", t.bytes, "duration", took, "request_id", grpcx.RequestID(ctx)}
	if e != nil {
		attrs = append(attrs, "reason", errs.Name(reason))
		// Causes of other failures may repeat what the client sent.
		if errs.HTTPStatus(reason) >= http.StatusInternalServerError {
			attrs = append(attrs, "error", t.err)
		}
	}
	if leftOut > 0 {
		attrs = append(attrs, "left_out", leftOut)
	}
	log.Log(ctx, level, "http", attrs...)
}

// method keeps inventions of strangers out of logs and labels.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return r.Method
	default:
		return "_OTHER"
	}
}

// Recover answers a panic of the handler with INTERNAL and notes it. When the
// answer has begun, the connection is cut, so that nobody takes it for complete.
func Recover(p *panics.Watch, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, w, r := follow(w, r)
		defer answerPanic(p, t, w, r)
		h.ServeHTTP(w, r)
	})
}

// answerPanic is deferred; it calls recover itself.
func answerPanic(p *panics.Watch, t *track, w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // a panic value is not wrapped
		panic(v)
	}
	err := p.Note(r.Context(), "http", v, "route", t.routeName(), "request_id", grpcx.RequestID(r.Context()))
	if t.began() {
		panic(http.ErrAbortHandler)
	}
	WriteProblem(w, r, err)
}

// SecurityHeaders sets the headers that suit an API: nothing is guessed, framed,
// fetched or told to other sites. A handler that serves pages sets a
// Content-Security-Policy of its own over this one.
func SecurityHeaders(h http.Handler) http.Handler {
	// The values are made once. Nobody can change them by way of a header: Set puts
	// another list in their place, and Add has to copy one that is full.
	values := map[string][]string{}
	for key, value := range map[string]string{
		"X-Content-Type-Options":  "nosniff",
		"X-Frame-Options":         "DENY",
		"Referrer-Policy":         "no-referrer",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		values[http.CanonicalHeaderKey(key)] = []string{value}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), values)
		h.ServeHTTP(w, r)
	})
}
