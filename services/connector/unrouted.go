package connector

import (
	"context"
	"errors"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	ingest "github.com/axpchat/connector/services/webhook-ingest"
)

// Unrouted are the subcommands for callbacks that were set aside, as webhook-ingest
// has them. With the embedded NATS server they need the connector to be stopped, or
// its NATS_LISTEN as NATS_URL.
func Unrouted(ctx context.Context, env lifecycle.Env) []lifecycle.Subcommand {
	return []lifecycle.Subcommand{
		{Name: "list-unrouted", Help: "list the callbacks that were set aside, and what a replay would do", Run: func() error { return unrouted(ctx, env, false) }},
		{Name: "replay-unrouted", Help: "store those that can be routed now; the others stay", Run: func() error { return unrouted(ctx, env, true) }},
	}
}

func unrouted(ctx context.Context, env lifecycle.Env, replay bool) (err error) {
	c, err := forOperators(ctx, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return ingest.Unrouted(ctx, ingest.UnroutedParams{Config: c.config.Ingest, Log: c.log, Bus: c.bus, Out: env.Stdout, Replay: replay})
}

// forOperators connects to NATS for a subcommand and makes nothing else. What it
// returns must be closed.
func forOperators(ctx context.Context, env lifecycle.Env) (*Connector, error) {
	var cfg Config
	if err := config.Load(&cfg, env.Sources); err != nil {
		return nil, err
	}
	c := &Connector{log: logx.New(env.Stderr, cfg.Log, env.Name), config: cfg}
	if err := c.openBus(ctx, Params{Config: cfg, Log: c.log, Providers: telemetry.Nop()}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}
