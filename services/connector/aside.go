package connector

import (
	"context"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
)

// Aside are the subcommands for what could not be worked, as session-orchestrator has
// them. About the embedded NATS server they need the same as those of Unrouted.
func Aside(ctx context.Context, env lifecycle.Env) []lifecycle.Subcommand {
	return orchestrator.AsideCommands(ctx, env, func() (*bus.Bus, func() error, error) {
		c, err := forOperators(ctx, env)
		if err != nil {
			return nil, nil, err
		}
		return c.bus, c.Close, nil
	})
}
