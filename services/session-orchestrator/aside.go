package orchestrator

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
)

// asideAskTime bounds what a scrape waits for NATS.
const asideAskTime = time.Second

// watchAside shows how much was set aside.
func watchAside(b *bus.Bus, meter metric.Meter) error {
	count := func(ctx context.Context, o metric.Int64Observer) error {
		ctx, cancel := context.WithTimeout(ctx, asideAskTime)
		defer cancel()
		// Without an answer there is no number: an old one would lie.
		if n, err := b.CountAside(ctx); err == nil {
			o.Observe(int64(n))
		}
		return nil
	}
	_, err := meter.Int64ObservableGauge("axpchat.set_aside", metric.WithInt64Callback(count),
		metric.WithDescription("Entries of the stream ASIDE: what could not be worked for a fault of the connector. Every replica shows the same number."))
	return err
}

// AsideCommands are the subcommands for what was set aside. open connects to NATS, by
// the settings of the service, and says how to close it.
func AsideCommands(ctx context.Context, env lifecycle.Env, open func() (*bus.Bus, func() error, error)) []lifecycle.Subcommand {
	command := func(drop []uint64) (err error) {
		b, closeBus, err := open()
		if err != nil {
			return err
		}
		defer func() { err = closing(err, closeBus) }()
		return aside(ctx, b, env.Stdout, drop)
	}
	return []lifecycle.Subcommand{
		{Name: "list-aside", Help: "list what could not be worked for a fault of the connector, without what it says", Run: func() error { return command(nil) }},
		{Name: "drop-aside", Help: "erase entries of that list, which are named by their numbers", Args: true, Run: func() error {
			drop, err := numbers(env.Args[1:])
			if err != nil {
				return err
			}
			return command(drop)
		}},
	}
}

// closing keeps the first error.
func closing(err error, closeBus func() error) error {
	if closed := closeBus(); err == nil {
		err = closed
	}
	return err
}

func numbers(args []string) ([]uint64, error) {
	var out []uint64
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil || n == 0 {
			return nil, config.Errors{{Key: arg, Problem: "is no number of the list"}}
		}
		out = append(out, n)
	}
	if len(out) == 0 {
		return nil, config.Errors{{Key: "drop-aside", Problem: "needs the numbers of what to erase"}}
	}
	return out, nil
}

// aside lists what was set aside, oldest first, or erases what drop names. It tells
// nothing of what it says.
func aside(ctx context.Context, b *bus.Bus, out io.Writer, drop []uint64) error {
	for next := uint64(1); ; {
		rec, at, found, err := b.NextAside(ctx, next)
		if err != nil || !found {
			return err
		}
		next = at + 1
		what := "kept"
		switch {
		case slices.Contains(drop, at):
			what = "erased"
			if err := b.EraseMessage(ctx, bus.AsideStream, at); err != nil {
				return err
			}
		case len(drop) > 0:
			continue
		}
		_, err = fmt.Fprintf(out, "%d %s %s sequence %d (%d bytes), %s in version %s: %s\n",
			at, rec.GetAsideTime().AsTime().UTC().Format(time.RFC3339), rec.GetSubject(), rec.GetSequence(), len(rec.GetData()), rec.GetCause(), rec.GetVersion(), what)
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
}
