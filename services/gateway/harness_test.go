package gateway_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	account = "ABCDEF"
	secret  = "a secret for tests of thirty-two bytes or more"
	subject = "customer-1"
	other   = "customer-2"

	patience = 20 * time.Second
)

// suite is a gateway with a real NATS server behind it. The orchestrator is a
// double: the tests here are about the gateway, and need its answers and its
// failures at will.
type suite struct {
	t            testing.TB
	bus          *bus.Bus
	gw           *gateway.Gateway
	orchestrator *orchestrator
	grpc         *grpc.ClientConn
	base         string // of HTTP
	client       *http.Client
	stop         func()
}

func testConfig(t testing.TB, env map[string]string) gateway.Config {
	t.Helper()
	var cfg gateway.Config
	values := map[string]string{"AUTH_HS256_SECRET": secret, "DRAIN_SPREAD": "200ms", "DRAIN_GRACE": "100ms", "DELIVERY_TAIL_CHECK": "200ms"}
	maps.Copy(values, env)
	src := config.Sources{
		Lookup:   func(k string) (string, bool) { v, ok := values[k]; return v, ok },
		ReadFile: func(string) ([]byte, error) { return nil, nil },
	}
	if err := config.Load(&cfg, src); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func start(t testing.TB, env map[string]string) *suite {
	t.Helper()
	return startOn(t, bustest.Start(t), env)
}

// startOn starts a gateway on a bus that others may use as well.
func startOn(t testing.TB, b *bus.Bus, env map[string]string) *suite {
	t.Helper()
	return startAt(t, b, env, sockets(t), sockets(t))
}

// place is where a gateway listens, and how clients reach it.
type place struct {
	net.Listener
	dial func(ctx context.Context, addr string) (net.Conn, error)
}

// startAt starts a gateway that listens where the test says.
func startAt(t testing.TB, b *bus.Bus, env map[string]string, forGRPC, forHTTP place) *suite {
	t.Helper()
	s := &suite{t: t, bus: b, orchestrator: &orchestrator{bus: b}}
	cfg := testConfig(t, env)
	gw, err := gateway.New(t.Context(), gateway.Params{
		Config: cfg, Log: slog.New(slog.DiscardHandler), Providers: telemetry.Nop(), Bus: b,
		Orchestrator: s.orchestrator.serve(t), GRPCListener: forGRPC.Listener, HTTPListener: forHTTP.Listener,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.gw, s.base = gw, "http://"+gw.HTTPAddr()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- gw.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	s.grpc, err = grpc.NewClient("passthrough:///"+gw.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(forGRPC.dial), grpc.WithStaticStreamWindowSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return forHTTP.dial(ctx, addr) }}
	s.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		_ = s.grpc.Close()
		transport.CloseIdleConnections()
		s.stop()
		transport.CloseIdleConnections()
	})
	return s
}

// smallBuffer keeps the kernel from hiding a slow reader behind megabytes. Below
// the loopback's segments of 64 KiB TCP waits for timers instead of acks.
const smallBuffer = 128 << 10

func smallDial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err == nil {
		err = conn.(*net.TCPConn).SetReadBuffer(smallBuffer)
	}
	return conn, err
}

type smallListener struct{ net.Listener }

func (l smallListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetWriteBuffer(smallBuffer)
	}
	return conn, err
}

func sockets(t testing.TB) place {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return place{smallListener{lis}, smallDial}
}

// token is a customer's token; change alters its claims.
func token(t testing.TB, sub string, change func(jwt.MapClaims)) string {
	t.Helper()
	claims := jwt.MapClaims{
		"sub": sub, "account": account, "name": "Ada", "verified": true, "exp": time.Now().Add(time.Hour).Unix(),
		"identifiers": map[string][]string{"emailAddresses": {sub + "@example.net"}},
	}
	if change != nil {
		change(claims)
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func expired(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() }

func bearer(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// session puts a session with one engagement into the buckets, as the
// orchestrator does.
func (s *suite) session(id string) {
	s.t.Helper()
	ctx := s.t.Context()
	engagement := "e-" + id
	_, err := s.bus.Sessions.Create(ctx, bus.SessionKeyOf(account, id), &busv1.SessionRecord{
		Subject: subject, EngagementIds: []string{engagement},
		Session: &axpchatv1.Session{SessionId: id, Account: account, Status: axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE, CreateTime: timestamppb.Now()},
	})
	if err == nil {
		_, err = s.bus.Engagements.Create(ctx, bus.EngagementKey(account, id, engagement), &busv1.EngagementRecord{
			Account:    account,
			Engagement: &axpchatv1.Engagement{EngagementId: engagement, SessionId: id, Status: axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ACTIVE, CreateTime: timestamppb.Now()},
		})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// say publishes a message of an agent.
func (s *suite) say(session, id, text string) {
	s.t.Helper()
	s.publish(session, &axpchatv1.Event{EventId: id, EngagementId: "e-" + session, Payload: &axpchatv1.Event_MessageArrived{
		MessageArrived: &axpchatv1.Message{MessageId: id, EngagementId: "e-" + session, Body: &axpchatv1.MessageBody{ElementText: &axpchatv1.ElementText{Text: text}}},
	}})
}

func (s *suite) publish(session string, ev *axpchatv1.Event) {
	s.t.Helper()
	ev.SessionId = session
	if _, err := s.bus.PublishEvent(s.t.Context(), &busv1.EventRecord{Account: account, Event: ev}); err != nil {
		s.t.Fatal(err)
	}
}

func closedEvent(session string) *axpchatv1.Event {
	return &axpchatv1.Event{EventId: "closed", Payload: &axpchatv1.Event_SessionChanged{SessionChanged: &axpchatv1.SessionChanged{
		Session: &axpchatv1.Session{SessionId: session, Status: axpchatv1.SessionStatus_SESSION_STATUS_CLOSED},
	}}}
}

// orchestrator is the double.
type orchestrator struct {
	orchestratorv1.UnimplementedOrchestratorServiceServer
	bus *bus.Bus

	mu      sync.Mutex
	callers []*orchestratorv1.Caller
	sent    []string // client message ids, in the order of their calls
	created []*axpchatv1.CreateSessionRequest
}

func (o *orchestrator) serve(t testing.TB) grpc.ClientConnInterface {
	t.Helper()
	lis := bufconn.Listen(1 << 16)
	srv := grpc.NewServer()
	orchestratorv1.RegisterOrchestratorServiceServer(srv, o)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///orchestrator", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		srv.Stop()
		<-done
	})
	return conn
}

func (o *orchestrator) CreateSession(_ context.Context, r *orchestratorv1.CreateSessionRequest) (*orchestratorv1.CreateSessionResponse, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.callers = append(o.callers, r.GetCaller())
	o.created = append(o.created, r.GetRequest())
	return &orchestratorv1.CreateSessionResponse{Response: &axpchatv1.CreateSessionResponse{
		Session: &axpchatv1.Session{SessionId: "new", DisplayName: r.GetRequest().GetDisplayName()},
	}}, nil
}

func (o *orchestrator) GetSession(_ context.Context, r *orchestratorv1.GetSessionRequest) (*orchestratorv1.GetSessionResponse, error) {
	return nil, errs.Newf(axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, "no session for %d", len(r.GetCaller().GetSubject()))
}

// StepUp changes the owner as the real one does, which has tests of its own.
func (o *orchestrator) StepUp(ctx context.Context, r *orchestratorv1.StepUpRequest) (*orchestratorv1.StepUpResponse, error) {
	c := r.GetCaller()
	rec, err := o.bus.Sessions.Modify(ctx, bus.SessionKeyOf(c.GetAccount(), r.GetRequest().GetSessionId()), func(rec *busv1.SessionRecord) error {
		if rec.GetSubject() != c.GetSubject() && (rec.GetSubject() != c.GetAnonymousSubject() || !rec.GetSession().GetAnonymous()) {
			return errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, "")
		}
		rec.Subject, rec.Session.Anonymous = c.GetSubject(), false
		return nil
	})
	if err != nil {
		return nil, errs.From(err)
	}
	return &orchestratorv1.StepUpResponse{Response: &axpchatv1.StepUpResponse{Session: rec.GetSession()}}, nil
}

func (o *orchestrator) SendMessage(_ context.Context, r *orchestratorv1.SendMessageRequest) (*orchestratorv1.SendMessageResponse, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id := r.GetRequest().GetClientMessageId()
	o.sent, o.callers = append(o.sent, id), append(o.callers, r.GetCaller())
	return &orchestratorv1.SendMessageResponse{Response: &axpchatv1.SendMessageResponse{Message: &axpchatv1.Message{
		MessageId: "m-" + id, ClientMessageId: id, SessionId: r.GetRequest().GetSessionId(), Status: axpchatv1.MessageStatus_MESSAGE_STATUS_ACCEPTED,
	}}}, nil
}

func (o *orchestrator) sentIDs() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.sent...)
}

// url is an address of the session.
func (s *suite) url(session, rest string) string {
	return fmt.Sprintf("%s/v1/sessions/%s%s", s.base, session, rest)
}
