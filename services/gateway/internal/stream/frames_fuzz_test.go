package stream_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	ws "github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of gRPC's transport
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/commands"
	"github.com/axpchat/connector/services/gateway/internal/stream"
	"github.com/axpchat/connector/services/gateway/internal/stream/streamtest"
	"github.com/axpchat/connector/services/gateway/internal/websocket"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
)

const (
	account  = "ABCDEF"
	customer = "ada"
	secret   = "a secret for tests of thirty-two bytes or more"
	patience = 20 * time.Second
	// A reply repeats nothing of a frame but its id and the names of some fields.
	maxReply = 16 << 10
	// STREAM_FRAME_BYTES; the transports refuse what is longer.
	maxFrame = 64 << 10
	// What is allocated for two such frames, with all that the test itself does.
	maxMemory = 256 << 20
	theEnd    = "the end"
)

// wire is a way in which frames come.
type wire struct {
	name    string
	session string // that the transport knows by itself
	encode  func(*axpchatv1.ConnectRequest) ([]byte, error)
	decode  func([]byte) (*axpchatv1.ConnectRequest, error)
	// broken is what becomes of a stream with a frame that is none. gRPC ends
	// the call by itself, and with it what was not answered yet.
	broken axpchatv1.CloseCode
}

func wires() []wire {
	codec := encoding.GetCodecV2("proto")
	marshal := func(f *axpchatv1.ConnectRequest) ([]byte, error) { return proto.Marshal(f) }
	webSocket := func(kind ws.MessageType, binary bool) func([]byte) (*axpchatv1.ConnectRequest, error) {
		return func(data []byte) (*axpchatv1.ConnectRequest, error) { return websocket.Decode(kind, binary, data) }
	}
	return []wire{
		{"gRPC", "", marshal, func(data []byte) (*axpchatv1.ConnectRequest, error) {
			f := &axpchatv1.ConnectRequest{}
			return f, codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, f)
		}, axpchatv1.CloseCode_CLOSE_CODE_UNSPECIFIED},
		{"WebSocket with protobuf", streamtest.Session, marshal, webSocket(ws.MessageBinary, true), axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR},
		{"WebSocket with JSON", streamtest.Session, func(f *axpchatv1.ConnectRequest) ([]byte, error) { return protojson.Marshal(f) },
			webSocket(ws.MessageText, false), axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR},
	}
}

// outcome is what a client hears. Answers to commands may come in any order.
type outcome struct {
	Close   axpchatv1.CloseCode
	Ended   bool // by the server
	Cut     bool // nobody knows how much was answered
	Pongs   []string
	Replies []string // ids of commands, sorted
}

// foresee is the protocol in its plain form: what becomes of frames that were
// decoded, or were not.
func foresee(w wire, frames []*axpchatv1.ConnectRequest) outcome {
	var out outcome
	end := func(code axpchatv1.CloseCode) outcome {
		out.Ended, out.Close = true, code
		slices.Sort(out.Replies)
		return out
	}
	for i, f := range frames {
		switch {
		case f == nil && w.broken == axpchatv1.CloseCode_CLOSE_CODE_UNSPECIFIED:
			out.Pongs, out.Replies, out.Cut = nil, nil, true
			return end(w.broken)
		case f == nil:
			return end(w.broken)
		case i == 0 && f.GetHello() == nil:
			return end(axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR)
		case i == 0 && w.session == "" && f.GetHello().GetSessionId() != streamtest.Session:
			return end(axpchatv1.CloseCode_CLOSE_CODE_SESSION_NOT_FOUND)
		case i == 0 && f.GetHello().GetSessionId() != "" && f.GetHello().GetSessionId() != streamtest.Session:
			return end(axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR)
		case i == 0:
		case utf8.RuneCountInString(f.GetFrameId()) > 128, f.GetHello() != nil:
			return end(axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR)
		case f.GetPing() != nil:
			out.Pongs = append(out.Pongs, f.GetFrameId())
		default:
			out.Replies = append(out.Replies, f.GetFrameId())
		}
	}
	slices.Sort(out.Replies)
	return out
}

// client says what it has to say, then listens until it has heard what it waits
// for.
type client struct {
	say   func([]byte) (*axpchatv1.ConnectRequest, error)
	said  [][]byte
	want  outcome
	leave context.CancelFunc

	mu    sync.Mutex
	heard []*axpchatv1.ConnectResponse
	got   outcome
}

func (c *client) Receive(context.Context) (*axpchatv1.ConnectRequest, error) {
	if len(c.said) == 0 {
		return nil, io.EOF
	}
	data := c.said[0]
	c.said = c.said[1:]
	return c.say(data)
}

func (c *client) Send(_ context.Context, f *axpchatv1.ConnectResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, f)
	switch p := f.GetPayload().(type) {
	case *axpchatv1.ConnectResponse_Pong:
		c.got.Pongs = append(c.got.Pongs, p.Pong.GetFrameId())
	case *axpchatv1.ConnectResponse_Reply:
		c.got.Replies = append(c.got.Replies, p.Reply.GetFrameId())
	case *axpchatv1.ConnectResponse_Close:
		c.got.Close = p.Close.GetCode()
	}
	if !c.want.Ended && len(c.got.Pongs) == len(c.want.Pongs) && len(c.got.Replies) == len(c.want.Replies) {
		c.leave()
	}
	return nil
}

// bench serves streams without NATS and without sockets.
type bench struct {
	server       *stream.Server
	orchestrator *orchestrator
	principal    auth.Principal
}

func newBench(f *testing.F) *bench {
	f.Helper()
	validator, err := grpcx.NewValidator()
	if err != nil {
		f.Fatal(err)
	}
	verifier, err := auth.NewVerifier(f.Context(), auth.Config{HS256Secret: secret}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	var cfg stream.Config
	if err := config.Load(&cfg, config.Map(nil)); err != nil {
		f.Fatal(err)
	}
	b := &bench{
		orchestrator: &orchestrator{validator: validator},
		principal:    auth.Principal{Account: account, Subject: customer, ExpireTime: time.Now().Add(24 * time.Hour)},
	}
	b.server, err = stream.NewServer(stream.Params{
		Config: cfg, Log: slog.New(slog.DiscardHandler), Meter: noop.NewMeterProvider(), Verifier: verifier,
		Executor: commands.New(orchestratorv1.NewOrchestratorServiceClient(b.orchestrator), validator, patience),
	})
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// converse says frames and returns all that is heard.
func (b *bench) converse(ctx context.Context, w wire, said [][]byte, want outcome) ([]*axpchatv1.ConnectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := &client{say: w.decode, said: said, want: want, leave: cancel}
	principal := b.principal
	end := b.server.AcceptAlone(ctx, streamtest.Session, &stream.Request{Transport: "test", Principal: &principal, Session: w.session}, c, c)
	c.got.Ended = ctx.Err() == nil
	if c.got.Cut = want.Cut; want.Cut {
		c.got.Pongs, c.got.Replies = nil, nil
	}
	slices.Sort(c.got.Replies)
	if diff := cmp.Diff(want, c.got); diff != "" {
		return c.heard, fmt.Errorf("not what the protocol says (-want +got):\n%s", diff)
	}
	if code := end.Close.GetCode(); c.got.Ended && code != want.Close {
		return c.heard, fmt.Errorf("ended with %v, and said %v", code, want.Close)
	}
	return c.heard, b.orchestrator.fault()
}

// FuzzFrames holds what comes of two frames, on each transport's encoding, against
// the protocol: every command has one answer of its own, every mistake is the
// client's, named, by a field that there is; nothing reaches the orchestrator that
// breaks a rule or is of another session; nothing takes or answers more than it is
// worth; and the same frames in another encoding do the same. Decoding and all behind
// it are the gateway's, the transports themselves are FuzzConnectFrames's.
func FuzzFrames(f *testing.F) {
	fresh := func(sub, account string) string {
		t, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": sub, "account": account, "exp": 9999999999}).SignedString([]byte(secret))
		if err != nil {
			f.Fatal(err)
		}
		return t
	}
	frames := append(streamtest.Frames(), streamtest.Refresh("8", fresh(customer, account)),
		streamtest.Refresh("8", fresh("eve", account)), streamtest.Refresh("8", fresh(customer, "GHIJKL")))
	all := wires()
	for i, frame := range frames {
		for n, w := range all {
			first, err := w.encode(frame)
			if err != nil {
				continue
			}
			next, err := w.encode(frames[(i+1)%len(frames)])
			if err == nil {
				f.Add(first, next, byte(n), i > 4)
			}
		}
	}
	for _, seed := range streamtest.Seeds(f) {
		by := byte(1)
		if seed.JSON {
			by = 2
		}
		f.Add(seed.Data, seed.Data, by, true)
		f.Add(seed.Data, seed.Data, by, false)
	}
	b := newBench(f)
	f.Fuzz(func(t *testing.T, first, second []byte, by byte, greeted bool) {
		if len(first) > maxFrame || len(second) > maxFrame {
			return
		}
		before := allocated()
		defer func() {
			if used := allocated() - before; used > maxMemory {
				t.Errorf("%d and %d bytes took %d MiB", len(first), len(second), used>>20)
			}
		}()
		w := all[int(by)%len(all)]
		said := [][]byte{first, second, encoded(t, w, streamtest.Ping(theEnd))}
		if greeted {
			said = slices.Insert(said, 0, encoded(t, w, streamtest.Hello(streamtest.Session, "")))
		}
		frames, whole := decoded(w, said)
		heard, err := b.converse(t.Context(), w, said, foresee(w, frames))
		if err == nil {
			err = judge(frames, heard)
		}
		if err != nil {
			t.Fatalf("%s, %q, %q: %v", w.name, first, second, err)
		}
		if hello := frames[0].GetHello(); !whole || hello != nil && hello.GetSessionId() != streamtest.Session {
			return // the WebSocket knows the session from its address
		}
		other := all[(int(by)+1)%len(all)]
		again := make([][]byte, len(frames))
		for i, frame := range frames {
			again[i] = encoded(t, other, frame)
		}
		heardToo, err := b.converse(t.Context(), other, again, foresee(other, frames))
		if err != nil {
			t.Fatalf("%s, %q, %q: by %s: %v", w.name, first, second, other.name, err)
		}
		// A large frame is told its first mistake alone, and what is not known makes it
		// large in protobuf.
		small := len(first) < 4<<10 && len(second) < 4<<10
		if diff := cmp.Diff(told(heard), told(heardToo)); diff != "" && small {
			t.Fatalf("%q, %q: %s and %s differ:\n%s", first, second, w.name, other.name, diff)
		}
	})
}

// allocated is how much memory was ever asked for.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func encoded(t *testing.T, w wire, f *axpchatv1.ConnectRequest) []byte {
	t.Helper()
	data, err := w.encode(f)
	if err != nil {
		t.Fatalf("what was decoded can't be encoded: %v", err)
	}
	return data
}

// decoded are the frames, nil for what is none.
func decoded(w wire, said [][]byte) (frames []*axpchatv1.ConnectRequest, whole bool) {
	whole = true
	for _, data := range said {
		f, err := w.decode(data)
		if err != nil {
			f, whole = nil, false
		}
		frames = append(frames, f)
	}
	return frames, whole
}

// judge looks at each frame that was heard.
func judge(frames []*axpchatv1.ConnectRequest, heard []*axpchatv1.ConnectResponse) error {
	payloads := map[string][]protoreflect.MessageDescriptor{} // by the ids of their frames
	for _, f := range frames {
		m := f.ProtoReflect()
		if field := m.WhichOneof(m.Descriptor().Oneofs().ByName("payload")); f != nil && field != nil {
			payloads[f.GetFrameId()] = append(payloads[f.GetFrameId()], field.Message())
		}
	}
	for _, f := range heard {
		text, err := protojson.Marshal(f)
		if err != nil {
			return fmt.Errorf("%v can't be sent as JSON: %w", f, err)
		}
		if data, err := proto.Marshal(f); err != nil || len(data) > maxReply || len(text) > maxReply {
			return fmt.Errorf("an answer of %d bytes, %d as JSON: %w", len(data), len(text), err)
		}
		reply := f.GetReply()
		if reply == nil {
			continue
		}
		problem := reply.GetProblem()
		switch {
		case reply.GetResult() == nil:
			return fmt.Errorf("%v says nothing", reply)
		case problem == nil:
			continue
		case !slices.Contains([]axpchatv1.ErrorReason{
			axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID, axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED,
		}, problem.GetReason()):
			return fmt.Errorf("%v is not the client's fault", problem)
		case problem.GetReason() == axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT && len(problem.GetViolations()) == 0:
			return fmt.Errorf("%v does not say what is wrong", problem)
		}
		for _, v := range problem.GetViolations() {
			if !slices.ContainsFunc(payloads[reply.GetFrameId()], func(d protoreflect.MessageDescriptor) bool { return names(d, v.GetField()) }) {
				return fmt.Errorf("%v names a field that is not there", v)
			}
		}
	}
	return nil
}

// names tells whether a path, such as items[0].customData["k"], is one of the
// message. A long one is cut, and marked so.
func names(d protoreflect.MessageDescriptor, path string) bool {
	if path == "" {
		return true // a rule of the message as a whole
	}
	name, rest := path, ""
	if i := strings.IndexAny(path, ".["); i >= 0 {
		name, rest = path[:i], path[i:]
	}
	f := d.Fields().ByJSONName(name)
	if f == nil {
		return false
	}
	if cut, ok := strings.CutPrefix(rest, "["); ok {
		if strings.HasSuffix(cut, "…") {
			return true
		}
		if quoted, err := strconv.QuotedPrefix(cut); err == nil {
			cut = cut[len(quoted):]
		}
		_, after, ok := strings.Cut(cut, "]")
		if !ok || !f.IsMap() && !f.IsList() {
			return false
		}
		rest = after
		if f.IsMap() {
			f = f.MapValue()
		}
	}
	if rest = strings.TrimPrefix(rest, "."); rest == "" {
		return true
	}
	return f.Message() != nil && names(f.Message(), rest)
}

// told is what was heard, less what differs each time.
func told(heard []*axpchatv1.ConnectResponse) []string {
	var out []string
	for _, f := range heard {
		line := f.String()
		switch p := f.GetPayload().(type) {
		case *axpchatv1.ConnectResponse_Welcome:
			continue
		case *axpchatv1.ConnectResponse_Pong:
			line = "pong " + p.Pong.GetFrameId()
		case *axpchatv1.ConnectResponse_Close:
			line = p.Close.GetCode().String()
		case *axpchatv1.ConnectResponse_Reply:
			var fields []string
			for _, v := range p.Reply.GetProblem().GetViolations() {
				fields = append(fields, v.GetField()+" "+v.GetMessage())
			}
			slices.Sort(fields)
			if len(fields) == 20 { // some of many
				fields = nil
			}
			line = fmt.Sprintf("reply %s %T %v %q", p.Reply.GetFrameId(), p.Reply.GetResult(), p.Reply.GetProblem().GetReason(), fields)
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}
