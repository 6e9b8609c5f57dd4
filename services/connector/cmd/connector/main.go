// Command connector runs gateway, session-orchestrator and webhook-ingest in one
// process, with a NATS server of its own: all that a small installation needs.
package main

import (
	"context"
	"os"

	"github.com/axpchat/connector/services/connector"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
)

func main() { os.Exit(lifecycle.Main("connector", run)) }

func run(ctx context.Context, env lifecycle.Env) error {
	var cfg connector.Config
	erase := orchestrator.EraseCommand(ctx, env, os.Stdin, &cfg, &cfg.Orchestrator.Operator)
	if handled, err := env.Command(&cfg, append(append(connector.Unrouted(ctx, env), connector.Aside(ctx, env)...), erase)...); handled || err != nil {
		return err
	}
	return connector.Main(ctx, env, &cfg, func(ctx context.Context, p connector.Params) (*connector.Connector, error) {
		p.Watcher = connector.Watch(cfg, nil, env.Sources, func(_ *connector.Connector, next *connector.Config) connector.Config { return *next })
		return connector.New(ctx, p)
	})
}
