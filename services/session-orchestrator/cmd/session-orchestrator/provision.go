package main

import (
	"context"
	"errors"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
)

// provisionSettings are all that provisioning needs: neither accounts nor secrets.
type provisionSettings struct {
	Bus bus.Config
	Log logx.Config
}

// Validate asks for NATS.
func (s *provisionSettings) Validate() []config.Mistake {
	if s.Bus.URL == "" {
		return []config.Mistake{{Key: "NATS_URL", Problem: "is required"}}
	}
	return nil
}

func provisioning(ctx context.Context, env lifecycle.Env) lifecycle.Subcommand {
	return lifecycle.Subcommand{
		Name: "provision", Help: "bring streams and buckets in NATS up to date, and end", Run: func() error { return provision(ctx, env) },
	}
}

// provision declares streams, buckets and consumers, whatever NATS_MANAGE_STREAMS
// says to the services: it is for an identity of its own, which may do just that.
func provision(ctx context.Context, env lifecycle.Env) (err error) {
	var cfg provisionSettings
	if err := config.Load(&cfg, env.Sources); err != nil {
		return err
	}
	cfg.Bus.Manage = true
	log := logx.New(env.Stderr, cfg.Log, "provisioner")
	b, err := bus.Connect(ctx, bus.Params{Config: cfg.Bus, Name: "provisioner", Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := b.Provision(ctx); err != nil {
		return err
	}
	log.InfoContext(ctx, "streams and buckets are up to date")
	return nil
}
