package connector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/axpchat/connector/services/gateway"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
	ingest "github.com/axpchat/connector/services/webhook-ingest"
)

// flushTimeout bounds the last export of telemetry.
const flushTimeout = 5 * time.Second

// pipeBuffer is what the connection to the orchestrator holds of one direction.
const pipeBuffer = 256 << 10

// Params is what New needs.
type Params struct {
	Config    Config
	Log       *slog.Logger
	Providers *telemetry.Providers
	// First run as long as the services: they start before them and end after
	// them. They stay the caller's where New fails.
	First []lifecycle.Component
	// Watcher, where it is set, makes the part that watches the configuration and
	// reloads the connector. It starts last.
	Watcher func(*Connector) (lifecycle.Component, error)
	// Started, where it is set, is called once everything is ready.
	Started func(*Connector)
	// Listeners are used instead of the configured addresses where they are set,
	// and are the connector's from then on.
	Listeners Listeners
}

// Listeners are what the process serves on.
type Listeners struct {
	GRPC, HTTP, Webhook net.Listener
}

// Connector is the whole suite, built and bound.
type Connector struct {
	log        *slog.Logger
	config     Config
	meter      metric.MeterProvider
	components []lifecycle.Component
	closers    lifecycle.Closers

	nats         *natsembed.Server // nil with a cluster
	bus          *bus.Bus
	orchestrator *orchestrator.Orchestrator
	ingest       *ingest.Ingest
	gateway      *gateway.Gateway
	admin        *telemetry.Admin
}

// New starts the embedded NATS server, declares streams and buckets, builds the
// services and binds their addresses. Whoever does not run the connector calls
// Close.
func New(ctx context.Context, p Params) (c *Connector, err error) {
	c = &Connector{log: p.Log, config: p.Config, meter: p.Providers.Meter}
	defer c.closers.CloseOnError(&err)
	if err := c.openBus(ctx, p); err != nil {
		return nil, err
	}
	conn, err := c.buildOrchestrator(ctx, p)
	if err != nil {
		return nil, err
	}
	c.ingest, err = ingest.New(ctx, ingest.Params{
		Config: p.Config.Ingest, Log: p.Log.With("part", "webhook-ingest"), Providers: p.Providers, Bus: c.bus, Listener: p.Listeners.Webhook,
	})
	if err != nil {
		return nil, err
	}
	c.closers.Add("webhook-ingest", c.ingest.Close)
	c.gateway, err = gateway.New(ctx, gateway.Params{
		Config: p.Config.Gateway, Log: p.Log.With("part", "gateway"), Providers: p.Providers, Bus: c.bus, Orchestrator: conn,
		GRPCListener: p.Listeners.GRPC, HTTPListener: p.Listeners.HTTP,
	})
	if err != nil {
		return nil, err
	}
	c.closers.Add("gateway", c.gateway.Close)

	parts := append([]lifecycle.Component{}, p.First...)
	parts = append(parts, c.orchestrator.Components()...)
	parts = append(parts, c.ingest, c.gateway)
	c.admin, err = telemetry.NewAdmin(p.Config.AdminAddr, p.Config.Telemetry.Pprof, p.Providers, lifecycle.Readiness(parts...)) //nolint:contextcheck // it binds an address and is done
	if err != nil {
		return nil, err
	}
	c.closers.Add("admin", c.admin.Close)
	c.admin.DrainDelay = p.Config.Delay
	c.components = append([]lifecycle.Component{c.admin}, parts...)
	if p.Watcher != nil {
		watcher, err := p.Watcher(c)
		if err != nil {
			return nil, err
		}
		c.components = append(c.components, watcher)
	}
	if p.Started != nil {
		c.components = append(c.components, lifecycle.Func{Label: "started", OnRun: func(ctx context.Context) error {
			p.Started(c)
			<-ctx.Done()
			return nil
		}})
	}
	return c, nil
}

// openBus connects to the cluster, or starts a server of the process's own, and
// brings the streams up to date.
func (c *Connector) openBus(ctx context.Context, p Params) error {
	params := bus.Params{Config: p.Config.Bus, Name: "connector", Log: p.Log.With("part", "bus"), Propagator: p.Providers.Propagator, Meter: p.Providers.Meter}
	if p.Config.Bus.URL == "" {
		server, err := natsembed.Start(filepath.Join(p.Config.DataDir, "nats"), natsembed.Options{
			Listen: p.Config.NATSListen, MaxStore: int64(p.Config.NATSStore), Log: p.Log.With("part", "nats"),
		})
		if err != nil {
			return err
		}
		c.nats = server
		c.closers.Add("NATS", func() error { server.Shutdown(); return nil })
		params.Options = []nats.Option{server.InProcess()}
	}
	b, err := bus.Connect(ctx, params)
	if err != nil {
		return err
	}
	c.bus = b
	c.closers.Add("bus", b.Close)
	return b.Provision(ctx)
}

// buildOrchestrator serves the orchestrator in memory and returns the gateway's
// connection to it. TLS and the ageing of connections are for the network.
func (c *Connector) buildOrchestrator(ctx context.Context, p Params) (*grpc.ClientConn, error) {
	cfg := p.Config.Orchestrator
	cfg.GRPC.CertFile, cfg.GRPC.KeyFile, cfg.GRPC.ClientCAFile = "", "", ""
	cfg.GRPC.MaxConnectionAge = 0
	// One connection carries the calls of all clients.
	cfg.GRPC.MaxConcurrentStreams = 1 << 20
	pipe := bufconn.Listen(pipeBuffer)
	o, err := orchestrator.New(ctx, orchestrator.Params{
		Config: cfg, Log: p.Log.With("part", "session-orchestrator"), Providers: p.Providers, Bus: c.bus, Listener: pipe,
	})
	if err != nil {
		return nil, errors.Join(err, pipe.Close())
	}
	c.orchestrator = o
	c.closers.Add("session-orchestrator", o.Close)
	client := grpcx.ClientConfig{MaxRecvBytes: p.Config.Gateway.Client.MaxRecvBytes}
	conn, err := grpcx.Dial("passthrough:///session-orchestrator", client, p.Log, p.Providers,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
	if err != nil {
		return nil, err
	}
	c.closers.Add("connection to session-orchestrator", conn.Close)
	return conn, nil
}

// Run serves until ctx is done or a part fails, ends everything in reverse order
// and gives back what New took.
func (c *Connector) Run(ctx context.Context) error {
	c.log.InfoContext(ctx, "serving", "grpc", c.GRPCAddr(), "http", c.HTTPAddr(), "webhook", c.WebhookAddr(), "admin", c.AdminAddr())
	err := lifecycle.Run(ctx, c.log, c.config.Grace, c.components...)
	return errors.Join(err, c.Close())
}

// GRPCAddr is where apps reach ChatService.
func (c *Connector) GRPCAddr() string { return c.gateway.GRPCAddr() }

// HTTPAddr is where REST, streams for browsers and the web chat are served.
func (c *Connector) HTTPAddr() string { return c.gateway.HTTPAddr() }

// WebhookAddr is where AXP's callbacks are taken.
func (c *Connector) WebhookAddr() string { return c.ingest.Addr() }

// AdminAddr is where health and metrics are.
func (c *Connector) AdminAddr() string { return c.admin.Addr() }

// OperatorAddr is where operators are served; nil: they are not.
func (c *Connector) OperatorAddr() net.Addr { return c.orchestrator.OperatorAddr() }

// Bus is the process's connection to NATS, for tests that look into the journal.
func (c *Connector) Bus() *bus.Bus { return c.bus }

// NATS is the embedded server; nil where NATS_URL names another one. For tests
// that break it.
func (c *Connector) NATS() *natsembed.Server { return c.nats }

// Close gives back what New took. Run does it itself.
func (c *Connector) Close() error { return c.closers.Close() }

// Main is what the commands have in common: it sets up logs and telemetry, builds
// the connector by build, and runs it.
func Main(ctx context.Context, env lifecycle.Env, cfg *Config, build func(context.Context, Params) (*Connector, error)) (err error) {
	log := logx.New(env.Stderr, cfg.Log, env.Name)
	logx.TakeGRPC(log)
	providers, err := telemetry.Setup(ctx, env.Name, lifecycle.Version())
	if err != nil {
		return fmt.Errorf("set up telemetry: %w", err)
	}
	defer func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		err = errors.Join(err, providers.Shutdown(flush))
	}()
	for _, note := range providers.Notes {
		log.WarnContext(ctx, "telemetry", "note", note)
	}
	log.InfoContext(ctx, "starting", "version", lifecycle.Version(), "config", config.LogValue(cfg))
	c, err := build(ctx, Params{Config: *cfg, Log: log, Providers: providers})
	if err != nil {
		return err
	}
	return c.Run(ctx)
}
