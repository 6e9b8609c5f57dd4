package httpx

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// unmatched is the route of a request that no handler took.
const unmatched = "unmatched"

// track is what the middleware of one request knows about its answer. It is used
// by the goroutine of the handler.
type track struct {
	http.ResponseWriter
	request *http.Request
	route   string
	status  int
	bytes   int64
	err     error
}

type trackKey struct{}

func tracked(ctx context.Context) *track {
	t, _ := ctx.Value(trackKey{}).(*track)
	return t
}

// follow returns the track of the request, and the request that has it. Only the
// outermost middleware makes one. http.ServeMux leaves the route in the request
// that it gets; where that is a copy, [Mux] or [SetRoute] tell it.
func follow(w http.ResponseWriter, r *http.Request) (*track, http.ResponseWriter, *http.Request) {
	if t := tracked(r.Context()); t != nil {
		return t, w, r
	}
	return followIn(r.Context(), w, r)
}

// followIn is the same for a request that gets another context: with both at once
// it is copied only once.
func followIn(ctx context.Context, w http.ResponseWriter, r *http.Request) (*track, http.ResponseWriter, *http.Request) {
	if t := tracked(ctx); t != nil {
		return t, w, r.WithContext(ctx)
	}
	t := &track{ResponseWriter: w}
	t.request = r.WithContext(context.WithValue(ctx, trackKey{}, t))
	return t, t, t.request
}

// SetRoute names the route of a request in logs, traces and metrics; the last
// call counts. Without it, the pattern of http.ServeMux does. The name must not
// hold ids.
func SetRoute(ctx context.Context, route string) {
	if t := tracked(ctx); t != nil {
		t.route = route
	}
}

func (t *track) routeName() string {
	switch {
	case t.route != "":
		return t.route
	case t.request.Pattern != "":
		return routeOf(t.request.Pattern)
	default:
		return unmatched
	}
}

// routeOf drops the method of a pattern, which is told apart.
func routeOf(pattern string) string {
	if _, route, ok := strings.Cut(pattern, " "); ok {
		return strings.TrimLeft(route, " \t")
	}
	return pattern
}

// began reports whether the answer is on its way.
func (t *track) began() bool { return t.status != 0 }

// code returns the status for logs and metrics. 499 is what others write as well
// for a client that left without waiting for the answer.
func (t *track) code() int {
	const clientGone = 499
	switch {
	case t.status != 0:
		return t.status
	case t.request.Context().Err() != nil:
		return clientGone
	default:
		return http.StatusOK
	}
}

// WriteHeader notes the status.
func (t *track) WriteHeader(code int) {
	// 1xx are announcements; the answer comes later.
	if t.status == 0 && (code >= http.StatusOK || code == http.StatusSwitchingProtocols) {
		t.status = code
	}
	t.ResponseWriter.WriteHeader(code)
}

// Write counts the bytes.
func (t *track) Write(p []byte) (int, error) {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	n, err := t.ResponseWriter.Write(p)
	t.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController find the connection.
func (t *track) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// Flush is for callers that ask for http.Flusher.
func (t *track) Flush() { _ = t.FlushError() }

// FlushError sends what is written so far.
func (t *track) FlushError() error {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	if err := http.NewResponseController(t.ResponseWriter).Flush(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// Hijack hands the connection over, as WebSockets need it.
func (t *track) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("hijack: %w", err)
	}
	if t.status == 0 {
		t.status = http.StatusSwitchingProtocols
	}
	return conn, rw, nil
}
