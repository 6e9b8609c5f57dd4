// Command badinput measures a good chat without and beside a flood of bad input;
// see package bench. `make badinput` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/axpchat/connector/services/e2e/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "badinput:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	// The command starts itself once more, for the flood.
	if target := os.Getenv(bench.FloodKey); target != "" {
		return bench.Flood(ctx, target, os.Stdout)
	}
	o := bench.BadDefaults()
	o.Out = os.Stdout
	flags := flag.NewFlagSet("badinput", flag.ContinueOnError)
	o.Flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	_, err := bench.RunBadInput(ctx, o)
	return err
}
