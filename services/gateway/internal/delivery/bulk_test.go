package delivery

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

// TestManyCatchUpsAtOnce: a pod comes back and everybody attaches at the same
// moment, with cursors of all ages. Each gets what it has missed, once and in
// order, and the journal is looked at for many at a time.
func TestManyCatchUpsAtOnce(t *testing.T) {
	const sessions, rounds = 400, 6
	b := bustest.Start(t)
	reader := sdkmetric.NewManualReader()
	cfg := testConfig()
	cfg.CatchUps = 1
	e, err := New(Params{Config: cfg, Bus: b, Log: slog.New(slog.DiscardHandler), Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	sequences := make([][]uint64, sessions) // of each session's events
	for r := range rounds {
		for i := range sessions {
			sequences[i] = append(sequences[i], publish(t, b, fmt.Sprint("s", i), fmt.Sprintf("e%d-%d", i, r), "text"))
		}
	}
	info, err := b.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var group sync.WaitGroup
	for i := range sessions {
		key := bus.SessionKey{Account: account, Session: fmt.Sprint("s", i)}
		seen := i % (rounds + 1) // how many events this client has: from none to all
		at := cursor{epoch: info.Epoch, tag: sessionTag(key)}
		if seen > 0 {
			at.sequence = sequences[i][seen-1]
		}
		group.Go(func() {
			s, err := e.Attach(ctx, Request{Session: key, Cursor: at.String(), Created: time.Now()})
			if err != nil {
				t.Errorf("attach: %v", err)
				return
			}
			defer s.Close()
			var got []uint64
			for caughtUp := s.CaughtUp(); caughtUp != nil; {
				select {
				case <-caughtUp:
					caughtUp = nil
				case <-s.Wake():
				case <-ctx.Done():
					t.Errorf("session %d: not caught up", i)
					return
				}
				for ev, ok := s.Take(); ok; ev, ok = s.Take() {
					got = append(got, ev.GetSequence())
				}
			}
			if want := sequences[i][seen:]; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("session %d: got %v, want %v", i, got, want)
			}
		})
	}
	group.Wait()
	looked := commonLooks(t, reader)
	if looked[true] == 0 || looked[false] == 0 {
		t.Errorf("looks for many at once: %v; want some with and some without news", looked)
	}
}

// commonLooks is how many subscriptions a common look has answered, by whether
// there was something new.
func commonLooks(t *testing.T, reader sdkmetric.Reader) map[bool]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	out := map[bool]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if !ok || m.Name != "axpchat.delivery.common_looks" {
				continue
			}
			for _, p := range sum.DataPoints {
				news, _ := p.Attributes.Value("new")
				out[news.AsBool()] = p.Value
			}
		}
	}
	return out
}

func TestWhatIsWorthOnePass(t *testing.T) {
	many := func(n int, at uint64) (all []reading) {
		for range n {
			all = append(all, reading{at: at, last: 100_000})
		}
		return all
	}
	for _, c := range []struct {
		name   string
		behind []reading
		want   int
	}{
		{"nobody", nil, 0},
		{"too few", many(scanLeast-1, 99_990), 0},
		{"many, close to the end", many(1000, 99_000), 1000},
		{"many, but far behind", many(100, 10), 0},
		{"enough to make up for the distance", many(600, 10), 600},
		{"those far behind read alone", append(many(5, 10), many(100, 99_000)...), 100},
	} {
		got := worthScanning(c.behind)
		if len(got) != c.want {
			t.Errorf("%s: %d, want %d", c.name, len(got), c.want)
		}
		for _, r := range got {
			if c.want == 100 && r.at != 99_000 {
				t.Errorf("%s: a pass from %d", c.name, r.at)
			}
		}
	}
}
