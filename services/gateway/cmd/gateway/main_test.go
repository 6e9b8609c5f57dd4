package main

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/axpchat/connector/services/internal/kit/lifecycle/lifecycletest"
)

// TestItRefusesToTalkInTheOpen checks that TLS to the orchestrator is off only
// where somebody said so.
func TestItRefusesToTalkInTheOpen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		vars map[string]string
		want []string
	}{
		{"another machine", map[string]string{"ORCHESTRATOR_ADDR": "orchestrator:8083"}, []string{"GRPC_CLIENT_TLS_CA_FILE", "GRPC_CLIENT_TLS_CERT_FILE", "GRPC_CLIENT_TLS_KEY_FILE"}},
		{"another machine, by choice", map[string]string{"ORCHESTRATOR_ADDR": "orchestrator:8083", "INTERNAL_TLS": "off"}, nil},
		{"another machine, by mistake", map[string]string{"ORCHESTRATOR_ADDR": "orchestrator:8083", "INTERNAL_TLS": "of"}, []string{"INTERNAL_TLS"}},
		{"the same machine", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			vars := map[string]string{"NATS_URL": "nats://127.0.0.1:1", "AUTH_HS256_SECRET": "0123456789abcdef0123456789abcdef"}
			maps.Copy(vars, c.vars)
			if diff := cmp.Diff(c.want, lifecycletest.Mistakes(t, run, vars)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
