// Command chaos runs the suite as separate processes under faults and counts
// what became of every word; see package chaos.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/axpchat/connector/services/e2e/chaos"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run returns 0 where everything was kept, 1 where not, 2 where the run could
// not be done.
func run(ctx context.Context, args []string) int {
	o := chaos.Options{Out: os.Stdout}
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.Uint64Var(&o.Seed, "seed", 0, "decides on the schedule of faults; 0: by chance")
	flags.IntVar(&o.Clients, "clients", 0, "customers; 0: 200")
	flags.IntVar(&o.Rounds, "rounds", 1, "how often all faults are gone through")
	flags.DurationVar(&o.Mix, "mix", 0, "how long faults are mixed at the end; 0: 60s; negative: not at all")
	flags.DurationVar(&o.Every, "every", 0, "how long a customer takes for a message on average; 0: 12s")
	flags.DurationVar(&o.Settle, "settle", 0, "how long everything may take to arrive after a fault; 0: 90s")
	flags.BoolVar(&o.BackFill, "backfill", true, "run the faults that need missed callbacks to be fetched")
	flags.StringVar(&o.Artifacts, "artifacts", "", "folder for the logs of the processes")
	flags.StringVar(&o.Binaries, "bin", "", "folder of commands that are built already")
	only := flags.String("only", "", "run only the faults whose names contain one of these, separated by commas")
	plan := flags.Bool("plan", false, "show the schedule and end")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	if o.Seed == 0 {
		o.Seed = uint64(rand.Uint32()) //nolint:gosec // any will do
	}
	if *plan {
		fmt.Print(chaos.NewPlan(o))
		return 0
	}
	report, err := chaos.Run(ctx, o)
	if report != nil {
		fmt.Print(report)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "the run failed: %v; seed %d\n", err, o.Seed)
		return 2
	}
	if !report.OK() {
		return 1
	}
	return 0
}
