// Package websocket owns the WebSocket as a transport: the same frames as gRPC
// Connect, as JSON or as protobuf, one frame a message.
//
// Once the connection is upgraded everything that goes wrong is told by a close
// frame of the protocol and the close code of RFC 6455 that belongs to it: a
// browser's script can't see the status of a refused upgrade.
package websocket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	ws "github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/httpproblem"
	"github.com/axpchat/connector/services/gateway/internal/stream"
	"github.com/axpchat/connector/services/gateway/internal/tickets"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// Subprotocols.
const (
	ProtocolJSON  = "axpchat.v1+json"
	ProtocolProto = "axpchat.v1+proto"
)

// Params is what New needs.
type Params struct {
	Streams  *stream.Server
	Verifier *auth.Verifier
	Tickets  *tickets.Desk
	// Origin tells whether a page of this origin may connect.
	Origin func(r *http.Request) bool
	Log    *slog.Logger
}

// Handler serves WebSockets. It is safe for concurrent use.
type Handler struct {
	p Params
}

// New returns a handler.
func New(p Params) *Handler { return &Handler{p: p} }

// Serve upgrades the request and serves the session's stream to its end.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, session string) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		httpproblem.Write(w, r, http.StatusUpgradeRequired,
			errs.New(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "this address speaks WebSocket only"))
		return
	}
	if !h.p.Origin(r) {
		httpproblem.Write(w, r, http.StatusForbidden,
			errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "pages of this origin may not connect"))
		return
	}
	heard := &stream.Heard{}
	conn, err := ws.Accept(w, r, &ws.AcceptOptions{
		Subprotocols: []string{ProtocolJSON, ProtocolProto},
		// The origin was checked above, against whole origins and not host patterns.
		InsecureSkipVerify: true,
		CompressionMode:    ws.CompressionDisabled, // secrets and strangers' words in one stream (CRIME)
		OnPingReceived:     func(context.Context, []byte) bool { heard.Touch(); return true },
		OnPongReceived:     func(context.Context, []byte) { heard.Touch() },
	})
	if err != nil {
		h.p.Log.DebugContext(r.Context(), "upgrade failed", "error", err)
		return // Accept has answered
	}
	// The server's own cancellation on the client's leave does not work any more
	// after the upgrade; reading notices it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	// What the server cuts off at the end of its drain must end as well.
	stop := context.AfterFunc(r.Context(), cancel)
	defer stop()
	h.serve(ctx, conn, r, session, heard)
}

func (h *Handler) serve(ctx context.Context, conn *ws.Conn, r *http.Request, session string, heard *stream.Heard) {
	cfg := h.p.Streams.Config()
	conn.SetReadLimit(int64(cfg.FrameBytes))
	t := &transport{conn: conn, timeout: cfg.WriteTimeout, binary: conn.Subprotocol() == ProtocolProto}

	var pings sync.WaitGroup
	pingCtx, stopPings := context.WithCancel(ctx)
	pings.Go(func() { t.ping(pingCtx, cfg.Heartbeat) })
	end := h.run(ctx, t, r, session, heard)
	stopPings()
	if end.Gone() {
		_ = conn.CloseNow() // there is nobody to shake hands with
	} else {
		code, text := end.WebSocket()
		if err := conn.Close(ws.StatusCode(code), text); err != nil {
			h.p.Log.DebugContext(ctx, "close handshake failed", "error", err)
		}
	}
	pings.Wait()
}

func (h *Handler) run(ctx context.Context, t *transport, r *http.Request, session string, heard *stream.Heard) stream.End {
	p, err := h.principal(r, session)
	if err != nil {
		return h.p.Streams.Refuse(ctx, err, t)
	}
	return h.p.Streams.Accept(ctx, &stream.Request{Transport: "websocket", Principal: p, Session: session, Heard: heard}, t, t)
}

// principal finds out who connects: by a ticket in the address, since browsers
// can't set headers here, else by the header.
func (h *Handler) principal(r *http.Request, session string) (*auth.Principal, error) {
	if ticket := r.URL.Query().Get("ticket"); ticket != "" {
		return h.p.Tickets.Redeem(r.Context(), ticket, session, axpchatv1.TicketUse_TICKET_USE_CONNECT)
	}
	return h.p.Verifier.VerifyRequest(r)
}

// transport carries frames over one WebSocket.
type transport struct {
	conn    *ws.Conn
	timeout time.Duration
	binary  bool
}

// ping keeps the connection alive and finds out whether the client is: its pongs
// count as signs of life, their absence lets the stream end as idle.
func (t *transport) ping(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		within, cancel := context.WithTimeout(ctx, every)
		_ = t.conn.Ping(within) // a missing pong shows as silence
		cancel()
	}
}

// Send implements stream.Sender.
func (t *transport) Send(ctx context.Context, f *axpchatv1.ConnectResponse) error {
	kind, encode := ws.MessageText, protojson.Marshal
	if t.binary {
		kind, encode = ws.MessageBinary, proto.Marshal
	}
	data, err := encode(f)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	if err := t.conn.Write(within, kind, data); err != nil {
		if within.Err() != nil && ctx.Err() == nil {
			return stream.ErrStalled
		}
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// Receive implements stream.Receiver.
func (t *transport) Receive(ctx context.Context) (*axpchatv1.ConnectRequest, error) {
	kind, data, err := t.conn.Read(ctx)
	if err != nil {
		if errors.Is(err, ws.ErrMessageTooBig) {
			return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_TOO_LARGE, "the frame is larger than is allowed")
		}
		return nil, fmt.Errorf("read frame: %w", err)
	}
	f := &axpchatv1.ConnectRequest{}
	if t.binary {
		if kind != ws.MessageBinary {
			return nil, invalid("the subprotocol " + ProtocolProto + " takes binary messages")
		}
		if proto.Unmarshal(data, f) != nil {
			return nil, invalid("the frame is not a ConnectRequest in protobuf")
		}
		return f, nil
	}
	if kind != ws.MessageText {
		return nil, invalid("the subprotocol " + ProtocolJSON + " takes text messages")
	}
	if err := protojson.Unmarshal(data, f); err != nil {
		// The decoder's own text may repeat what the customer wrote.
		if name, ok := httpproblem.UnknownField(err.Error()); ok {
			return nil, invalid("the frame has a field that is not known").WithViolation(name, "is not known", "unknown_field")
		}
		return nil, invalid("the frame is not a ConnectRequest in JSON")
	}
	return f, nil
}

func invalid(detail string) *errs.Error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID, detail)
}
