// Command bench measures the delivery path beside the thinnest possible one; see
// package bench. `make bench` runs it.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/axpchat/connector/services/e2e/bench"
)

func main() { os.Exit(bench.Command("bench", run)) }

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
