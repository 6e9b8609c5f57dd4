// Package sse owns server-sent events as a transport: the frames of a watched
// session as an event stream that a browser's EventSource reads and resumes.
//
// The name of an SSE event is the kind of frame (welcome, event, reset, goAway,
// tokenExpiryReminder, close), its data the frame as JSON, its id the cursor.
// Signs of life are comments.
package sse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/limits"
	"github.com/axpchat/connector/services/gateway/internal/stream"
	"github.com/axpchat/connector/services/gateway/internal/tickets"
	"github.com/axpchat/connector/services/internal/kit/httpx"
)

const (
	// heartbeat is shorter than on other transports: proxies end HTTP answers
	// that are silent for half a minute.
	heartbeat = 15 * time.Second
	// retry is how long an EventSource waits after a broken connection.
	retry = 2 * time.Second
)

// Params is what New needs.
type Params struct {
	Streams  *stream.Server
	Verifier *auth.Verifier
	Tickets  *tickets.Desk
	// Admit refuses where the request's page may not follow the customer's account.
	Admit func(r *http.Request, account string) error
}

// Handler serves event streams. It is safe for concurrent use.
type Handler struct {
	p Params
}

// New returns a handler.
func New(p Params) *Handler { return &Handler{p: p} }

// Wants tells whether the client asks for an event stream.
func Wants(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(accept, ",") {
			kind, _, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// Serve serves the session's events to the end of the stream.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, session string) {
	st, out, err := h.open(w, r, session)
	switch {
	case err != nil:
		httpx.WriteProblem(w, r, err)
	case st != nil:
		st.Serve(r.Context(), out) // how it ended is told by its last frame
	}
}

// open opens the stream and begins the answer. There is no stream and no error where
// the client has left meanwhile.
func (h *Handler) open(w http.ResponseWriter, r *http.Request, session string) (st *stream.Stream, out *writer, err error) {
	err = h.p.Streams.Aside(r.Context(), func() (err error) {
		if st, err = h.follow(r, session); err != nil {
			return err
		}
		header := w.Header()
		header.Set("Content-Type", "text/event-stream")
		header.Set("Cache-Control", "no-store, no-transform")
		header.Set("X-Accel-Buffering", "no") // nginx would hold events back
		out = &writer{w: w, control: http.NewResponseController(w), streams: h.p.Streams, timeout: h.p.Streams.Config().WriteTimeout}
		if out.write("retry: "+strconv.FormatInt(retry.Milliseconds(), 10)+"\n\n") != nil {
			st.Close()
			st = nil
		}
		return nil
	})
	return st, out, err
}

// follow begins to follow the session from where the client has come to.
func (h *Handler) follow(r *http.Request, session string) (*stream.Stream, error) {
	p, err := h.principal(r, session)
	if err != nil {
		return nil, err
	}
	// An EventSource that comes back sends the header; the address still holds
	// the cursor that it was first opened with.
	cursor := r.Header.Get("Last-Event-ID")
	if cursor == "" {
		cursor = r.URL.Query().Get("cursor")
	}
	return h.p.Streams.Open(r.Context(), stream.Request{
		Transport: "sse", Principal: p, Session: session, Cursor: cursor, Heartbeat: min(heartbeat, h.p.Streams.Config().Heartbeat),
		Origin: limits.OriginOf(r.Context()),
	})
}

func (h *Handler) principal(r *http.Request, session string) (p *auth.Principal, err error) {
	if ticket := r.URL.Query().Get("ticket"); ticket != "" {
		p, err = h.p.Tickets.Redeem(r.Context(), ticket, session, axpchatv1.TicketUse_TICKET_USE_EVENTS)
	} else {
		p, err = h.p.Verifier.VerifyRequest(r)
	}
	if err != nil {
		return nil, err
	}
	return p, h.p.Admit(r, p.Account)
}

// writer writes frames as SSE.
type writer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	streams *stream.Server
	timeout time.Duration
}

// Send implements stream.Sender.
func (w *writer) Send(ctx context.Context, f *axpchatv1.ConnectResponse) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.GetPong() != nil {
		return w.write(": heartbeat\n\n")
	}
	m := f.ProtoReflect()
	kind := m.WhichOneof(m.Descriptor().Oneofs().ByName("payload"))
	if kind == nil {
		return nil
	}
	data, err := w.streams.Encode(ctx, protojson.Marshal, f) // one line: line breaks in strings are escaped
	if err != nil {
		return err
	}
	var b strings.Builder
	if id := idOf(f); id != "" {
		b.WriteString("id: " + id + "\n")
	}
	if wait := retryOf(f); wait > 0 {
		b.WriteString("retry: " + strconv.FormatInt(wait, 10) + "\n")
	}
	b.WriteString("event: " + kind.JSONName() + "\ndata: ")
	b.Write(data)
	b.WriteString("\n\n")
	return w.write(b.String())
}

// idOf is where an EventSource resumes after this frame; empty: as before.
func idOf(f *axpchatv1.ConnectResponse) string {
	switch {
	case f.GetEvent() != nil:
		return f.GetEvent().GetCursor()
	case f.GetReset_() != nil:
		return f.GetReset_().GetCursor()
	default:
		return f.GetWelcome().GetCursor()
	}
}

// retryOf is how long an EventSource shall wait before it comes back.
func retryOf(f *axpchatv1.ConnectResponse) int64 {
	if f.GetGoAway() != nil {
		return f.GetGoAway().GetRetryAfterMs()
	}
	return f.GetClose().GetRetryAfterMs()
}

func (w *writer) write(text string) error {
	// Writers that know no deadline belong to tests.
	if err := w.control.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("write frame: %w", err)
	}
	_, err := w.w.Write([]byte(text))
	if err == nil {
		err = w.control.Flush()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return stream.ErrStalled
	}
	if err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}
