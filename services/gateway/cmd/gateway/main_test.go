package main

import (
	"errors"
	"io"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
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
			err := run(t.Context(), lifecycle.Env{Name: "gateway", Args: []string{"config", "check"}, Stdout: io.Discard, Stderr: io.Discard, Sources: config.Sources{
				Lookup:   func(key string) (string, bool) { v, ok := vars[key]; return v, ok },
				ReadFile: func(string) ([]byte, error) { return nil, nil },
			}})
			var mistakes config.Errors
			if errors.As(err, &mistakes) != (err != nil) {
				t.Fatalf("got %v", err)
			}
			var keys []string
			for _, m := range mistakes {
				keys = append(keys, m.Key)
			}
			slices.Sort(keys)
			if diff := cmp.Diff(c.want, keys); diff != "" {
				t.Error(diff)
			}
		})
	}
}
