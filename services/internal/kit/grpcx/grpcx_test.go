package grpcx_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what never takes this long.
const patience = 20 * time.Second

// chat is a service whose methods are functions.
type chat struct {
	axpchatv1.UnimplementedChatServiceServer
	send    func(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error)
	watch   func(*axpchatv1.WatchEventsRequest, grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error
	connect func(grpc.BidiStreamingServer[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse]) error
}

func (c *chat) SendMessage(ctx context.Context, r *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
	return c.send(ctx, r)
}

func (c *chat) WatchEvents(r *axpchatv1.WatchEventsRequest, s grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
	return c.watch(r, s)
}

func (c *chat) Connect(s grpc.BidiStreamingServer[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse]) error {
	return c.connect(s)
}

// message is one that breaks no rule.
func message() *axpchatv1.SendMessageRequest {
	return &axpchatv1.SendMessageRequest{SessionId: "s", EngagementId: "e", ClientMessageId: "m", Text: "hi"}
}

// fixture is a server that runs, and a client of it.
type fixture struct {
	server    *grpcx.Server
	component lifecycle.Component
	log       *logtest.Records
	conn      *grpc.ClientConn
	client    axpchatv1.ChatServiceClient
	// stop ends the server as lifecycle.Run does after the drain.
	stop func()
}

func start(t testing.TB, service *chat, change func(*grpcx.ServerParams)) *fixture {
	t.Helper()
	var lis *bufconn.Listener
	return startAt(t, service, &lis, change)
}

// startAt is start for who needs the listener, too.
func startAt(t testing.TB, service *chat, at **bufconn.Listener, change func(*grpcx.ServerParams)) *fixture {
	t.Helper()
	f := &fixture{log: &logtest.Records{}}
	params := grpcx.ServerParams{Log: f.log.Logger(), Health: true, Reflection: true}
	if change != nil {
		change(&params)
	}
	var err error
	if f.server, err = grpcx.NewServer(params); err != nil {
		t.Fatal(err)
	}
	axpchatv1.RegisterChatServiceServer(f.server, service)
	lis := bufconn.Listen(1 << 20)
	*at = lis
	f.component = grpcx.NewServerComponent("test", lis, f.server)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- f.component.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(f.stop)
	f.conn = dial(t, lis, params.Providers)
	f.client = axpchatv1.NewChatServiceClient(f.conn)
	return f
}

func dial(t testing.TB, lis *bufconn.Listener, p *telemetry.Providers) *grpc.ClientConn {
	t.Helper()
	conn, err := grpcx.Dial("passthrough:///test", grpcx.ClientConfig{}, logx.Discard(), p,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close the client: %v", err)
		}
	})
	return conn
}

func patient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// serveTCP runs a server on a port of its own until the test ends.
func serveTCP(t testing.TB, cfg grpcx.ServerConfig, service *chat, links ...grpcx.Interceptor) (string, *logtest.Records) {
	t.Helper()
	log := &logtest.Records{}
	s, err := grpcx.NewServer(grpcx.ServerParams{Log: log.Logger(), Config: cfg, Interceptors: links, Health: true})
	if err != nil {
		t.Fatal(err)
	}
	axpchatv1.RegisterChatServiceServer(s, service)
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- grpcx.NewServerComponent("tcp", lis, s).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return lis.Addr().String(), log
}
