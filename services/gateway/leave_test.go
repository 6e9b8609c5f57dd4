package gateway_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

// TestLeavingWhileNATSAnswersNothingIsClean: clients are told to move as ever.
func TestLeavingWhileNATSAnswersNothingIsClean(t *testing.T) {
	server, err := natsembed.Start(t.TempDir(), natsembed.Options{Name: "test", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	s := startOn(t, bustest.Connect(t, server, bustest.Config()), nil)
	s.session("leaving")
	link := bustest.NewLink(t, strings.TrimPrefix(server.ClientURL(), "nats://"))
	cfg := bustest.Config()
	cfg.URL = link.URL()
	log := slog.New(slog.DiscardHandler)
	b, err := bus.Connect(t.Context(), bus.Params{Config: cfg, Name: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	forGRPC, forHTTP := sockets(t), sockets(t)
	gw, err := gateway.New(t.Context(), gateway.Params{
		Config: testConfig(t, nil), Log: log, Providers: telemetry.Nop(), Bus: b,
		Orchestrator: s.orchestrator.serve(t), GRPCListener: forGRPC.Listener, HTTPListener: forHTTP.Listener,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.base = "http://" + gw.HTTPAddr()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	const grace = 10 * time.Second
	go func() { done <- lifecycle.Run(ctx, log, grace, gw) }()
	f := mustOpen(t, s, transports()[4], token(t, subject, nil), "leaving", "")
	want(t, f, "welcome", func(r *axpchatv1.ConnectResponse) (*axpchatv1.Welcome, bool) {
		return r.GetWelcome(), r.GetWelcome() != nil
	})
	link.Set(false, true)
	began := time.Now()
	cancel()
	want(t, f, "go_away", func(r *axpchatv1.ConnectResponse) (*axpchatv1.GoAway, bool) {
		return r.GetGoAway(), r.GetGoAway() != nil
	})
	wantClose(t, f, axpchatv1.CloseCode_CLOSE_CODE_SERVER_SHUTDOWN)
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
