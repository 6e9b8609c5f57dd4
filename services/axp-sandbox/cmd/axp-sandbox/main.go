// Command axp-sandbox stands in for AXP in development, tests and demonstrations.
package main

import (
	"context"
	"os"
	"time"

	sandbox "github.com/axpchat/connector/services/axp-sandbox"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
)

type settings struct {
	Sandbox sandbox.Config
	Log     logx.Config
	Grace   time.Duration `env:"SHUTDOWN_GRACE" default:"10s" doc:"How long everything may take to end."`
}

func main() { os.Exit(lifecycle.Main("axp-sandbox", run)) }

func run(ctx context.Context, env lifecycle.Env) error {
	var cfg settings
	if handled, err := env.Command(&cfg); handled || err != nil {
		return err
	}
	log := logx.New(env.Stderr, cfg.Log, env.Name)
	s, err := sandbox.New(ctx, sandbox.Params{Config: cfg.Sandbox, Log: log})
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "serving", "addr", s.Addr(), "config", config.LogValue(&cfg))
	return lifecycle.Run(ctx, log, cfg.Grace, s)
}
