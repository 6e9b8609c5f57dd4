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
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	ws "github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/httpproblem"
	"github.com/axpchat/connector/services/gateway/internal/limits"
	"github.com/axpchat/connector/services/gateway/internal/stream"
	"github.com/axpchat/connector/services/gateway/internal/tickets"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/httpx"
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
	// Origin tells whether a page of this origin may connect for anybody.
	Origin func(r *http.Request) bool
	// Admit refuses where it may not for the customer's account.
	Admit func(r *http.Request, account string) error
	Log   *slog.Logger
}

// Handler serves WebSockets. It is safe for concurrent use.
type Handler struct {
	p Params
}

// New returns a handler.
func New(p Params) *Handler { return &Handler{p: p} }

// Serve upgrades the request. The session's stream is served, to its end, by a
// goroutine of the streams' server: Serve returns before.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, session string) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		httpproblem.Write(w, r, http.StatusUpgradeRequired,
			errs.New(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "this address speaks WebSocket only"))
		return
	}
	if !h.p.Origin(r) {
		httpx.WriteProblem(w, r, errs.New(axpchatv1.ErrorReason_ERROR_REASON_ORIGIN_FORBIDDEN, "pages of this origin may not connect"))
		return
	}
	c := &client{heard: &stream.Heard{}, session: session, origin: limits.OriginOf(r.Context())}
	conn, err := ws.Accept(small{w}, r, &ws.AcceptOptions{
		Subprotocols: []string{ProtocolJSON, ProtocolProto},
		// The origin was checked above, against whole origins and not host patterns.
		InsecureSkipVerify: true,
		CompressionMode:    ws.CompressionDisabled, // secrets and strangers' words in one stream (CRIME)
		OnPingReceived:     func(context.Context, []byte) bool { c.heard.Touch(); return true },
		OnPongReceived:     func(context.Context, []byte) { c.heard.Touch() },
	})
	if err != nil {
		h.p.Log.DebugContext(r.Context(), "upgrade failed", "error", err)
		return // Accept has answered
	}
	cfg := h.p.Streams.Config()
	conn.SetReadLimit(int64(cfg.FrameBytes))
	c.t = &transport{conn: conn, streams: h.p.Streams, timeout: cfg.WriteTimeout, binary: conn.Subprotocol() == ProtocolProto}
	c.principal, c.refused = h.principal(r, session)
	if !h.p.Streams.Carry(r.Context(), func(ctx context.Context) { h.serve(ctx, c) }) {
		_ = conn.Close(ws.StatusServiceRestart, "the server leaves") // it ends in a moment
	}
}

// client is one that is served after the handler of its request has returned. It
// holds nothing of the request: the request, its buffers and the stack of the
// goroutine that has read it take more than all the rest.
type client struct {
	t         *transport
	session   string
	principal *auth.Principal
	refused   error // why there is no principal
	heard     *stream.Heard
	origin    limits.Origin
}

func (h *Handler) serve(ctx context.Context, c *client) {
	defer c.t.conn.CloseNow() //nolint:errcheck // only after a panic there is something to close
	pings := c.t.pinging(ctx, h.p.Streams.Config().Heartbeat)
	defer pings.stop()
	end := h.run(ctx, c)
	h.shakeHands(ctx, c, pings, &end)
}

func (h *Handler) run(ctx context.Context, c *client) stream.End {
	if c.refused != nil {
		return h.p.Streams.Refuse(ctx, c.refused, c.t)
	}
	return h.p.Streams.Accept(ctx, c.request(), c.t, c.t)
}

func (c *client) request() *stream.Request {
	return &stream.Request{Transport: "websocket", Principal: c.principal, Session: c.session, Heard: c.heard, Origin: c.origin}
}

// shakeHands closes the connection in the way that fits the end.
func (h *Handler) shakeHands(ctx context.Context, c *client, pings *pinger, end *stream.End) {
	pings.end()
	if end.Gone() {
		_ = c.t.conn.CloseNow() // there is nobody to shake hands with
		return
	}
	code, text := end.WebSocket()
	if err := c.t.conn.Close(ws.StatusCode(code), text); err != nil {
		h.p.Log.DebugContext(ctx, "close handshake failed", "error", err)
	}
}

// principal finds out who connects: by a ticket in the address, since browsers
// can't set headers here, else by the header.
func (h *Handler) principal(r *http.Request, session string) (p *auth.Principal, err error) {
	if ticket := r.URL.Query().Get("ticket"); ticket != "" {
		p, err = h.p.Tickets.Redeem(r.Context(), ticket, session, axpchatv1.TicketUse_TICKET_USE_CONNECT)
	} else {
		p, err = h.p.Verifier.VerifyRequest(r)
	}
	if err != nil {
		return nil, err
	}
	return p, h.p.Admit(r, p.Account)
}

// transport carries frames over one WebSocket.
type transport struct {
	conn    *ws.Conn
	streams *stream.Server
	timeout time.Duration
	binary  bool
}

// Send implements stream.Sender.
func (t *transport) Send(ctx context.Context, f *axpchatv1.ConnectResponse) error {
	kind, encode := ws.MessageText, protojson.Marshal
	if t.binary {
		kind, encode = ws.MessageBinary, proto.Marshal
	}
	data, err := t.streams.Encode(ctx, encode, f)
	if err != nil {
		return err
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

// errCut is what io.EOF means here: a client that closes says so by a frame, and
// there is no WebSocket of which one direction is closed and the other goes on.
var errCut = errors.New("the connection was cut")

// Receive implements stream.Receiver.
func (t *transport) Receive(ctx context.Context) (*axpchatv1.ConnectRequest, error) {
	kind, data, err := t.conn.Read(ctx)
	if err != nil {
		if errors.Is(err, ws.ErrMessageTooBig) {
			return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_TOO_LARGE, "the frame is larger than is allowed")
		}
		if errors.Is(err, io.EOF) {
			return nil, errCut
		}
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return Decode(kind, t.binary, data)
}

// Decode reads a frame; binary is what the subprotocol takes. It fails with
// FRAME_INVALID.
func Decode(kind ws.MessageType, binary bool, data []byte) (*axpchatv1.ConnectRequest, error) {
	f := &axpchatv1.ConnectRequest{}
	if binary {
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
		if explained, ok := httpproblem.Explain(invalid("the frame has a field that can't be read"), err.Error()); ok {
			return nil, explained
		}
		return nil, invalid("the frame is not a ConnectRequest in JSON")
	}
	return f, nil
}

func invalid(detail string) *errs.Error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID, detail)
}
