package orchestrator_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

// TestOnlyTheGatewayMayCall lets every service of a deployment have a certificate
// of the same authority, as they do, and only the gateway in.
func TestOnlyTheGatewayMayCall(t *testing.T) {
	a := tlsxtest.NewAuthority(t)
	own := tlsxtest.Files(t, a.Issue([]string{"127.0.0.1"}), a)
	cfg, err := load(variables(axptest.Start(t).URL, map[string]string{
		"ORCHESTRATOR_GRPC_ADDR": "127.0.0.1:0", "ORCHESTRATOR_ALLOWED_CLIENTS": "gateway.chat.svc",
		"GRPC_TLS_CERT_FILE": own.Cert, "GRPC_TLS_KEY_FILE": own.Key, "GRPC_TLS_CLIENT_CA_FILE": own.CA,
	}))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	o, err := orchestrator.New(t.Context(), orchestrator.Params{Config: cfg, Log: log, Bus: bustest.Connect(t, bustest.Server(t), cfg.Bus)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- lifecycle.Run(ctx, log, 10*time.Second, o.Components()...) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}()
	create := func(f tlsx.Files) error {
		conn, err := grpcx.Dial(o.Addr().String(), grpcx.ClientConfig{CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA}, log, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err = orchestratorv1.NewOrchestratorServiceClient(conn).CreateSession(ctx, &orchestratorv1.CreateSessionRequest{Caller: ada, Request: &axpchatv1.CreateSessionRequest{}})
		return err
	}
	if err := create(tlsxtest.Files(t, a.Issue([]string{"gateway.chat.svc"}), a)); err != nil {
		t.Errorf("the gateway: %v", err)
	}
	err = create(tlsxtest.Files(t, a.Issue([]string{"webhook-ingest.chat.svc"}), a))
	if !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE) || !strings.Contains(err.Error(), "the caller's certificate is not one that may call here") {
		t.Errorf("another service: %v", err)
	}
	if err := create(tlsxtest.Files(t, tlsxtest.Pair{}, a)); err == nil {
		t.Error("somebody without a certificate got in")
	}
}
