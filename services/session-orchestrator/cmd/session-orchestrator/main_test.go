package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/lifecycle/lifecycletest"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs the command and returns the address of its admin server, what it
// has logged so far, and a function that ends it.
func start(t *testing.T, vars map[string]string) (admin string, logged *bytes.Buffer, end func() error) {
	t.Helper()
	r, w := io.Pipe()
	env := lifecycle.Env{Name: "session-orchestrator", Stdout: io.Discard, Stderr: w, Sources: config.Sources{
		Lookup:   func(key string) (string, bool) { v, ok := vars[key]; return v, ok },
		ReadFile: func(string) ([]byte, error) { return nil, nil },
	}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		err := run(ctx, env)
		_ = w.Close()
		done <- err
	}()
	logged = &bytes.Buffer{}
	lines, found := bufio.NewScanner(r), make(chan string, 1)
	lines.Buffer(nil, 1<<20)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines.Scan() {
			logged.Write(lines.Bytes())
			var record struct{ Msg, Admin string }
			if json.Unmarshal(lines.Bytes(), &record) == nil && record.Msg == "listening" {
				found <- record.Admin
			}
		}
	}()
	end = func() error {
		cancel()
		<-read
		return <-done
	}
	select {
	case admin = <-found:
	case <-read:
		t.Fatalf("it ended: %v\n%s", <-done, logged)
	case <-time.After(20 * time.Second):
		t.Fatal("it does not listen")
	}
	return admin, logged, end
}

func get(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func TestTheCommandBecomesReadyAndEndsCleanly(t *testing.T) {
	nats, err := natsembed.Start(t.TempDir(), natsembed.Options{Name: "test", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Shutdown)
	double := axptest.Start(t)
	admin, logged, end := start(t, map[string]string{
		"NATS_URL": nats.ClientURL(), "ORCHESTRATOR_GRPC_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0",
		"AXP_BASE_URL": double.URL, "AXP_ACCOUNT_ID": axptest.AccountID, "AXP_CLIENT_ID": "client",
		"AXP_CLIENT_SECRET": "very-secret-of-client", "AXP_APP_KEY": "very-secret-key", "AXP_CHANNEL_PROVIDER_ID": axptest.ProviderID,
		"WEBHOOK_PUBLIC_URL": "https://chat.example.com", "WEBHOOK_SECRET": "very-secret-0123456789",
	})
	await.Until(t, "readiness", func() bool { return get(t, "http://"+admin+"/healthz/ready") == http.StatusOK })
	if err := end(); err != nil {
		t.Errorf("end: %v", err)
	}
	if bytes.Contains(logged.Bytes(), []byte("very-secret")) {
		t.Error("a secret was logged")
	}
}

func TestTheCommandNamesWhatIsMissing(t *testing.T) {
	err := run(t.Context(), lifecycle.Env{Name: "session-orchestrator", Stdout: io.Discard, Stderr: io.Discard, Sources: config.Sources{
		Lookup:   func(string) (string, bool) { return "", false },
		ReadFile: func(string) ([]byte, error) { return nil, nil },
	}})
	if err == nil {
		t.Error("it runs without a configuration")
	}
}

// TestItRefusesToTalkInTheOpen checks that TLS with the gateway is off only where
// somebody said so.
func TestItRefusesToTalkInTheOpen(t *testing.T) {
	files := []string{"GRPC_TLS_CERT_FILE", "GRPC_TLS_CLIENT_CA_FILE", "GRPC_TLS_KEY_FILE"}
	for _, c := range []struct {
		name string
		vars map[string]string
		want []string
	}{
		{"on every interface", nil, files},
		{"by choice", map[string]string{"INTERNAL_TLS": "off"}, nil},
		{"on this machine", map[string]string{"ORCHESTRATOR_GRPC_ADDR": "127.0.0.1:8083"}, nil},
		{"with certificates", map[string]string{files[0]: "c", files[1]: "a", files[2]: "k"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			vars := map[string]string{
				"NATS_URL": "nats://127.0.0.1:1", "AXP_BASE_URL": "https://axp.example.com", "AXP_ACCOUNT_ID": axptest.AccountID, "AXP_CLIENT_ID": "client",
				"AXP_CLIENT_SECRET": "secret", "AXP_APP_KEY": "key", "AXP_CHANNEL_PROVIDER_ID": axptest.ProviderID,
				"WEBHOOK_PUBLIC_URL": "https://chat.example.com", "WEBHOOK_SECRET": "very-secret-0123456789",
			}
			maps.Copy(vars, c.vars)
			if diff := cmp.Diff(c.want, lifecycletest.Mistakes(t, run, vars)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProvisionNeedsNothingOfAXP(t *testing.T) {
	server, err := natsembed.Start(t.TempDir(), natsembed.Options{Name: "test", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	for _, vars := range []map[string]string{{}, {"NATS_URL": server.ClientURL(), "NATS_MANAGE_STREAMS": "false"}} {
		var logged bytes.Buffer
		err := run(t.Context(), lifecycle.Env{
			Name: "session-orchestrator", Args: []string{"provision"}, Stdout: io.Discard, Stderr: &logged, Sources: config.Map(vars),
		})
		if (err == nil) != (len(vars) > 0) {
			t.Errorf("with %v: %v\n%s", vars, err, &logged)
		}
	}
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{bus.EventsStream, bus.OutboxStream, bus.UnroutedStream, bus.TimersStream, "KV_" + bus.TicketsBucket} {
		if _, err := js.Stream(t.Context(), stream); err != nil {
			t.Errorf("%s: %v", stream, err)
		}
	}
}
