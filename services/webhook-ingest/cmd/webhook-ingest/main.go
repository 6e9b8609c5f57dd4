// Command webhook-ingest takes AXP's callbacks and stores them in NATS.
package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	ingest "github.com/axpchat/connector/services/webhook-ingest"
)

type settings struct {
	Ingest    ingest.Config
	Bus       bus.Config
	Log       logx.Config
	Telemetry telemetry.Config
	Reload    config.Reload
	AdminAddr string        `env:"ADMIN_ADDR" default:":9082" doc:"Address for health, metrics and version."`
	Delay     time.Duration `env:"SHUTDOWN_DELAY" default:"0s" doc:"How long to go on as usual after readiness is off, so that load balancers notice."`
	Grace     time.Duration `env:"SHUTDOWN_GRACE" default:"30s" doc:"How long everything may take to end; less than the pod's grace period."`
}

// Validate asks for NATS: unlike connector, this process has none of its own.
func (s *settings) Validate() []config.Mistake {
	out := config.ListenMistakes("ADMIN_ADDR", s.AdminAddr)
	if s.Bus.URL == "" {
		out = append(out, config.Mistake{Key: "NATS_URL", Problem: "is required"})
	}
	return out
}

func main() { os.Exit(lifecycle.Main("webhook-ingest", run)) }

func run(ctx context.Context, env lifecycle.Env) (err error) {
	var cfg settings
	if handled, err := env.Command(&cfg, unrouted(ctx, env)...); handled || err != nil {
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
		log.WarnContext(ctx, "telemetry", "note", note)
	}
	b, err := bus.Connect(ctx, bus.Params{Config: cfg.Bus, Name: env.Name, Log: log, Propagator: providers.Propagator, Meter: providers.Meter, Uses: ingest.Uses()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := b.Provision(ctx); err != nil {
		return err
	}
	in, err := ingest.New(ctx, ingest.Params{Config: cfg.Ingest, Log: log, Providers: providers, Bus: b})
	if err != nil {
		return err
	}
	admin, err := telemetry.NewAdmin(cfg.AdminAddr, cfg.Telemetry.Pprof, providers, lifecycle.Readiness(in)) //nolint:contextcheck // it binds an address and is done
	if err != nil {
		return errors.Join(err, in.Close())
	}
	admin.DrainDelay = cfg.Delay
	watcher, err := config.NewWatcher(config.WatchParams[settings]{
		Current: cfg, Sources: env.Sources, Reload: cfg.Reload, Log: log, Meter: providers.Meter,
		Apply: func(_ context.Context, next *settings) error { in.Reload(next.Ingest); return nil },
	})
	if err != nil {
		return errors.Join(err, admin.Close(), in.Close())
	}
	log.InfoContext(ctx, "serving", "addr", in.Addr(), "admin", admin.Addr(), "config", config.LogValue(&cfg))
	return lifecycle.Run(ctx, log, cfg.Grace, admin, in, watcher)
}
