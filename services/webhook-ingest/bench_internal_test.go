package ingest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/logx"
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
// they run, less the connection and the store: one with the right key, and one with
// a wrong key, of which there may be a flood. Making the request, which the server
// does otherwise, is less than a kilobyte and six allocations of it.
func BenchmarkHandler(b *testing.B) {
	h, path, body := benchHandler(b)
	for _, c := range []struct {
		name, path string
		want       int
	}{{"right key", path, http.StatusOK}, {"wrong key", path[:len(path)-1] + "~", http.StatusNotFound}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, c.path, strings.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				r.RemoteAddr = "203.0.113.9:4711"
				w := answers{header: http.Header{}}
				if h.ServeHTTP(&w, r); w.status != c.want {
					b.Fatalf("status %d", w.status)
				}
			}
		})
	}
}

// BenchmarkServer is the same over a real connection, which is kept where the
// server keeps it.
func BenchmarkServer(b *testing.B) {
	h, path, body := benchHandler(b)
	lis, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := httpx.NewServer("bench", lis, h, httpx.ServerConfig{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() { cancel(); <-done }()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for _, c := range []struct {
		name, path string
		want       int
	}{{"right key", path, http.StatusOK}, {"wrong key", path[:len(path)-1] + "~", http.StatusNotFound}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://"+server.Addr()+c.path, strings.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				res, err := transport.RoundTrip(r)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != c.want {
					b.Fatalf("status %d", res.StatusCode)
				}
			}
		})
	}
}

// benchHandler is the service's handler with the log of production, and a callback
// for it.
func benchHandler(b testing.TB) (h http.Handler, path, body string) {
	b.Helper()
	const account = "QRSTUV"
	keys, err := keyring.New(keyring.Config{Secret: config.Secret("a secret of this benchmark")})
	if err != nil {
		b.Fatal(err)
	}
	providers, err := telemetry.Setup(b.Context(), "webhook-ingest", "bench")
	if err != nil {
		b.Fatal(err)
	}
	log := logx.New(io.Discard, logx.Config{}, "webhook-ingest")
	handler, err := callback.New(callback.Params{
		Keys:      keys,
		Router:    route.New(route.Params{Keys: keys}),
		Store:     memory{},
		Log:       log,
		Providers: providers,
		Limits:    callback.Limits{Body: 1 << 20, Read: 3 * time.Second, StoreTimeout: time.Second, Answer: 4 * time.Second, Concurrent: 8, Duplicates: 24 * 365 * 100 * time.Hour},
		Waiting:   func(context.Context) (uint64, error) { return 0, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	sample, err := os.ReadFile(filepath.Join("..", "internal", "normalise", "testdata", "events", "message-customer-echo.json"))
	if err != nil {
		b.Fatal(err)
	}
	body = strings.ReplaceAll(string(sample), "lumen-dialog-9001",
		keys.MintDialogID(account, "0197a1b2-0000-7000-8000-0000000000aa", "0197a1b2-0000-7000-8000-0000000000bb"))
	return routes(Params{Config: Config{ReadTimeout: 3 * time.Second}, Log: log, Providers: providers}, handler), keyring.CallbackPath(account) + keys.CallbackKey(account), body
}

// TestAWrongKeyIsMuchCheaperThanARightOne: whoever sends wrong keys must spend more
// on them than we do.
func TestAWrongKeyIsMuchCheaperThanARightOne(t *testing.T) {
	h, path, body := benchHandler(t)
	allocations := func(path string) float64 {
		return testing.AllocsPerRun(200, func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.RemoteAddr = "203.0.113.9:4711"
			h.ServeHTTP(&answers{header: http.Header{}}, r)
		})
	}
	right, wrong := allocations(path), allocations(path[:len(path)-1]+"~")
	if wrong*3 > right {
		t.Errorf("a wrong key makes %.0f allocations, a right one %.0f", wrong, right)
	}
}
