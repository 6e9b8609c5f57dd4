package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSubscription hands on what a test gives it. The real one needs NATS, whose
// sockets a bubble of synctest can't hold; it is tested with delivery and with
// the gateway.
type fakeSubscription struct {
	wake     chan struct{}
	caughtUp chan struct{}

	mu     sync.Mutex
	events []*axpchatv1.Event
	code   axpchatv1.CloseCode
	ended  bool
	cursor string
	closed bool
}

func newSubscription() *fakeSubscription {
	return &fakeSubscription{wake: make(chan struct{}, 1), caughtUp: make(chan struct{}), cursor: "start"}
}

func (s *fakeSubscription) Wake() <-chan struct{}     { return s.wake }
func (s *fakeSubscription) CaughtUp() <-chan struct{} { return s.caughtUp }

func (s *fakeSubscription) Take() (*axpchatv1.Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 {
		return nil, false
	}
	ev := s.events[0]
	s.events, s.cursor = s.events[1:], ev.GetCursor()
	return ev, true
}

func (s *fakeSubscription) Cursor() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor
}

func (s *fakeSubscription) End() (axpchatv1.CloseCode, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code, s.ended
}

func (s *fakeSubscription) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

func (s *fakeSubscription) add(ids ...string) {
	s.mu.Lock()
	for _, id := range ids {
		s.events = append(s.events, &axpchatv1.Event{EventId: id, Cursor: "after-" + id})
	}
	s.mu.Unlock()
	s.signal()
}

func (s *fakeSubscription) finish(code axpchatv1.CloseCode) {
	s.mu.Lock()
	s.code, s.ended = code, true
	s.mu.Unlock()
	s.signal()
}

func (s *fakeSubscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// fakeClient is the other side of the transport.
type fakeClient struct {
	mu     sync.Mutex
	frames []*axpchatv1.ConnectResponse
	err    error
	in     chan received
}

func newClient() *fakeClient { return &fakeClient{in: make(chan received)} }

func (c *fakeClient) Send(_ context.Context, f *axpchatv1.ConnectResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.frames = append(c.frames, f)
	return nil
}

// kinds are the frames so far, in short.
func (c *fakeClient) kinds() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, f := range c.frames {
		switch p := f.GetPayload().(type) {
		case *axpchatv1.ConnectResponse_Welcome:
			out = append(out, "welcome")
		case *axpchatv1.ConnectResponse_Event:
			out = append(out, p.Event.GetEventId())
		case *axpchatv1.ConnectResponse_Pong:
			out = append(out, "pong"+p.Pong.GetFrameId())
		case *axpchatv1.ConnectResponse_Reply:
			out = append(out, "reply:"+p.Reply.GetFrameId())
		case *axpchatv1.ConnectResponse_GoAway:
			out = append(out, "goaway:"+p.GoAway.GetCursor())
		case *axpchatv1.ConnectResponse_Close:
			out = append(out, "close:"+p.Close.GetCursor())
		case *axpchatv1.ConnectResponse_TokenExpiryReminder:
			out = append(out, "reminder")
		default:
			out = append(out, fmt.Sprintf("%T", p))
		}
	}
	c.frames = nil
	return strings.Join(out, " ")
}

// verifier knows one token.
type verifier struct{ p *auth.Principal }

func (v verifier) Verify(_ context.Context, token string) (*auth.Principal, error) {
	if token != "fresh" {
		return nil, errors.New("unknown token")
	}
	return v.p, nil
}

// executor answers a command when the test lets it.
type executor struct {
	release chan struct{}
	mu      sync.Mutex
	begun   []string
	order   []string
}

func (e *executor) StepUp(context.Context, *axpchatv1.StepUpRequest) (*axpchatv1.StepUpResponse, error) {
	return nil, errors.New("nobody is anonymous here")
}

func (e *executor) Execute(ctx context.Context, _ string, f *axpchatv1.ConnectRequest) *axpchatv1.Reply {
	e.mu.Lock()
	e.begun = append(e.begun, f.GetFrameId())
	e.mu.Unlock()
	select {
	case <-e.release:
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.order = append(e.order, f.GetFrameId())
	return &axpchatv1.Reply{FrameId: f.GetFrameId()}
}

type rig struct {
	t        *testing.T
	server   *Server
	sub      *fakeSubscription
	client   *fakeClient
	executor *executor
	ended    chan End
	cancel   context.CancelFunc
}

// serve starts a stream inside the test's bubble.
func serve(t *testing.T, twoWay bool, expires time.Duration) *rig {
	t.Helper()
	p := &auth.Principal{Account: "ABCDEF", Subject: "ada", ExpireTime: time.Now().Add(expires)}
	fresh := *p
	fresh.ExpireTime = time.Now().Add(3 * time.Hour)
	r := &rig{t: t, sub: newSubscription(), client: newClient(), executor: &executor{release: make(chan struct{})}, ended: make(chan End, 1)}
	var err error
	r.server, err = NewServer(Params{
		Config: Config{
			Heartbeat: 20 * time.Second, StateCheck: 1000 * time.Hour, ClientIdle: 75 * time.Second, HelloTimeout: 10 * time.Second, WriteTimeout: time.Second,
			ExpiryReminder: time.Minute, InFlight: 4, DrainSpread: 10 * time.Second, DrainGrace: 3 * time.Second, FrameBytes: 1 << 16,
		},
		Log: slog.New(slog.DiscardHandler), Meter: noop.NewMeterProvider(), Executor: r.executor, Verifier: verifier{&fresh},
	})
	if err != nil {
		t.Fatal(err)
	}
	st := r.server.newStream(Request{Transport: "test", Principal: p, Session: "s1", Heartbeat: 20 * time.Second, Heard: &Heard{}},
		r.sub, &axpchatv1.Welcome{Session: &axpchatv1.Session{SessionId: "s1"}}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	var in *frames
	if twoWay {
		in = &frames{next: r.client.in, stop: make(chan struct{})}
	}
	go func() { r.ended <- st.serve(ctx, r.client, in) }()
	t.Cleanup(cancel)
	synctest.Wait()
	r.expect("welcome")
	return r
}

func (r *rig) expect(kinds string) {
	r.t.Helper()
	synctest.Wait()
	if got := r.client.kinds(); got != kinds {
		r.t.Fatalf("frames %q, want %q", got, kinds)
	}
}

func (r *rig) expectEnd(code axpchatv1.CloseCode) {
	r.t.Helper()
	end := <-r.ended
	if end.Close.GetCode() != code || !r.sub.closed {
		r.t.Fatalf("ended with %v (subscription closed: %v), want %v", end.Close, r.sub.closed, code)
	}
}

func (r *rig) say(f *axpchatv1.ConnectRequest) { r.client.in <- received{frame: f} }

func send(id string) *axpchatv1.ConnectRequest {
	return &axpchatv1.ConnectRequest{FrameId: id, Payload: &axpchatv1.ConnectRequest_SendMessage{}}
}

func TestHeartbeatsAndTokenExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, false, 90*time.Second)
		r.sub.add("a")
		r.expect("a")
		time.Sleep(29 * time.Second) //nolint:forbidigo // the bubble's clock
		r.expect("pong")
		time.Sleep(2 * time.Second) //nolint:forbidigo // the bubble's clock
		r.expect("reminder")
		time.Sleep(60 * time.Second) //nolint:forbidigo // the bubble's clock
		r.expect("pong pong pong close:after-a")
		r.expectEnd(axpchatv1.CloseCode_CLOSE_CODE_TOKEN_EXPIRED)
	})
}

func TestRefreshedTokenKeepsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, 90*time.Second+time.Second)
		refresh := func(id, token string) {
			r.say(&axpchatv1.ConnectRequest{FrameId: id, Payload: &axpchatv1.ConnectRequest_RefreshToken{RefreshToken: &axpchatv1.RefreshToken{Token: token}}})
		}
		time.Sleep(29 * time.Second) //nolint:forbidigo // the bubble's clock
		r.expect("pong")
		time.Sleep(3 * time.Second) //nolint:forbidigo // the bubble's clock
		r.expect("reminder")
		refresh("1", "rubbish")
		refresh("2", "fresh")
		synctest.Wait()
		got := r.client.kinds()
		if got != "reply:1 reply:2" && got != "reply:2 reply:1" {
			t.Fatalf("frames %q", got)
		}
		time.Sleep(70 * time.Second) //nolint:forbidigo // the bubble's clock
		r.expect("pong pong pong pong")
	})
}

// TestNothingIsDoneOnAnExpiredToken: frames and events that are there at the same
// moment as the clock do not come before it.
func TestNothingIsDoneOnAnExpiredToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		st := r.server.newStream(Request{Principal: &auth.Principal{ExpireTime: time.Now()}, Session: "s2", Heard: &Heard{}}, r.sub, &axpchatv1.Welcome{}, nil)
		st.out = r.client
		st.timers.timer = time.NewTimer(time.Hour)
		defer st.timers.stop()
		for name, f := range map[string]func() (End, bool){
			"a command": func() (End, bool) { return st.handle(t.Context(), received{frame: send("late")}) },
			"a ping": func() (End, bool) {
				return st.handle(t.Context(), received{frame: &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Ping{Ping: &axpchatv1.Ping{}}}})
			},
			"events": func() (End, bool) { return st.turn(t.Context(), mayPump) },
		} {
			if end, over := f(); !over || end.Close.GetCode() != axpchatv1.CloseCode_CLOSE_CODE_TOKEN_EXPIRED {
				t.Errorf("%s: over %v, %v", name, over, end.Close)
			}
		}
		if st.inFlight != 0 {
			t.Error("a command was begun")
		}
		r.expect("")
		// A fresh token may come that late, and the stream goes on.
		fresh := &axpchatv1.ConnectRequest{FrameId: "1", Payload: &axpchatv1.ConnectRequest_RefreshToken{RefreshToken: &axpchatv1.RefreshToken{Token: "fresh"}}}
		if _, over := st.handle(t.Context(), received{frame: fresh}); over {
			t.Fatal("a fresh token was refused")
		}
		if _, over := st.turn(t.Context(), mayPump); over {
			t.Error("the stream did not wait for the answer")
		}
		if end, over := st.answer(t.Context(), <-st.results); !over || end.Close.GetCode() != axpchatv1.CloseCode_CLOSE_CODE_TOKEN_EXPIRED {
			t.Error("the token of another customer kept the stream")
		}
	})
}

func TestIdleClientIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		time.Sleep(70 * time.Second) //nolint:forbidigo // the bubble's clock
		r.say(&axpchatv1.ConnectRequest{FrameId: "1", Payload: &axpchatv1.ConnectRequest_Ping{Ping: &axpchatv1.Ping{}}})
		r.expect("pong pong pong pong1")
		time.Sleep(74 * time.Second) //nolint:forbidigo // the bubble's clock
		r.expect("pong pong pong pong")
		time.Sleep(2 * time.Second) //nolint:forbidigo // the bubble's clock
		r.expect("close:start")
		r.expectEnd(axpchatv1.CloseCode_CLOSE_CODE_IDLE)
	})
}

func TestDrainTellsThenCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, false, time.Hour)
		drained := make(chan error, 1)
		go func() { drained <- r.server.Drain(t.Context()) }()
		r.expect("goaway:start")
		r.sub.add("still served")
		r.expect("still served")
		time.Sleep(14 * time.Second) //nolint:forbidigo // the bubble's clock
		r.expect("close:after-still served")
		r.expectEnd(axpchatv1.CloseCode_CLOSE_CODE_SERVER_SHUTDOWN)
		if err := <-drained; err != nil {
			t.Fatal(err)
		}
	})
}

func TestMessagesKeepTheirOrderAndTheirNumberIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		for i := range 4 {
			r.say(send(fmt.Sprint(i)))
		}
		synctest.Wait()
		select {
		case r.client.in <- received{frame: send("4")}:
			t.Fatal("a fifth command was read while four are under way")
		default:
		}
		for i := range 4 {
			r.executor.release <- struct{}{}
			r.expect(fmt.Sprint("reply:", i))
		}
		r.say(send("4"))
		close(r.executor.release)
		r.expect("reply:4")
		if got := strings.Join(r.executor.order, ""); got != "01234" {
			t.Fatalf("order %s", got)
		}
	})
}

// TestTheEndDoesNotOvertakeMessages: who says good-bye and ends the chat in one go
// has said it before the end.
func TestTheEndDoesNotOvertakeMessages(t *testing.T) {
	for name, last := range map[string]*axpchatv1.ConnectRequest{
		"of the chat":    {FrameId: "2", Payload: &axpchatv1.ConnectRequest_EndEngagement{EndEngagement: &axpchatv1.EndEngagementRequest{}}},
		"of the session": {FrameId: "2", Payload: &axpchatv1.ConnectRequest_DeleteSession{DeleteSession: &axpchatv1.DeleteSessionRequest{}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := serve(t, true, time.Hour)
				r.say(send("1"))
				r.say(last)
				r.say(&axpchatv1.ConnectRequest{FrameId: "3", Payload: &axpchatv1.ConnectRequest_KeepAlive{KeepAlive: &axpchatv1.KeepAliveRequest{}}})
				synctest.Wait()
				if begun := slices.Sorted(slices.Values(r.executor.begun)); !slices.Equal(begun, []string{"1", "3"}) {
					t.Errorf("begun are %v, want the message and what has nothing to do with it", begun)
				}
				close(r.executor.release)
				synctest.Wait()
				if begun := r.executor.begun; len(begun) != 3 || begun[2] != "2" {
					t.Errorf("begun are %v, want the end last", begun)
				}
				r.cancel()
				<-r.ended
			})
		})
	}
}

func TestAnswersUnderWayComeBeforeTheClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		r.say(send("1"))
		synctest.Wait()
		r.sub.finish(axpchatv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER)
		synctest.Wait()
		close(r.executor.release)
		r.expect("reply:1 close:start")
		r.expectEnd(axpchatv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER)
	})
}

func TestClientThatTakesNothingGetsNoCloseFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, false, time.Hour)
		r.client.mu.Lock()
		r.client.err = ErrStalled
		r.client.mu.Unlock()
		r.sub.add("a")
		r.expectEnd(axpchatv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER)
		r.expect("")
	})
}

func TestClientThatLeavesEndsTheStreamWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		r.say(send("1"))
		r.client.in <- received{err: errors.New("connection reset")}
		end := <-r.ended
		if end.Err() != nil || !end.Gone() {
			t.Fatalf("end %+v", end)
		}
		r.expect("")
	})
}

func TestHalfClosedClientStillListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, true, time.Hour)
		r.client.in <- received{err: io.EOF}
		r.sub.add("a")
		r.expect("a")
	})
}

// TestCloseTable: every code of the protocol says by itself whether to come back,
// and says the same on each transport.
func TestCloseTable(t *testing.T) {
	seen := map[int]axpchatv1.CloseCode{}
	for n := range axpchatv1.CloseCode_name {
		code := axpchatv1.CloseCode(n)
		c, ok := closings()[code]
		if !ok || c.text == "" {
			t.Errorf("%v is missing", code)
		}
		if other, twice := seen[c.webSocket]; twice {
			t.Errorf("%v and %v share the WebSocket code %d", code, other, c.webSocket)
		}
		seen[c.webSocket] = code
		terminal := c.webSocket >= 4500
		if terminal == c.reconnect {
			t.Errorf("%v: WebSocket code %d, reconnect %v", code, c.webSocket, c.reconnect)
		}
	}
	var doc strings.Builder
	if err := WriteCloses(&doc); err != nil || strings.Count(doc.String(), "\n| `CLOSE_CODE_") != len(seen) {
		t.Errorf("%v\n%s", err, doc.String())
	}
}

func TestReminderOfATokenThatLivesShort(t *testing.T) {
	for _, c := range []struct{ left, want time.Duration }{
		{15 * time.Minute, 14 * time.Minute}, {2 * time.Minute, time.Minute}, {90 * time.Second, 30 * time.Second},
		{70 * time.Second, 35 * time.Second}, {time.Minute, 30 * time.Second}, {20 * time.Second, 10 * time.Second},
	} {
		if got := reminderIn(c.left, time.Minute); got != c.want {
			t.Errorf("a token of %s is reminded of after %s, want %s", c.left, got, c.want)
		}
	}
}
