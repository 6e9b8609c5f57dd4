package ingest

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/webhook-ingest/internal/callback"
	"github.com/axpchat/connector/services/webhook-ingest/internal/route"
)

// memory takes every event and keeps none.
type memory struct{}

func (memory) PublishEvent(context.Context, *busv1.EventRecord) (bus.Ack, error) {
	return bus.Ack{Sequence: 1}, nil
}

func (memory) PublishUnrouted(context.Context, *busv1.UnroutedRecord, string) (bus.Ack, error) {
	return bus.Ack{Sequence: 1}, nil
}

func (memory) ReadEvents(context.Context, string, string, uint64, int) ([]bus.StoredEvent, bool, error) {
	return nil, false, nil
}

// answers is a caller that reads nothing but the status.
type answers struct {
	header http.Header
	status int
}

func (a *answers) Header() http.Header         { return a.header }
func (a *answers) Write(p []byte) (int, error) { return len(p), nil }
func (a *answers) WriteHeader(status int)      { a.status = status }

// BenchmarkHandler takes one callback through the middleware and the handler, as
// they run, less the connection and the store. Making the request, which the
// server does otherwise, is less than a kilobyte and six allocations of it.
func BenchmarkHandler(b *testing.B) {
	const account = "QRSTUV"
	keys, err := keyring.New(keyring.Config{Secret: config.Secret("a secret of this benchmark")})
	if err != nil {
		b.Fatal(err)
	}
	providers, err := telemetry.Setup(b.Context(), "webhook-ingest", "bench")
	if err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	handler, err := callback.New(callback.Params{
		Keys:      keys,
		Router:    route.New(route.Params{Keys: keys}),
		Store:     memory{},
		Log:       log,
		Providers: providers,
		Limits:    callback.Limits{Body: 1 << 20, StoreTimeout: time.Second, Answer: 4 * time.Second, Concurrent: 8, Duplicates: 24 * 365 * 100 * time.Hour},
		Waiting:   func(context.Context) (uint64, error) { return 0, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	sample, err := os.ReadFile(filepath.Join("..", "internal", "normalise", "testdata", "events", "message-customer-echo.json"))
	if err != nil {
		b.Fatal(err)
	}
	body := strings.ReplaceAll(string(sample), "lumen-dialog-9001",
		keys.MintDialogID(account, "0197a1b2-0000-7000-8000-0000000000aa", "0197a1b2-0000-7000-8000-0000000000bb"))
	h := routes(Params{Log: log, Providers: providers}, handler)
	path := keyring.CallbackPath(account) + keys.CallbackKey(account)
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, path, strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		r.RemoteAddr = "203.0.113.9:4711"
		w := answers{header: http.Header{}}
		if h.ServeHTTP(&w, r); w.status != http.StatusOK {
			b.Fatalf("status %d", w.status)
		}
	}
}
