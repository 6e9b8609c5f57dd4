package suitetest

import (
	"context"
	"testing"
	"time"

	"github.com/axpchat/connector/services/connector"
	"github.com/axpchat/connector/services/connector/dev"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

// Start runs the suite in this process, as connector-dev does, on free ports
// and with data of its own; the automatic agent is off. Changes are made to the
// configuration before it starts.
func Start(t testing.TB, changes ...func(*dev.Config)) *Suite {
	t.Helper()
	return StartAt(t, t.TempDir(), changes...)
}

// StartAt is Start with a data directory of the caller's.
func StartAt(t testing.TB, dir string, changes ...func(*dev.Config)) *Suite {
	t.Helper()
	cfg := dev.Defaults()
	for _, addr := range []*string{
		&cfg.Connector.AdminAddr, &cfg.Connector.Gateway.GRPCAddr, &cfg.Connector.Gateway.HTTPAddr,
		&cfg.Connector.Ingest.Addr, &cfg.Sandbox.Addr,
	} {
		*addr = "127.0.0.1:0"
	}
	cfg.Connector.DataDir = dir
	cfg.Connector.Ingest.Keys.Secret, cfg.Connector.Orchestrator.Keyring.Secret = WebhookSecret, WebhookSecret
	cfg.Connector.Gateway.Auth.HS256Secret, cfg.Sandbox.TokenSecret = TokenSecret, TokenSecret
	cfg.Connector.Bus.Partitions = 4
	cfg.Sandbox.RetryDelay = 300 * time.Millisecond
	if err := config.Load(&cfg, config.Map(map[string]string{"SANDBOX_AUTO_AGENT": "false", "SHUTDOWN_GRACE": "10s"})); err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(&cfg)
	}
	logs := &logtest.Records{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	log := logx.New(logs, logx.Config{Level: "debug"}, "connector-dev")
	providers := telemetry.Nop()
	started, ended := make(chan struct{}), make(chan error, 1)
	c, box, err := dev.New(ctx, cfg, connector.Params{
		Log: log, Providers: providers, Started: func(*connector.Connector) { close(started) },
	})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	s := &Suite{
		HTTP: dev.URL(c.HTTPAddr()), GRPC: c.GRPCAddr(), Webhook: dev.URL(c.WebhookAddr()),
		Sandbox: dev.URL(box.Addr()), Admin: dev.URL(c.AdminAddr()), Logs: logs,
	}
	stopped := false
	s.Stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the suite did not end cleanly: %v", err)
		}
		if t.Failed() {
			t.Logf("--- logs of the suite ---\n%s", tail(logs.String(), 8000))
		}
	}
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(s.Stop)
	select {
	case <-started:
	case err := <-ended:
		ended <- err
		t.Fatalf("the suite ended at its start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the suite did not start within a minute")
	}
	return s
}
