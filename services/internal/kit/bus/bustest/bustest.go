// Package bustest starts a real NATS server with JetStream inside a test and
// connects a provisioned bus to it. For tests only.
package bustest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
)

// Config is a small configuration that fits tests; change what a test needs.
func Config() bus.Config {
	cfg := bus.Config{}
	empty := config.Sources{
		Lookup:   func(string) (string, bool) { return "", false },
		ReadFile: func(string) ([]byte, error) { return nil, nil },
	}
	if err := config.Load(&cfg, empty); err != nil {
		panic(err) // a default that its own rules refuse
	}
	cfg.Partitions = 4
	return cfg
}

// Server starts a server of the test's own, in memory-backed temporary files.
func Server(t testing.TB) *natsembed.Server {
	t.Helper()
	s, err := natsembed.Start(t.TempDir(), natsembed.Options{Name: "test"})
	if err != nil {
		t.Fatalf("start NATS: %v", err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// Connect connects a bus to a server and provisions it.
func Connect(t testing.TB, s *natsembed.Server, cfg bus.Config) *bus.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := bus.Connect(ctx, bus.Params{
		Config: cfg, Name: t.Name(), Log: slog.New(slog.DiscardHandler), Options: []nats.Option{s.InProcess()},
	})
	if err != nil {
		t.Fatalf("connect to NATS: %v", err)
	}
	t.Cleanup(func() { _ = b.Close() }) // the server may be gone already, on purpose
	if err := b.Provision(ctx); err != nil {
		t.Fatalf("provision: %v", err)
	}
	return b
}

// Start is Server and Connect with the small configuration.
func Start(t testing.TB) *bus.Bus {
	t.Helper()
	return Connect(t, Server(t), Config())
}
