// Command session-orchestrator runs the service that talks to AXP: sessions,
// engagements, the outbox of customers' messages and the webhook subscription.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
)

type settings struct {
	Orchestrator orchestrator.Config
	Internal     grpcx.InternalConfig
	Reload       config.Reload
}

// Validate asks for what connector has in its own process: NATS, and a connection
// to the gateway that nobody else hears.
func (s *settings) Validate() []config.Mistake {
	out := s.Internal.ServerMistakes("ORCHESTRATOR_GRPC_ADDR", s.Orchestrator.GRPCAddr, s.Orchestrator.GRPC)
	if s.Orchestrator.Bus.URL == "" {
		out = append(out, config.Mistake{Key: "NATS_URL", Problem: "is required"})
	}
	return out
}

func main() { os.Exit(lifecycle.Main("session-orchestrator", run)) }

func run(ctx context.Context, env lifecycle.Env) (err error) {
	var s settings
	erase := orchestrator.EraseCommand(ctx, env, os.Stdin, &s, &s.Orchestrator.Operator)
	if handled, err := env.Command(&s, append(orchestrator.AsideCommands(ctx, env, openBus(ctx, env)), provisioning(ctx, env), erase)...); handled || err != nil {
		return err
	}
	cfg := s.Orchestrator
	log := logx.New(env.Stderr, cfg.Log, env.Name)
	logx.TakeGRPC(log)
	var effective strings.Builder
	if err := config.Print(&effective, &s); err != nil {
		return err
	}
	log.InfoContext(ctx, "starting", "version", lifecycle.Version(), "config", effective.String())

	var closers lifecycle.Closers
	defer func() { err = errors.Join(err, closers.Close()) }()
	providers, err := telemetry.Setup(ctx, env.Name, lifecycle.Version())
	if err != nil {
		return err
	}
	closers.Add("telemetry", func() error { return providers.Shutdown(context.WithoutCancel(ctx)) })
	for _, note := range providers.Notes {
		log.WarnContext(ctx, "telemetry", "note", note)
	}
	b, err := bus.Connect(ctx, bus.Params{Config: cfg.Bus, Name: env.Name, Log: log, Propagator: providers.Propagator, Meter: providers.Meter, Uses: orchestrator.Uses()})
	if err != nil {
		return err
	}
	closers.Add("bus", b.Close)
	o, err := orchestrator.New(ctx, orchestrator.Params{Config: cfg, Log: log, Providers: providers, Bus: b})
	if err != nil {
		return err
	}
	closers.Add("orchestrator", o.Close)
	admin, err := telemetry.NewAdmin(cfg.AdminAddr, cfg.Telemetry.Pprof, providers, lifecycle.Readiness(o.Components()...)) //nolint:contextcheck // it binds an address and is done
	if err != nil {
		return fmt.Errorf("admin server: %w", err)
	}
	closers.Add("admin", admin.Close)
	watcher, err := config.NewWatcher(config.WatchParams[settings]{
		Current: s, Sources: env.Sources, Reload: s.Reload, Log: log, Meter: providers.Meter,
		Apply: func(ctx context.Context, next *settings) error { return o.Reload(ctx, next.Orchestrator) },
	})
	if err != nil {
		return err
	}
	parts := append([]lifecycle.Component{admin}, o.Components()...)
	log.InfoContext(ctx, "listening", "grpc", o.Addr().String(), "admin", admin.Addr())
	return lifecycle.Run(ctx, log, cfg.ShutdownGrace, append(parts, watcher)...)
}
