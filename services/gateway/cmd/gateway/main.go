// Command gateway serves the apps of customers: gRPC, REST, WebSocket,
// server-sent events and long polling.
package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/axpchat/connector/services/gateway"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

type settings struct {
	Gateway   gateway.Config
	Internal  grpcx.InternalConfig
	Bus       bus.Config
	Log       logx.Config
	Telemetry telemetry.Config
	Reload    config.Reload
	AdminAddr string        `env:"ADMIN_ADDR" default:":9080" doc:"Address for health, metrics and version."`
	Delay     time.Duration `env:"SHUTDOWN_DELAY" default:"0s" doc:"How long to go on as usual after readiness is off, so that load balancers notice."`
	Grace     time.Duration `env:"SHUTDOWN_GRACE" default:"30s" doc:"How long everything may take to end; less than the pod's grace period."`
}

// Validate asks for what connector has in its own process: NATS, and a connection
// to the orchestrator that nobody else hears.
func (s *settings) Validate() []config.Mistake {
	out := s.Internal.ClientMistakes("ORCHESTRATOR_ADDR", s.Gateway.OrchestratorAddr, s.Gateway.Client)
	if s.Bus.URL == "" {
		out = append(out, config.Mistake{Key: "NATS_URL", Problem: "is required"})
	}
	return append(out, config.ListenMistakes("ADMIN_ADDR", s.AdminAddr)...)
}

func main() { os.Exit(lifecycle.Main("gateway", run)) }

func run(ctx context.Context, env lifecycle.Env) (err error) {
	var cfg settings
	if handled, err := env.Command(&cfg); handled || err != nil {
		return err
	}
	log := logx.New(env.Stderr, cfg.Log, env.Name)
	logx.TakeGRPC(log)
	providers, err := telemetry.Setup(ctx, env.Name, lifecycle.Version())
	if err != nil {
		return err
	}
	defer func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, providers.Shutdown(flush))
	}()
	for _, note := range providers.Notes {
		log.WarnContext(ctx, note) //nolint:sloglint // the notes are the kit's own constants
	}
	b, err := bus.Connect(ctx, bus.Params{Config: cfg.Bus, Name: env.Name, Log: log, Propagator: providers.Propagator, Meter: providers.Meter, Uses: gateway.Uses()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := b.Provision(ctx); err != nil {
		return err
	}
	g, err := gateway.New(ctx, gateway.Params{Config: cfg.Gateway, Log: log, Providers: providers, Bus: b})
	if err != nil {
		return err
	}
	admin, err := telemetry.NewAdmin(cfg.AdminAddr, cfg.Telemetry.Pprof, providers, lifecycle.Readiness(g)) //nolint:contextcheck // it binds an address and is done
	if err != nil {
		return errors.Join(err, g.Close())
	}
	admin.DrainDelay = cfg.Delay
	watcher, err := config.NewWatcher(config.WatchParams[settings]{
		Current: cfg, Sources: env.Sources, Reload: cfg.Reload, Log: log, Meter: providers.Meter,
		Apply: func(_ context.Context, next *settings) error { g.Reload(next.Gateway); return nil },
	})
	if err != nil {
		return errors.Join(err, admin.Close(), g.Close())
	}
	log.InfoContext(ctx, "serving", "grpc", g.GRPCAddr(), "http", g.HTTPAddr(), "admin", admin.Addr(), "config", config.LogValue(&cfg))
	return lifecycle.Run(ctx, log, cfg.Grace, admin, g, watcher)
}
