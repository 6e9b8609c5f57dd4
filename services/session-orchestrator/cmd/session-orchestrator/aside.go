package main

import (
	"context"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
)

// openBus connects by the service's own settings of NATS; nothing else of its
// configuration is needed, as for provisioning.
func openBus(ctx context.Context, env lifecycle.Env) func() (*bus.Bus, func() error, error) {
	return func() (*bus.Bus, func() error, error) {
		var cfg provisionSettings
		if err := config.Load(&cfg, env.Sources); err != nil {
			return nil, nil, err
		}
		b, err := bus.Connect(ctx, bus.Params{Config: cfg.Bus, Name: "session-orchestrator", Log: logx.New(env.Stderr, cfg.Log, env.Name)})
		if err != nil {
			return nil, nil, err
		}
		return b, b.Close, nil
	}
}
