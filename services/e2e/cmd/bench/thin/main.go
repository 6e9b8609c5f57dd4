// Command thin is the yardstick of the benchmark; see package thin.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/axpchat/connector/services/e2e/bench/thin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "thin:", err)
		stop()
		os.Exit(1)
	}
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
