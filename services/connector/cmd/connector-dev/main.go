// Command connector-dev is the connector with the AXP sandbox in the same
// process: the whole chat on one machine, without an AXP account. Never for
// production.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	sandbox "github.com/axpchat/connector/services/axp-sandbox"
	"github.com/axpchat/connector/services/connector"
	"github.com/axpchat/connector/services/connector/dev"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
)

func main() { os.Exit(lifecycle.Main("connector-dev", run)) }

func run(ctx context.Context, env lifecycle.Env) error {
	cfg := dev.Defaults()
	erase := orchestrator.EraseCommand(ctx, env, os.Stdin, &cfg, &cfg.Connector.Orchestrator.Operator)
	if handled, err := env.Command(&cfg, erase); handled || err != nil {
		return err
	}
	return connector.Main(ctx, env, &cfg.Connector, func(ctx context.Context, p connector.Params) (*connector.Connector, error) {
		var axp *sandbox.Sandbox
		p.Watcher = connector.Watch(cfg, dev.Defaults, env.Sources, func(c *connector.Connector, next *dev.Config) connector.Config {
			return next.Pointed(axp.Addr(), c.WebhookAddr())
		})
		p.Started = func(c *connector.Connector) { dev.Greet(env.Stdout, cfg, c, axp) }
		c, box, err := dev.New(ctx, cfg, p)
		axp = box // before Run, and so before Started
		// It belongs to a terminal, and ends with that.
		signal.Reset(syscall.SIGHUP)
		return c, err
	})
}
