// Command bench measures the delivery path beside the thinnest possible one; see
// package bench. `make bench` runs it.
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
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	o := bench.Defaults()
	o.Out = os.Stdout
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	o.Flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	_, err := bench.Run(ctx, o)
	return err
}
