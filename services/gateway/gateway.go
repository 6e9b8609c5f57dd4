package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/commands"
	"github.com/axpchat/connector/services/gateway/internal/delivery"
	"github.com/axpchat/connector/services/gateway/internal/grpcstream"
	"github.com/axpchat/connector/services/gateway/internal/history"
	"github.com/axpchat/connector/services/gateway/internal/limits"
	"github.com/axpchat/connector/services/gateway/internal/longpoll"
	"github.com/axpchat/connector/services/gateway/internal/presence"
	"github.com/axpchat/connector/services/gateway/internal/rest"
	"github.com/axpchat/connector/services/gateway/internal/sessions"
	"github.com/axpchat/connector/services/gateway/internal/stream"
	"github.com/axpchat/connector/services/gateway/internal/tenants"
	"github.com/axpchat/connector/services/gateway/internal/tickets"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/proxied"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

// instrumentation names the meter of the gateway's own metrics.
const instrumentation = "github.com/axpchat/connector/services/gateway"

// innerBuffer is what the in-process connection holds of one direction.
const innerBuffer = 256 << 10

// Params is what New needs.
type Params struct {
	Config    Config
	Log       *slog.Logger
	Providers *telemetry.Providers
	// Bus is connected and provisioned. It stays the caller's.
	Bus *bus.Bus
	// Orchestrator is a connection to the orchestrator, which stays the caller's;
	// nil: the gateway dials ORCHESTRATOR_ADDR.
	Orchestrator grpc.ClientConnInterface
	// GRPCListener and HTTPListener are used instead of the configured addresses
	// where they are set. They are the gateway's from then on.
	GRPCListener, HTTPListener net.Listener
}

// Gateway is the service as a component.
type Gateway struct {
	log     *slog.Logger
	bus     *bus.Bus
	engine  *delivery.Engine
	streams *stream.Server
	poller  *longpoll.Poller
	tenants *tenants.Book
	limits  *limits.Limiter
	unsent  int
	closers lifecycle.Closers

	grpcAddr string
	public   lifecycle.Component // gRPC for apps
	inner    lifecycle.Component // gRPC for REST
	http     *httpx.Server
}

var _ lifecycle.Component = (*Gateway)(nil)

// New builds the gateway and binds its listeners. Whoever does not run it calls
// Close.
func New(ctx context.Context, p Params) (g *Gateway, err error) {
	g = &Gateway{log: p.Log, bus: p.Bus, tenants: tenants.NewBook(p.Config.Tenants), unsent: int(p.Config.Delivery.UnsentBytes)}
	defer g.closers.CloseOnError(&err)

	// The key set is fetched for as long as the gateway lives.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	g.closers.Add("auth", func() error { end(); return nil })
	verifier, err := auth.NewVerifier(life, p.Config.Auth, p.Log)
	if err != nil {
		return nil, err
	}
	verifier.Only(g.tenants.Admit)
	g.limits, err = limits.New(limits.Params{Config: p.Config.Limits, Log: p.Log, Meter: p.Providers.Meter, Account: g.tenants.Limits, Wire: p.Bus})
	if err != nil {
		return nil, err
	}
	if g.engine, err = delivery.New(delivery.Params{Config: p.Config.Delivery, Bus: p.Bus, Log: p.Log, Meter: p.Providers.Meter}); err != nil {
		return nil, err
	}
	g.closers.Add("delivery", g.engine.Close)
	validator, err := grpcx.NewValidator()
	if err != nil {
		return nil, err
	}
	orchestrator, err := g.orchestrator(p)
	if err != nil {
		return nil, err
	}
	run := commands.New(orchestratorv1.NewOrchestratorServiceClient(orchestrator), validator, p.Config.RequestTimeout)
	reader, desk := sessions.NewReader(p.Bus), tickets.NewDesk(p.Config.Tickets, p.Bus)
	clients := presence.New()
	stop, err := p.Bus.AnswerPresence(clients.Here)
	if err != nil {
		return nil, err
	}
	g.closers.Add("presence", func() error { stop(); return nil })
	g.poller = longpoll.New(g.engine, reader, clients)
	g.streams, err = stream.NewServer(stream.Params{
		Config: p.Config.Streams, Log: p.Log, Meter: p.Providers.Meter, Engine: g.engine, Sessions: reader,
		Executor: run, Verifier: verifier, Presence: clients, Limits: g.limits, Version: lifecycle.Version(), Retention: p.Bus.Config().Retention,
	})
	if err != nil {
		return nil, err
	}
	service := grpcstream.New(grpcstream.Params{
		Commands: run, Sessions: reader, Tickets: desk, Poller: g.poller, Streams: g.streams,
		History: history.NewLister(g.engine, reader), Limits: g.limits,
	})
	conn, err := g.serveGRPC(ctx, p, service, verifier, validator)
	if err != nil {
		return nil, err
	}
	handler, err := handler(life, handlerParams{Params: p, Conn: conn, Streams: g.streams, Verifier: verifier, Tickets: desk, Tenants: g.tenants, Limits: g.limits})
	if err != nil {
		return nil, err
	}
	return g, g.serveHTTP(ctx, p, handler)
}

func (g *Gateway) orchestrator(p Params) (grpc.ClientConnInterface, error) {
	if p.Orchestrator != nil {
		return p.Orchestrator, nil
	}
	conn, err := grpcx.Dial(p.Config.OrchestratorAddr, p.Config.Client, p.Log, p.Providers)
	if err != nil {
		return nil, err
	}
	g.closers.Add("orchestrator", conn.Close)
	return conn, nil
}

// serveGRPC makes two servers of one service: the public one, and one for REST
// inside the process, which differs in nothing but that it needs no TLS. It
// returns a connection to the latter.
func (g *Gateway) serveGRPC(ctx context.Context, p Params, service *grpcstream.Service, v *auth.Verifier, validator *grpcx.Validator) (*grpc.ClientConn, error) {
	params := grpcx.ServerParams{
		Log: p.Log, Providers: p.Providers, Config: p.Config.GRPC, Validator: validator,
		Interceptors: []grpcx.Interceptor{auth.Interceptor(v, g.limits.Door())}, SelfValidating: grpcstream.SelfValidating(),
	}
	inside := params
	handover, door := auth.NewHandover(), g.limits.InnerDoor()
	door.Handover = handover
	inside.Interceptors = []grpcx.Interceptor{auth.Interceptor(v, door)}
	inside.Config.CertFile, inside.Config.KeyFile, inside.Config.ClientCAFile = "", "", ""
	inside.Config.MaxConnectionAge = 0
	// It carries everybody's calls: one client's limit would be everybody's.
	inside.Config.MaxConcurrentStreams = 1 << 20
	params.Health, params.Reflection = true, p.Config.Reflection

	innerServer, err := grpcx.NewServer(inside)
	if err != nil {
		return nil, err
	}
	axpchatv1.RegisterChatServiceServer(innerServer, service)
	pipe := bufconn.Listen(innerBuffer)
	g.closers.Add("inner gRPC", pipe.Close)
	g.inner = grpcx.NewServerComponent("gateway-inner-grpc", pipe, innerServer)

	publicServer, err := grpcx.NewServer(params)
	if err != nil {
		return nil, err
	}
	axpchatv1.RegisterChatServiceServer(publicServer, service)
	lis, err := g.listen(ctx, p.Config.Proxied, p.GRPCListener, "GATEWAY_GRPC_ADDR", p.Config.GRPCAddr)
	if err != nil {
		return nil, err
	}
	g.grpcAddr = lis.Addr().String()
	g.public = grpcx.NewServerComponent("gateway-grpc", lis, publicServer)

	callOrigin, streamOrigin := limits.Forward()
	callCustomer, streamCustomer := handover.Client()
	conn, err := grpcx.Dial("passthrough:///gateway", grpcx.ClientConfig{}, p.Log, p.Providers,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }),
		grpc.WithChainUnaryInterceptor(rest.Calls(), callOrigin, callCustomer), grpc.WithChainStreamInterceptor(streamOrigin, streamCustomer))
	if err != nil {
		return nil, err
	}
	g.closers.Add("inner connection", conn.Close)
	return conn, nil
}

func (g *Gateway) serveHTTP(ctx context.Context, p Params, h http.Handler) error {
	lis, err := g.listen(ctx, p.Config.Proxied, p.HTTPListener, "GATEWAY_HTTP_ADDR", p.Config.HTTPAddr)
	if err != nil {
		return err
	}
	if lis, err = httpx.Secure(lis, p.Config.HTTPTLS.Files(), nil, p.Log); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	g.http = httpx.NewServer("gateway-http", lis, h, p.Config.HTTP, p.Log)
	g.closers.Add("HTTP server", g.http.Close)
	return nil
}

func (g *Gateway) listen(ctx context.Context, c proxied.Config, given net.Listener, key, addr string) (net.Listener, error) {
	lis := given
	if lis == nil {
		var err error
		if lis, err = (&net.ListenConfig{}).Listen(ctx, "tcp", addr); err != nil {
			return nil, fmt.Errorf("gateway: listen on %s: %w", key, err)
		}
	}
	g.closers.Add("listener", func() error {
		if err := lis.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	bound := lis
	if g.unsent > 0 {
		bound = bounded(lis, g.unsent)
	}
	return c.Listen(bound)
}

// Reload puts into force what of a configuration may change while the gateway
// runs: its tenants. Streams that are open stay so until their token is renewed.
func (g *Gateway) Reload(c Config) { g.tenants.Set(c.Tenants) }

// GRPCAddr is where ChatService is served.
func (g *Gateway) GRPCAddr() string { return g.grpcAddr }

// HTTPAddr is where REST, streams for browsers and the web chat are served.
func (g *Gateway) HTTPAddr() string { return g.http.Addr() }

// Name implements lifecycle.Component.
func (g *Gateway) Name() string { return "gateway" }

// Ready fails while NATS can't be reached. It does not ask for the orchestrator:
// events, history and streams work without it.
func (g *Gateway) Ready(ctx context.Context) error { return g.bus.Ready(ctx) }

// Run serves until ctx is done, then gives back everything that New took.
func (g *Gateway) Run(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{g.engine.Run, g.limits.Run, g.inner.Run, g.public.Run, g.http.Run} {
		group.Go(func() error { return run(groupCtx) })
	}
	return errors.Join(group.Wait(), g.Close())
}

// Drain answers polls, tells every stream's client to move, each at its own
// moment, serves them until they have gone, lets calls finish, and stops
// accepting: HTTP at once, gRPC at last, since its clients share connections.
func (g *Gateway) Drain(ctx context.Context) error {
	g.poller.Drain()
	var group errgroup.Group
	group.Go(func() error { return g.http.Drain(ctx) })
	err := g.streams.Drain(ctx)
	if err != nil {
		// Their time is over: what is left ends with a close frame.
		err = errors.Join(err, g.engine.Close())
	}
	err = errors.Join(err, group.Wait())
	return errors.Join(err, g.inner.Drain(ctx), g.public.Drain(ctx))
}

// Close gives back what New took. Run does it itself.
func (g *Gateway) Close() error { return g.closers.Close() }
