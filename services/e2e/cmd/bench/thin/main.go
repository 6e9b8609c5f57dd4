// Command thin is the yardstick of the benchmark; see package thin. Its signals
// and its garbage are handled as those of the suite's own commands.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/axpchat/connector/services/e2e/bench/thin"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
)

func main() {
	os.Exit(lifecycle.Main("thin", func(ctx context.Context, env lifecycle.Env) error { return run(ctx, env.Args) }))
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: thin ingest|gateway [flags]")
	}
	var cfg thin.Config
	flags := flag.NewFlagSet("thin", flag.ContinueOnError)
	flags.StringVar(&cfg.NATSURL, "nats", "", "address of NATS")
	flags.StringVar(&cfg.Addr, "addr", "", "address of HTTP (ingest) or gRPC (gateway)")
	flags.StringVar(&cfg.HTTPAddr, "http", "", "address of the gateway's HTTP")
	flags.StringVar(&cfg.AdminAddr, "admin", "", "address of readiness and profiles")
	flags.StringVar(&cfg.Key, "key", "", "key in ingest's path")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "ingest":
		return thin.RunIngest(ctx, cfg)
	case "gateway":
		return thin.RunGateway(ctx, cfg)
	default:
		return fmt.Errorf("there is no program %q", args[0])
	}
}
