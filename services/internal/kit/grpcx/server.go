package grpcx

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/panics"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

// maxHeaderBytes bounds the metadata of a call; tokens take some KiB.
const maxHeaderBytes = 64 << 10

// ServerParams are what a server is made of.
type ServerParams struct {
	Log *slog.Logger
	// Providers may be nil: no traces and metrics then.
	Providers *telemetry.Providers
	Config    ServerConfig
	// Interceptors come after the mapping of errors and before validation, in
	// their order. Authentication belongs here.
	Interceptors []Interceptor
	// SelfValidating are full names of methods (/package.Service/Method) whose
	// messages the handler validates, because it answers a broken message
	// instead of ending the stream.
	SelfValidating []string
	// Validator may be nil: the server makes its own then.
	Validator *Validator
	// Health adds grpc.health.v1.Health, Reflection adds server reflection. Both
	// go through the chain like everything else.
	Health     bool
	Reflection bool
}

// Server is a gRPC server with the chain of the suite. Services register with it
// as with a *grpc.Server.
type Server struct {
	*grpc.Server

	health *health.Server

	mu       sync.Mutex
	draining bool
	lastHook int
	hooks    map[int]func()
}

// NewServer returns a server. It fails when the chain is not sound or a
// certificate can't be read; it opens nothing and starts nothing.
func NewServer(p ServerParams) (*Server, error) {
	if p.Providers == nil {
		p.Providers = telemetry.Nop()
	}
	cfg := p.Config.withDefaults()
	creds, err := cfg.credentials(p.Log)
	if err != nil {
		return nil, fmt.Errorf("gRPC server: %w", err)
	}
	known := &methods{}
	links, guard, err := p.links(known)
	if err != nil {
		return nil, fmt.Errorf("gRPC server: %w", err)
	}
	unary, stream, err := chain(links, guard)
	if err != nil {
		return nil, fmt.Errorf("gRPC server: %w", err)
	}
	arrivals := &arrivals{limit: cfg.MessageTimeout, known: known, metrics: guard.metrics}
	s := &Server{hooks: map[int]func(){}, Server: grpc.NewServer(
		grpc.Creds(creds),
		grpc.InTapHandle(arrivals.tap),
		grpc.StatsHandler(arrivals),
		grpc.StatsHandler(otelgrpc.NewServerHandler(
			otelgrpc.WithTracerProvider(p.Providers.Tracer),
			otelgrpc.WithMeterProvider(p.Providers.Meter),
			otelgrpc.WithPropagators(p.Providers.Propagator),
			otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool {
				// Probes are noise, unknown methods are labels of a stranger's
				// choice, and a span that is open for hours tells nobody anything
				// and costs each idle client 3 KiB. What streams do is counted by
				// the chain and by their owners; the calls that they make have
				// traces of their own.
				return known.isCall(info.FullMethodName) && !isHealth(info.FullMethodName)
			}),
		)),
		grpc.ChainUnaryInterceptor(unary...),
		grpc.ChainStreamInterceptor(stream...),
		// Without it, gRPC answers unknown methods itself, past the chain and
		// in words that are not of the catalogue.
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return errs.New(axpchatv1.ErrorReason_ERROR_REASON_NOT_FOUND, "")
		}),
		grpc.ForceServerCodecV2(newCodec(guard.panics)),
		grpc.MaxRecvMsgSize(int(cfg.MaxRecvBytes)),
		grpc.MaxConcurrentStreams(uint32(cfg.MaxConcurrentStreams)),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(cfg.HandshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: cfg.KeepaliveTime, Timeout: cfg.KeepaliveTimeout,
			MaxConnectionAge: cfg.MaxConnectionAge, MaxConnectionAgeGrace: cfg.MaxConnectionAgeGrace,
			MaxConnectionIdle: cfg.MaxConnectionIdle,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: cfg.KeepaliveMinTime, PermitWithoutStream: true}),
		// Stop returns only when no handler runs any more: what they use is
		// closed next.
		grpc.WaitForHandlers(true),
	)}
	known.server = s.Server
	if p.Health {
		s.health = health.NewServer()
		healthpb.RegisterHealthServer(s, &healthService{Server: s.health, owner: s})
	}
	if p.Reflection {
		reflection.Register(s.Server)
	}
	return s, nil
}

// links returns the chain, outermost first, and what stands for those of its
// links that are the kit's own on streams.
func (p ServerParams) links(known *methods) ([]Interceptor, *guard, error) {
	m, err := newMetrics(p.Providers)
	if err != nil {
		return nil, nil, err
	}
	v := p.Validator
	if v == nil {
		if v, err = NewValidator(); err != nil {
			return nil, nil, err
		}
	}
	self := make(map[string]bool, len(p.SelfValidating))
	for _, method := range p.SelfValidating {
		self[method] = true
	}
	g := &guard{
		watch:     watch{log: p.Log, metrics: m, known: known, refused: logx.NewSieve[refusal]()},
		panics:    panics.New(p.Log, p.Providers.Meter.Meter(scope)),
		validator: v, self: self,
	}
	links := []Interceptor{requestIDs(), accessLog(&g.watch), recovering(g.panics), mapErrors(p.Log)}
	links = append(links, p.Interceptors...)
	return append(links, validating(v, self)), g, nil
}

// OnDrain adds a function that runs when the server begins to drain, before it
// stops accepting. It is where streams that would not end by themselves are told
// to. The functions run one after the other, in no promised order, and must not
// block. When the server drains already, f runs at once. The function that is
// returned takes f back; a stream calls it when it ends by itself.
func (s *Server) OnDrain(f func()) (release func()) {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		f()
		return func() {}
	}
	defer s.mu.Unlock()
	s.lastHook++
	id := s.lastHook
	s.hooks[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.hooks, id)
	}
}

// beginDrain runs the hooks, once.
func (s *Server) beginDrain() {
	s.mu.Lock()
	hooks := s.hooks
	s.draining, s.hooks = true, nil
	s.mu.Unlock()
	if s.health != nil {
		s.health.Shutdown()
	}
	for _, f := range hooks {
		f()
	}
}

func isHealth(fullMethod string) bool {
	return fullMethod == healthpb.Health_Check_FullMethodName || fullMethod == healthpb.Health_Watch_FullMethodName ||
		fullMethod == healthpb.Health_List_FullMethodName
}

// healthService ends its watches when the server drains: each would otherwise
// hold up the drain until its budget is spent.
//
// They need no token, so there is a bound on them: whoever watches more costs a
// stream each for as long as he likes.
type healthService struct {
	*health.Server
	owner   *Server
	watches atomic.Int32
}

// maxWatches is how many may watch the health of a server; a client needs one for
// each connection, if any.
const maxWatches = 1000

// Watch streams the state until the caller leaves or the server drains.
func (h *healthService) Watch(req *healthpb.HealthCheckRequest, s healthpb.Health_WatchServer) error {
	defer h.watches.Add(-1)
	if h.watches.Add(1) > maxWatches {
		return errs.New(axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED, "too many watch the health of this server").WithRetryAfter(time.Minute)
	}
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	release := h.owner.OnDrain(cancel)
	defer release()
	err := h.Server.Watch(req, &watchStream{Health_WatchServer: s, ctx: ctx})
	if ctx.Err() != nil && s.Context().Err() == nil {
		return errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "the server is going down")
	}
	return err
}

type watchStream struct {
	healthpb.Health_WatchServer
	ctx context.Context //nolint:containedctx // gRPC hands the context over this way
}

// Context returns the context that ends with the drain.
func (s *watchStream) Context() context.Context { return s.ctx }
