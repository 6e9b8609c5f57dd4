package attack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/connector/dev"
)

// wire is a connection to the gateway's gRPC listener on which any frames can be
// said. What the server says is read and noted beside it.
type wire struct {
	*http2.Framer
	conn  net.Conn
	table *hpack.Encoder
	head  bytes.Buffer

	mu      sync.Mutex
	streams map[uint32]string // how each was answered: a reset, or its statuses
	goAway  string
	noted   chan struct{} // something was
	ended   chan struct{} // closed with the connection
}

// tap dials as somebody at an address of his own: what he spends is not the victim's.
// Who is deaf reads nothing of what the server says.
func (s *scene) tap(ctx context.Context, t *testing.T, deaf bool) *wire {
	t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}}
	conn, err := from.DialContext(ctx, "tcp", s.GRPC)
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{conn: conn, streams: map[uint32]string{}, noted: make(chan struct{}, 1), ended: make(chan struct{})}
	w.Framer = http2.NewFramer(conn, conn)
	w.AllowIllegalWrites = true
	w.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	w.table = hpack.NewEncoder(&w.head)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if deaf {
		close(w.ended)
	} else {
		go w.listen()
	}
	t.Cleanup(func() { _ = conn.Close(); <-w.ended })
	return w
}

func (w *wire) listen() {
	defer close(w.ended)
	for {
		frame, err := w.ReadFrame()
		if err != nil {
			return
		}
		w.mu.Lock()
		switch f := frame.(type) {
		case *http2.GoAwayFrame:
			w.goAway = f.ErrCode.String()
		case *http2.RSTStreamFrame:
			w.streams[f.StreamID] += "reset " + f.ErrCode.String()
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				if h.Name == "grpc-status" || h.Name == ":status" && h.Value != "200" {
					w.streams[f.StreamID] += strings.TrimPrefix(h.Name, ":") + " " + h.Value + " "
				}
			}
		}
		w.mu.Unlock()
		select {
		case w.noted <- struct{}{}:
		default:
		}
	}
}

// outcome waits until a stream is answered or the connection ends, and says how.
func (w *wire) outcome(ctx context.Context, stream uint32) string {
	for over := false; ; {
		w.mu.Lock()
		said, goAway := strings.TrimSpace(w.streams[stream]), w.goAway
		w.mu.Unlock()
		switch {
		case said != "":
			return said
		case over && goAway != "":
			return "closed " + goAway
		case over:
			return "closed"
		}
		select {
		case <-w.noted:
		case <-w.ended:
			over = true
		case <-ctx.Done():
			return "nothing"
		}
	}
}

// block encodes headers, as they are.
func (w *wire) block(fields ...string) []byte {
	w.head.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		_ = w.table.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // into memory
	}
	return slices.Clone(w.head.Bytes())
}

// open begins a stream with headers.
func (w *wire) open(stream uint32, end bool, fields ...string) error {
	return w.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: w.block(fields...), EndHeaders: true, EndStream: end})
}

const getSession = "/axpchat.v1.ChatService/GetSession"

// fields are the head of a good call with other values of the fields that are given;
// those without a value are left out.
func fields(token string, with ...string) []string {
	good := []string{":method", "POST", ":scheme", "http", ":path", getSession, ":authority", "x", "content-type", "application/grpc", "te", "trailers", "authorization", "Bearer " + token}
	var out []string
	for i := 0; i < len(good); i += 2 {
		replaced := false
		for k := 0; k < len(with); k += 2 {
			replaced = replaced || with[k] == good[i]
		}
		if !replaced {
			out = append(out, good[i:i+2]...)
		}
	}
	// Pseudo-headers go first, as long as nobody wants otherwise.
	pseudo := 0
	for pseudo < len(out) && out[pseudo][0] == ':' {
		pseudo += 2
	}
	var before, after []string
	for k := 0; k < len(with); k += 2 {
		switch {
		case with[k+1] == "":
		case strings.HasPrefix(with[k], ":"):
			before = append(before, with[k:k+2]...)
		default:
			after = append(after, with[k:k+2]...)
		}
	}
	return slices.Concat(out[:pseudo], before, out[pseudo:], after)
}

// body is the message of the call, framed.
func (s *scene) body(t *testing.T) []byte {
	t.Helper()
	m, err := proto.Marshal(&axpchatv1.GetSessionRequest{SessionId: s.own})
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}

// http2Attack says something wrong; want is how its stream, or the connection, ends.
type http2Attack struct {
	name   string
	stream uint32
	want   string // what the outcome begins with; several by |
	say    func(w *wire) error
}

// heads are calls that would be answered but for what is wrong with their heads.
func (s *scene) heads(t *testing.T) []http2Attack {
	t.Helper()
	message := s.body(t)
	call := func(name, want string, with ...string) http2Attack {
		return http2Attack{name, 1, want, func(w *wire) error {
			return errors.Join(w.open(1, false, fields(s.thief, with...)...), w.WriteData(1, true, message))
		}}
	}
	const broken = "reset PROTOCOL_ERROR"
	order := fields(s.thief)
	return []http2Attack{
		call("nothing wrong", "grpc-status 0"),
		call("two paths", broken, ":path", getSession, ":path", "/axpchat.v1.ChatService/ListMessages"),
		call("two methods", broken, ":method", "POST", ":method", "GET"),
		call("two schemes", broken, ":scheme", "http", ":scheme", "https"),
		call("two authorities", broken+"|status 400", ":authority", "x", ":authority", "y"),
		call("two hosts", "status 400", "host", "x", "host", "y"),
		call("no authority", "status 400", ":authority", ""),
		call("a pseudo-header that is none", broken, ":sub", "victim"),
		call("one of answers", broken, ":status", "200"),
		call("another method", "status 405", ":method", "GET"),
		call("CONNECT", "status 405", ":method", "CONNECT"),
		call("no content type", "status 415", "content-type", "text/plain"),
		call("a header of the connection", broken, "connection", "upgrade"),
		call("capital letters", broken, "Authorization", "Bearer "+s.victim),
		call("a line break in a value", broken, "x-a", "b\r\nauthorization: Bearer "+s.victim),
		call("a zero in a value", broken, "x-a", "b\x00"),
		call("a name with a space", broken, "x a", "b"),
		call("no name", broken, "", "b"),
		call("broken binary metadata", "status 400|grpc-status 13", "x-a-bin", "%%%"),
		call("a broken deadline", "status 400|grpc-status 13", "grpc-timeout", "soon"),
		call("a deadline of nothing", "grpc-status 4|reset CANCEL", "grpc-timeout", "0n"),
		call("an encoding that is none", "grpc-status 12", "grpc-encoding", "rot13"),
		call("metadata of 200 KiB", "reset FRAME_SIZE_ERROR|closed", "x-a", strings.Repeat("a", 60<<10), "x-b", strings.Repeat("b", 60<<10), "x-c", strings.Repeat("c", 80<<10)),
		{"a pseudo-header at the end", 1, broken, func(w *wire) error {
			return errors.Join(w.open(1, false, append(slices.Clone(order[2:]), order[:2]...)...), w.WriteData(1, true, message))
		}},
		{"one header named again and again", 1, "reset|closed", func(w *wire) error {
			// One entry of the dynamic table, named again and again: 40 MB of headers.
			head := w.block(append(fields(s.thief), "x-a", strings.Repeat("a", 3900))...)
			return w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: append(head, bytes.Repeat([]byte{0xbe}, 10_000)...), EndHeaders: true, EndStream: true})
		}},
		{"a block that is no HPACK", 1, "closed", func(w *wire) error {
			return w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bytes.Repeat([]byte{0xff}, 64), EndHeaders: true, EndStream: true})
		}},
	}
}

// order are frames that are not where they belong.
func (s *scene) order(t *testing.T) []http2Attack {
	t.Helper()
	message := s.body(t)
	half := func(w *wire, token string) error { return w.open(1, false, fields(token)...) }
	return []http2Attack{
		{"a token in trailers", 1, "closed", func(w *wire) error {
			return errors.Join(w.open(1, false, fields("none", "authorization", "")...), w.WriteData(1, false, message[:3]), w.open(1, true, "authorization", "Bearer "+s.victim))
		}},
		{"trailers", 1, "closed", func(w *wire) error {
			return errors.Join(half(w, s.thief), w.WriteData(1, false, message[:3]), w.open(1, true, "x-a", "b"))
		}},
		{"headers twice", 1, "closed", func(w *wire) error {
			return errors.Join(half(w, s.thief), w.open(1, false, fields(s.victim)...))
		}},
		{"a stream of a lower number", 1, "closed", func(w *wire) error {
			return errors.Join(w.open(5, false, fields(s.thief)...), half(w, s.thief))
		}},
		{"a stream of the server's", 2, "closed", func(w *wire) error { return w.open(2, true, fields(s.thief)...) }},
		{"headers of the connection", 0, "closed", func(w *wire) error { return w.open(0, true, fields(s.thief)...) }},
		{"data of the connection", 0, "closed", func(w *wire) error { return w.WriteData(0, true, message) }},
		{"a continuation of nothing", 1, "closed", func(w *wire) error { return w.WriteContinuation(1, true, w.block("x-a", "b")) }},
		{"data among headers", 1, "closed", func(w *wire) error {
			return errors.Join(w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: w.block(fields(s.thief)...)}), w.WriteData(1, true, message))
		}},
		{"a frame of a MiB", 1, "closed", func(w *wire) error { return errors.Join(half(w, s.thief), w.WriteData(1, true, make([]byte, 1<<20))) }},
		{"more data than the window allows", 1, "reset FLOW_CONTROL_ERROR|grpc-status 8|grpc-status 4|closed", func(w *wire) error {
			err := half(w, s.thief)
			for range 64 {
				err = errors.Join(err, w.WriteData(1, false, append([]byte{0, 0, 1, 0, 0}, make([]byte, 16<<10-5)...)))
			}
			return err
		}},
		{"a window that grows by nothing", 0, "closed", func(w *wire) error { return w.WriteWindowUpdate(0, 0) }},
		{"a stream's window that grows by nothing", 1, "reset PROTOCOL_ERROR", func(w *wire) error {
			return errors.Join(half(w, s.thief), w.WriteWindowUpdate(1, 0))
		}},
		{"a promise", 1, "grpc-status 4", func(w *wire) error {
			return errors.Join(half(w, s.thief), w.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: w.block(fields(s.thief)...), EndHeaders: true}))
		}},
		{"settings that can't be", 0, "closed", func(w *wire) error {
			return w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		}},
		{"settings of half a setting", 0, "closed", func(w *wire) error { return w.WriteRawFrame(http2.FrameSettings, 0, 0, []byte{1, 2, 3}) }},
		{"a ping of 9 bytes", 0, "closed", func(w *wire) error { return w.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 9)) }},
		{"a reset of 3 bytes", 1, "closed", func(w *wire) error { return w.WriteRawFrame(http2.FrameRSTStream, 0, 1, make([]byte, 3)) }},
		{"more padding than frame", 1, "closed|reset", func(w *wire) error {
			return errors.Join(half(w, s.thief), w.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{200, 1, 2}))
		}},
		{"another protocol", 0, "closed", func(w *wire) error {
			_, err := io.WriteString(w.conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			return err
		}},
	}
}

// TestFramesAreNoWayAround: whatever is wrong with the frames of a call ends it, or
// its connection, and nothing of it is carried out.
func TestFramesAreNoWayAround(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	s := start(ctx, t, func(c *dev.Config) { c.Connector.Gateway.GRPC.MessageTimeout = 5 * time.Second })
	for i, a := range slices.Concat(s.heads(t), s.order(t)) {
		w := s.tap(ctx, t, false)
		if err := a.say(w); err != nil && !cut(err) {
			t.Fatalf("%s: %v", a.name, err)
		}
		within, done := context.WithTimeout(ctx, 10*time.Second)
		got := w.outcome(within, a.stream)
		done()
		if !slices.ContainsFunc(strings.Split(a.want, "|"), func(want string) bool { return strings.HasPrefix(got, want) }) {
			t.Errorf("%s: %s, want %s", a.name, got, a.want)
		}
		_ = w.conn.Close()
		if i%8 == 0 {
			s.servedByGRPC(ctx, t)
		}
	}
	s.goesOn(ctx, t)
}

// cut tells that the other side has ended the connection meanwhile.
func cut(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrDeadlineExceeded)
}

// servedByGRPC is a good client beside.
func (s *scene) servedByGRPC(ctx context.Context, t *testing.T) {
	t.Helper()
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := axpchatv1.NewChatServiceClient(s.dial(t)).GetSession(bearer(within, s.victim), &axpchatv1.GetSessionRequest{SessionId: s.session})
	if err != nil {
		t.Errorf("a good client beside: %v", err)
	}
}

// flood says something again and again until the connection ends or its time is over.
type flood struct {
	name  string
	end   string // how it must end; empty: it may go on, and nobody is the worse for it
	deaf  bool
	begin func(w *wire) error
	again func(w *wire, n int) error
}

func (s *scene) floods() []flood {
	reset := func(w *wire, n int) error {
		id := uint32(2*n + 1)
		return errors.Join(w.open(id, false, fields(s.thief)...), w.WriteRSTStream(id, http2.ErrCodeCancel))
	}
	settings := func(w *wire, _ int) error {
		return w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16})
	}
	none := func(*wire) error { return nil }
	headers := func(w *wire) error {
		return w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: w.block(fields(s.thief)...)})
	}
	stream := func(w *wire) error { return w.open(1, false, fields(s.thief)...) }
	return []flood{
		{"resets", "", false, none, reset},
		{"resets, and reads nothing", "", true, none, reset},
		{"calls of a stranger", "", false, none, func(w *wire, n int) error { return w.open(uint32(2*n+1), true, fields("none")...) }},
		{"calls that are none", "", false, none, func(w *wire, n int) error { return w.open(uint32(2*n+1), true, fields("none", ":path", "/")...) }},
		{"pings", "closed ENHANCE_YOUR_CALM", false, none, func(w *wire, n int) error { return w.WritePing(false, [8]byte{byte(n)}) }},
		{"settings", "", false, none, settings},
		{"settings, and reads nothing", "", true, none, settings},
		{"continuations", "closed", false, headers, func(w *wire, _ int) error {
			return w.WriteContinuation(1, false, w.block("x-a", strings.Repeat("a", 8<<10)))
		}},
		{"continuations of nothing", "closed", false, headers, func(w *wire, _ int) error { return w.WriteContinuation(1, false, nil) }},
		{"windows", "", false, stream, func(w *wire, _ int) error { return w.WriteWindowUpdate(1, 1<<31-1) }},
		{"windows of the connection", "", true, none, func(w *wire, _ int) error { return w.WriteWindowUpdate(0, 1<<31-1) }},
		{"data of nothing", "", false, stream, func(w *wire, _ int) error { return w.WriteData(1, false, nil) }},
		{"priorities", "", false, none, func(w *wire, n int) error { return w.WritePriority(uint32(2*n+1), http2.PriorityParam{StreamDep: 1}) }},
		{"frames that are none", "", false, none, func(w *wire, _ int) error { return w.WriteRawFrame(0xfe, 0, 1, make([]byte, 100)) }},
	}
}

// TestFloodsOfFramesHoldNobodyUp: each ends by itself or goes on for a second, and a
// good client is served beside it.
func TestFloodsOfFramesHoldNobodyUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	s := start(ctx, t, func(c *dev.Config) {
		g := &c.Connector.Gateway.GRPC
		g.KeepaliveTime, g.KeepaliveTimeout, g.MessageTimeout, g.MaxConcurrentStreams = keepalive, keepalive, keepalive, 100
	})
	for _, f := range s.floods() {
		result := make(chan error, 1)
		w := s.tap(ctx, t, f.deaf)
		go func() { result <- f.run(ctx, w) }()
		s.servedByGRPC(ctx, t)
		s.goesOn(ctx, t)
		if err := <-result; err != nil {
			t.Error(err)
		}
		_ = w.conn.Close()
	}
	s.servedByGRPC(ctx, t)
}

func (f flood) run(ctx context.Context, w *wire) error {
	if err := f.begin(w); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	lasting := time.Second
	if f.end != "" {
		lasting = 2*keepalive + slack
	}
	until := time.Now().Add(lasting)
	if err := w.conn.SetWriteDeadline(until); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	var err error
	n := 0
	for ; err == nil && time.Now().Before(until) && ctx.Err() == nil; n++ {
		err = f.again(w, n)
	}
	if err != nil && !cut(err) {
		return fmt.Errorf("%s, the %d. time: %w", f.name, n, err)
	}
	if f.end == "" {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if got := w.outcome(within, 0); !strings.HasPrefix(got, f.end) {
		return fmt.Errorf("%s, %d times: %s, want %s", f.name, n, got, f.end)
	}
	return nil
}
