package orchestrator_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

// readiness is what the admin server says of the rig's orchestrator.
func (r *rig) readiness() func() (status int, health struct {
	Status     string
	Components map[string]string
}) {
	r.t.Helper()
	admin, err := telemetry.NewAdmin("127.0.0.1:0", false, telemetry.Nop(), lifecycle.Readiness(r.o.Components()...))
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	done := make(chan error, 1)
	go func() { done <- admin.Run(ctx) }()
	transport := &http.Transport{}
	r.t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("admin: %v", err)
		}
	})
	return func() (status int, health struct {
		Status     string
		Components map[string]string
	}) {
		r.t.Helper()
		req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+admin.Addr()+"/healthz/ready", nil)
		if err != nil {
			r.t.Fatal(err)
		}
		res, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			r.t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			r.t.Fatal(err)
		}
		if err := json.Unmarshal(body, &health); err != nil {
			r.t.Fatalf("%v: %s", err, body)
		}
		return res.StatusCode, health
	}
}

// TestAWrongSecretShowsInReadiness and keeps nobody from being served: messages
// are taken and held. It is asked again seldom, and all is well once it is mended.
func TestAWrongSecretShowsInReadiness(t *testing.T) {
	r := newRig(t, map[string]string{"AXP_BREAKER_OPEN": "50ms"})
	s, e := r.chat()
	r.stop()
	before := r.axp.Calls(axp.OpGenerateToken)
	r.axp.Fail(axp.OpGenerateToken, slices.Repeat([]axptest.Fault{{Status: http.StatusUnauthorized}}, 3)...)
	r.start(nil) // with a secret that AXP does not take any more
	look := r.readiness()
	part := "webhooks/" + axptest.AccountID
	r.await("it is ready, and the account is degraded", func() bool {
		status, h := look()
		return status == http.StatusOK && h.Components[part] != ""
	})
	status, h := look()
	if status != http.StatusOK || h.Status != "degraded" || !strings.HasPrefix(h.Components[part], "degraded: ") {
		t.Errorf("readiness is %d, %+v", status, h)
	}
	if strings.Contains(h.Components[part], "secret\"") || h.Components["orchestrator-grpc"] != "ok" {
		t.Errorf("components are %v", slices.Collect(maps.Values(h.Components)))
	}
	m := r.mustSend(e, "m-1", "hello")
	if n := r.axp.Calls(axp.OpGenerateToken) - before; n > 3 {
		t.Errorf("AXP was asked %d times for a token", n)
	}
	r.axp.Heal() // an operator has mended it
	r.event(s.GetSessionId(), m.GetMessageId()+".sent")
	r.await("all is well", func() bool { status, h := look(); return status == http.StatusOK && h.Status == "ok" })
}
