package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/webhook-ingest/internal/callback"
	"github.com/axpchat/connector/services/webhook-ingest/internal/route"
)

// UnroutedParams is what Unrouted needs; all of it is required.
type UnroutedParams struct {
	Config Config
	Log    *slog.Logger
	Bus    *bus.Bus
	// Out gets a line for each callback and the counts.
	Out io.Writer
	// Replay has those stored that can be routed; else they are only listed.
	Replay bool
}

// Unrouted goes through the callbacks that were set aside when it begins, oldest
// first, and tells what would become of each now, or has it done: those that can be
// routed are stored in their journals and leave the stream UNROUTED, the others
// stay. It tells nothing of what they say. It is safe to repeat, also beside the
// running service.
func Unrouted(ctx context.Context, p UnroutedParams) error {
	keys, err := keyring.New(p.Config.Keys)
	if err != nil {
		return fmt.Errorf("webhook-ingest: %w", err)
	}
	c := p.Config
	handler, err := callback.New(callback.Params{
		Keys:  keys,
		Store: p.Bus,
		// What is not known by now will not be in a moment.
		Router:    route.New(route.Params{Keys: keys, Index: p.Bus.Index}),
		Log:       p.Log,
		Providers: telemetry.Nop(),
		Limits: callback.Limits{
			Body: int64(c.MaxBody), StoreTimeout: c.StoreTimeout, Answer: answerLimit, Read: c.ReadTimeout, Concurrent: 1,
			Duplicates: p.Bus.Config().DuplicateWindow,
		},
		ChannelProviders: c.ChannelProviders,
		Waiting:          func(ctx context.Context) (uint64, error) { return waiting(ctx, p.Bus) },
	})
	if err != nil {
		return fmt.Errorf("webhook-ingest: %w", err)
	}
	stream, err := p.Bus.JS.Stream(ctx, bus.UnroutedStream)
	if err != nil {
		return fmt.Errorf("look at the stream %s: %w", bus.UnroutedStream, err)
	}
	counts, err := again(ctx, p, handler, stream.CachedInfo().State.LastSeq)
	for _, result := range slices.Sorted(maps.Keys(counts)) {
		_, printErr := fmt.Fprintf(p.Out, "%d %s\n", counts[result], result)
		err = errors.Join(err, printErr)
	}
	return err
}

// again tries every callback up to a sequence, and counts what became of them.
func again(ctx context.Context, p UnroutedParams, handler *callback.Handler, last uint64) (map[string]int, error) {
	counts := map[string]int{}
	for next := uint64(1); next <= last; {
		rec, sequence, found, err := p.Bus.NextUnrouted(ctx, next)
		if err != nil || !found || sequence > last {
			return counts, err
		}
		next = sequence + 1
		out, err := handler.Again(ctx, rec, !p.Replay)
		if err != nil {
			return counts, fmt.Errorf("callback %d: %w", sequence, err)
		}
		if out.Settled {
			if err := p.Bus.RemoveUnrouted(ctx, sequence); err != nil {
				return counts, err // it is stored; the next time it is a duplicate
			}
		}
		counts[out.Result]++
		_, err = fmt.Fprintf(p.Out, "%d %s %s %s set aside as %s: %s\n",
			sequence, rec.GetReceiveTime().AsTime().UTC().Format(time.RFC3339), rec.GetAccount(), out.EventType, rec.GetCause(), out.Result)
		if err != nil {
			return counts, fmt.Errorf("print: %w", err)
		}
	}
	return counts, nil
}
