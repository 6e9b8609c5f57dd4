// Command badinput measures a good chat without and beside a flood of bad input;
// see package bench. `make badinput` runs it.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/axpchat/connector/services/e2e/bench"
)

func main() { os.Exit(bench.Command("badinput", run)) }

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
