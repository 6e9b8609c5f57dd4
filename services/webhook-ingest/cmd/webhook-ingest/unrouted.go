package main

import (
	"context"
	"errors"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
	ingest "github.com/axpchat/connector/services/webhook-ingest"
)

// unrouted are the subcommands for callbacks that were set aside.
func unrouted(ctx context.Context, env lifecycle.Env) []lifecycle.Subcommand {
	return []lifecycle.Subcommand{
		{Name: "list-unrouted", Help: "list the callbacks that were set aside, and what a replay would do", Run: func() error { return goThrough(ctx, env, false) }},
		{Name: "replay-unrouted", Help: "store those that can be routed now; the others stay", Run: func() error { return goThrough(ctx, env, true) }},
	}
}

func goThrough(ctx context.Context, env lifecycle.Env, replay bool) (err error) {
	var cfg settings
	if err := config.Load(&cfg, env.Sources); err != nil {
		return err
	}
	log := logx.New(env.Stderr, cfg.Log, env.Name)
	b, err := bus.Connect(ctx, bus.Params{Config: cfg.Bus, Name: env.Name, Log: log, Uses: ingest.Uses()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return ingest.Unrouted(ctx, ingest.UnroutedParams{Config: cfg.Ingest, Log: log, Bus: b, Out: env.Stdout, Replay: replay})
}
