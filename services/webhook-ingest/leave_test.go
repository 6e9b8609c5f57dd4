package ingest_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	ingest "github.com/axpchat/connector/services/webhook-ingest"
)

// TestLeavingWhileNATSAnswersNothingIsClean, long before the grace is over.
func TestLeavingWhileNATSAnswersNothingIsClean(t *testing.T) {
	s, err := natsembed.Start(t.TempDir(), natsembed.Options{Name: "test", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	bustest.Connect(t, s, bustest.Config())
	link := bustest.NewLink(t, strings.TrimPrefix(s.ClientURL(), "nats://"))
	busConfig := bustest.Config()
	busConfig.URL = link.URL()
	log := slog.New(slog.DiscardHandler)
	b, err := bus.Connect(t.Context(), bus.Params{Config: busConfig, Name: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i, err := ingest.New(t.Context(), ingest.Params{Config: settings(t, nil), Log: log, Providers: telemetry.Nop(), Bus: b, Listener: lis})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	const grace = 10 * time.Second
	go func() { done <- lifecycle.Run(ctx, log, grace, i) }()
	await.Until(t, "it is ready", func() bool { return i.Ready(t.Context()) == nil })
	link.Set(false, true)
	began := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("left with %v", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("close the bus: %v", err)
	}
	if took := time.Since(began); took > grace {
		t.Errorf("left after %s", took)
	}
}
