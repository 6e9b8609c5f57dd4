package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	ws "github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// follower is a client that follows a session over some transport.
type follower interface {
	// next returns the next frame; after the last one an error, which is an
	// errs.Error where the transport carries one.
	next() (*axpchatv1.ConnectResponse, error)
	leave()
}

// transport is a way to follow a session. Whoever opens it may find out by open
// or by the first next that it may not.
type transport struct {
	name   string
	open   func(ctx context.Context, s *suite, token, session, cursor string) (follower, error)
	stream bool // one answer without an end: welcome, heartbeats, go_away, close
	twoWay bool
}

func transports() []transport {
	return []transport{
		{"gRPC Connect", openConnect, true, true},
		{"gRPC WatchEvents", openWatch, true, false},
		{"WebSocket JSON", openWebSocket("axpchat.v1+json"), true, true},
		{"WebSocket protobuf", openWebSocket("axpchat.v1+proto"), true, true},
		{"SSE", openSSE, true, false},
		{"NDJSON", openNDJSON, true, false},
		{"long polling", openPolling, false, false},
	}
}

// speaker is a follower that can say something as well.
type speaker interface {
	follower
	say(f *axpchatv1.ConnectRequest) error
}

type grpcFollower struct {
	recv   func() (*axpchatv1.ConnectResponse, error)
	send   func(*axpchatv1.ConnectRequest) error
	cancel context.CancelFunc
}

func (f *grpcFollower) next() (*axpchatv1.ConnectResponse, error) {
	frame, err := f.recv()
	if err != nil && !errors.Is(err, io.EOF) {
		err = errs.From(err)
	}
	return frame, err
}
func (f *grpcFollower) leave()                                    { f.cancel() }
func (f *grpcFollower) say(frame *axpchatv1.ConnectRequest) error { return f.send(frame) }

func openConnect(ctx context.Context, s *suite, token, session, cursor string) (follower, error) {
	ctx, cancel := context.WithCancel(ctx)
	c, err := axpchatv1.NewChatServiceClient(s.grpc).Connect(bearer(ctx, token))
	if err != nil {
		cancel()
		return nil, err
	}
	f := &grpcFollower{recv: c.Recv, send: c.Send, cancel: cancel}
	err = c.Send(hello(session, cursor))
	if errors.Is(err, io.EOF) { // the stream has ended; reading tells why
		_, err = f.next()
	}
	return f, err
}

func hello(session, cursor string) *axpchatv1.ConnectRequest {
	return &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Hello{Hello: &axpchatv1.Hello{SessionId: session, Cursor: cursor}}}
}

func openWatch(ctx context.Context, s *suite, token, session, cursor string) (follower, error) {
	ctx, cancel := context.WithCancel(ctx)
	c, err := axpchatv1.NewChatServiceClient(s.grpc).WatchEvents(bearer(ctx, token), &axpchatv1.WatchEventsRequest{SessionId: session, Cursor: cursor})
	if err != nil {
		cancel()
		return nil, err
	}
	return &grpcFollower{cancel: cancel, recv: func() (*axpchatv1.ConnectResponse, error) {
		m, err := c.Recv()
		return m.GetFrame(), err
	}}, nil
}

type wsFollower struct {
	ctx    context.Context
	conn   *ws.Conn
	binary bool
}

func openWebSocket(protocol string) func(context.Context, *suite, string, string, string) (follower, error) {
	return func(ctx context.Context, s *suite, token, session, cursor string) (follower, error) {
		f, err := dialWebSocket(ctx, s, protocol, token, session)
		if err != nil {
			return nil, err
		}
		_ = f.say(hello("", cursor)) // a connection that is refused closes meanwhile
		return f, nil
	}
}

// dialWebSocket connects, and says nothing yet.
func dialWebSocket(ctx context.Context, s *suite, protocol, token, session string) (*wsFollower, error) {
	conn, resp, err := ws.Dial(ctx, s.url(session, ":connect"), &ws.DialOptions{
		HTTPClient: s.client, Subprotocols: []string{protocol}, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}},
	})
	if err != nil {
		return nil, fmt.Errorf("dial: %w (%v)", err, resp)
	}
	conn.SetReadLimit(1 << 20)
	f := &wsFollower{ctx: ctx, conn: conn, binary: protocol == "axpchat.v1+proto"}
	if conn.Subprotocol() != protocol {
		_ = conn.CloseNow()
		return nil, fmt.Errorf("subprotocol %q", conn.Subprotocol())
	}
	return f, nil
}

func (f *wsFollower) say(frame *axpchatv1.ConnectRequest) error {
	if f.binary {
		data, err := proto.Marshal(frame)
		if err != nil {
			return err
		}
		return f.conn.Write(f.ctx, ws.MessageBinary, data)
	}
	data, err := protojson.Marshal(frame)
	if err != nil {
		return err
	}
	return f.conn.Write(f.ctx, ws.MessageText, data)
}

func (f *wsFollower) next() (*axpchatv1.ConnectResponse, error) {
	_, data, err := f.conn.Read(f.ctx)
	if err != nil {
		return nil, err
	}
	frame := &axpchatv1.ConnectResponse{}
	if f.binary {
		return frame, proto.Unmarshal(data, frame)
	}
	return frame, protojson.Unmarshal(data, frame)
}
func (f *wsFollower) leave() { _ = f.conn.CloseNow() }

// get opens an answer that does not end.
func get(ctx context.Context, s *suite, token, url string, header map[string]string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, problemOf(resp)
	}
	return resp, nil
}

// problemOf reads application/problem+json back into an error.
func problemOf(resp *http.Response) error {
	body, _ := io.ReadAll(resp.Body)
	var p struct {
		Reason, Detail string
		Violations     []errs.Violation
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	e := errs.New(axpchatv1.ErrorReason(axpchatv1.ErrorReason_value["ERROR_REASON_"+p.Reason]), p.Detail)
	e.Violations = p.Violations
	return e
}

type lineFollower struct {
	body  io.ReadCloser
	lines *bufio.Reader
	parse func(*lineFollower) (*axpchatv1.ConnectResponse, error)
}

func (f *lineFollower) next() (*axpchatv1.ConnectResponse, error) { return f.parse(f) }
func (f *lineFollower) leave()                                    { _ = f.body.Close() }

func openSSE(ctx context.Context, s *suite, token, session, cursor string) (follower, error) {
	header := map[string]string{"Accept": "text/event-stream"}
	if cursor != "" {
		header["Last-Event-ID"] = cursor
	}
	resp, err := get(ctx, s, token, s.url(session, "/events"), header)
	if err != nil {
		return nil, err
	}
	return &lineFollower{body: resp.Body, lines: bufio.NewReader(resp.Body), parse: parseSSE}, nil
}

func parseSSE(f *lineFollower) (*axpchatv1.ConnectResponse, error) {
	fields := map[string]string{}
	for {
		line, err := f.lines.ReadString('\n')
		if err != nil {
			return nil, err
		}
		line = strings.TrimSuffix(line, "\n")
		if line != "" {
			name, value, _ := strings.Cut(line, ": ")
			fields[name] = value
			continue
		}
		if fields["data"] == "" {
			fields = map[string]string{} // a comment, or retry alone
			continue
		}
		frame := &axpchatv1.ConnectResponse{}
		if err := protojson.Unmarshal([]byte(fields["data"]), frame); err != nil {
			return nil, err
		}
		kind := frame.ProtoReflect().WhichOneof(frame.ProtoReflect().Descriptor().Oneofs().Get(0)).JSONName()
		if fields["event"] != kind {
			return nil, fmt.Errorf("SSE event %q holds a %s", fields["event"], kind)
		}
		if ev := frame.GetEvent(); ev != nil && ev.GetCursor() != fields["id"] {
			return nil, fmt.Errorf("id %q of an event with cursor %q", fields["id"], ev.GetCursor())
		}
		return frame, nil
	}
}

func openNDJSON(ctx context.Context, s *suite, token, session, cursor string) (follower, error) {
	resp, err := get(ctx, s, token, s.url(session, "/events?cursor="+cursor), nil)
	if err != nil {
		return nil, err
	}
	return &lineFollower{body: resp.Body, lines: bufio.NewReader(resp.Body), parse: func(f *lineFollower) (*axpchatv1.ConnectResponse, error) {
		line, err := f.lines.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		var chunk struct{ Result, Error json.RawMessage }
		if err := json.Unmarshal(line, &chunk); err != nil {
			return nil, err
		}
		if chunk.Result == nil {
			return nil, fmt.Errorf("the stream ended with %s", chunk.Error)
		}
		m := &axpchatv1.WatchEventsResponse{}
		err = protojson.Unmarshal(chunk.Result, m)
		return m.GetFrame(), err
	}}, nil
}

// pollFollower shows the answers of polls as frames.
type pollFollower struct {
	ctx                    context.Context
	cancel                 context.CancelFunc
	s                      *suite
	token, session, cursor string
	frames                 []*axpchatv1.ConnectResponse
}

func openPolling(ctx context.Context, s *suite, token, session, cursor string) (follower, error) {
	ctx, cancel := context.WithCancel(ctx)
	return &pollFollower{ctx: ctx, cancel: cancel, s: s, token: token, session: session, cursor: cursor}, nil
}

func (f *pollFollower) next() (*axpchatv1.ConnectResponse, error) {
	for len(f.frames) == 0 {
		resp, err := get(f.ctx, f.s, f.token, f.s.url(f.session, "/events:poll?wait=5s&cursor="+f.cursor), nil)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		m := &axpchatv1.PollEventsResponse{}
		if err := protojson.Unmarshal(body, m); err != nil {
			return nil, err
		}
		if m.GetReset_() != nil {
			f.frames = append(f.frames, &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Reset_{Reset_: m.GetReset_()}})
		} else if len(m.GetEvents()) == 0 && f.cursor != "" && m.GetCursor() != f.cursor {
			return nil, fmt.Errorf("an empty answer moved the cursor from %q to %q", f.cursor, m.GetCursor())
		}
		for _, ev := range m.GetEvents() {
			f.frames = append(f.frames, &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Event{Event: ev}})
		}
		f.cursor = m.GetCursor()
	}
	frame := f.frames[0]
	f.frames = f.frames[1:]
	return frame, nil
}
func (f *pollFollower) leave() { f.cancel() }

// open opens a follower that leaves with the test.
func open(t testing.TB, s *suite, tr transport, token, session, cursor string) (follower, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	f, err := tr.open(ctx, s, token, session, cursor)
	if f != nil {
		t.Cleanup(f.leave)
	}
	return f, err
}

func mustOpen(t testing.TB, s *suite, tr transport, token, session, cursor string) follower {
	t.Helper()
	f, err := open(t, s, tr, token, session, cursor)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return f
}

// want reads frames until one that pick likes, past signs of life.
func want[T any](t testing.TB, f follower, what string, pick func(*axpchatv1.ConnectResponse) (T, bool)) T {
	t.Helper()
	type outcome struct {
		frame *axpchatv1.ConnectResponse
		err   error
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		got := make(chan outcome, 1)
		go func() { frame, err := f.next(); got <- outcome{frame, err} }()
		select {
		case o := <-got:
			if o.err != nil {
				t.Fatalf("waiting for %s: %v", what, o.err)
			}
			if v, ok := pick(o.frame); ok {
				return v
			}
			if o.frame.GetPong() == nil && o.frame.GetWelcome() == nil && o.frame.GetTokenExpiryReminder() == nil {
				t.Fatalf("waiting for %s: got %v", what, o.frame)
			}
		case <-deadline.C:
			f.leave()
			<-got
			t.Fatalf("no %s in time", what)
		}
	}
}

func wantEvent(t testing.TB, f follower, id string) *axpchatv1.Event {
	t.Helper()
	ev := want(t, f, "event "+id, func(r *axpchatv1.ConnectResponse) (*axpchatv1.Event, bool) { return r.GetEvent(), r.GetEvent() != nil })
	if ev.GetEventId() != id {
		t.Fatalf("event %q, want %q", ev.GetEventId(), id)
	}
	return ev
}

func wantClose(t testing.TB, f follower, code axpchatv1.CloseCode) *axpchatv1.Close {
	t.Helper()
	c := want(t, f, "close "+code.String(), func(r *axpchatv1.ConnectResponse) (*axpchatv1.Close, bool) { return r.GetClose(), r.GetClose() != nil })
	if c.GetCode() != code {
		t.Fatalf("close %v, want %v", c, code)
	}
	return c
}

// refusal opens and reads to the end, and returns why it was refused: by an
// error of the call, or by a close frame.
func refusal(t testing.TB, s *suite, tr transport, token, session, cursor string) (axpchatv1.ErrorReason, axpchatv1.CloseCode) {
	t.Helper()
	f, err := open(t, s, tr, token, session, cursor)
	var code axpchatv1.CloseCode
	for err == nil {
		var frame *axpchatv1.ConnectResponse
		if frame, err = f.next(); err == nil {
			if frame.GetClose() == nil {
				t.Fatalf("frame %v instead of a refusal", frame)
			}
			code = frame.GetClose().GetCode()
		}
	}
	return errs.From(err).Reason, code
}

func newLines(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }
