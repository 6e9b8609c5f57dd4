package connector

import (
	"context"
	"errors"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
)

// Aside are the subcommands for what could not be worked, as session-orchestrator has
// them. About the embedded NATS server they need the same as those of Unrouted.
func Aside(ctx context.Context, env lifecycle.Env) []lifecycle.Subcommand {
	return orchestrator.AsideCommands(ctx, env, func() (*bus.Bus, func() error, error) {
		var cfg Config
		if err := config.Load(&cfg, env.Sources); err != nil {
			return nil, nil, err
		}
		c := &Connector{log: logx.New(env.Stderr, cfg.Log, env.Name), config: cfg}
		if err := c.openBus(ctx, Params{Config: cfg, Log: c.log, Providers: telemetry.Nop()}); err != nil {
			return nil, nil, errors.Join(err, c.Close())
		}
		return c.bus, c.Close, nil
	})
}
