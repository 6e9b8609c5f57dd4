// Package suitetest boots the whole suite for tests, in one process or as
// separate processes over a standalone NATS server, with the sandbox in AXP's
// place, and acts as the people around it: customers' tokens, an agent at the
// desk. For tests only.
package suitetest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
)

// Secrets that only tests use.
const (
	WebhookSecret = "suitetest-webhook-secret-0123456789"
	TokenSecret   = "suitetest-token-secret-0123456789abcdef"
	Account       = "SANDBX"
	Provider      = "sandbox-chat"
)

// Suite is a running suite with its addresses.
type Suite struct {
	HTTP    string   // gateway, as http://host:port
	GRPC    string   // gateway, as host:port
	Webhook string   // webhook-ingest, as http://host:port
	Sandbox string   // AXP sandbox, as http://host:port
	Admin   string   // an admin port, as http://host:port
	Admins  []string // the admin ports of separate processes

	Logs *logtest.Records // of the one process
	Stop func()           // ends the one process; the test's end does it, too

	Gateway, Orchestrator, Ingest, SandboxProcess, NATS *Process // nil in one process
	env                                                 map[string]string
	bin                                                 string
	natsURL                                             string
}

// Environment is what the separate processes are started with, and more: key,
// value, key, value. For commands that are called beside them.
func (s *Suite) Environment(more ...string) []string {
	var out []string
	for k, v := range s.env {
		out = append(out, k+"="+v)
	}
	for i := 0; i < len(more); i += 2 {
		out = append(out, more[i]+"="+more[i+1])
	}
	return out
}

// Bin is the folder of the separate processes' commands.
func (s *Suite) Bin() string { return s.bin }

// NATSURL is the address of the separate processes' NATS server.
func (s *Suite) NATSURL() string { return s.natsURL }

// Desk is the sandbox's agent desk, with an agent of that name.
func (s *Suite) Desk(name string) Desk { return Desk{URL: s.Sandbox, Name: name} }

// StartProcesses runs NATS, the three services and the sandbox as processes of
// their own, as in production; the automatic agent is off. Settings are added to
// the environment of all of them: key, value, key, value.
func StartProcesses(t testing.TB, settings ...string) *Suite {
	t.Helper()
	bin := Binaries(t, "./gateway/cmd/gateway", "./session-orchestrator/cmd/session-orchestrator",
		"./webhook-ingest/cmd/webhook-ingest", "./axp-sandbox/cmd/axp-sandbox", "github.com/nats-io/nats-server/v2")
	ports := &Ports{}
	port := func() string {
		addr, err := ports.Addr()
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
	natsAddr, sandbox, grpcAddr, httpAddr, hook, orch := port(), port(), port(), port(), port(), port()
	adminGateway, adminIngest, adminOrch := port(), port(), port()
	_, natsPort, _ := net.SplitHostPort(natsAddr)
	s := &Suite{
		HTTP: "http://" + httpAddr, GRPC: grpcAddr, Webhook: "http://" + hook, Sandbox: "http://" + sandbox,
		Admin: "http://" + adminGateway, bin: bin, natsURL: "nats://" + natsAddr,
		Admins: []string{"http://" + adminGateway, "http://" + adminIngest, "http://" + adminOrch},
	}
	s.env = map[string]string{
		"NATS_URL": s.natsURL, "OUTBOX_PARTITIONS": "4", "LOG_LEVEL": "debug",
		"AUTH_HS256_SECRET": TokenSecret, "AUTH_ISSUER": "axp-sandbox", "AUTH_AUDIENCE": "axp-chat-connector",
		"WEBHOOK_SECRET": WebhookSecret, "WEBHOOK_PUBLIC_URL": s.Webhook,
		"AXP_BASE_URL": s.Sandbox, "AXP_ACCOUNT_ID": Account, "AXP_CLIENT_ID": "sandbox-client",
		"AXP_CLIENT_SECRET": "sandbox-secret", "AXP_APP_KEY": "sandbox-appkey", "AXP_CHANNEL_PROVIDER_ID": Provider,
		"ORCHESTRATOR_ADDR": orch, "ORCHESTRATOR_GRPC_ADDR": orch,
		"GATEWAY_GRPC_ADDR": grpcAddr, "GATEWAY_HTTP_ADDR": httpAddr, "WEBHOOK_ADDR": hook,
		"SANDBOX_ADDR": sandbox, "SANDBOX_AUTO_AGENT": "false", "SANDBOX_RETRY_DELAY": "300ms",
	}
	for i := 0; i < len(settings); i += 2 {
		s.env[settings[i]] = settings[i+1]
	}
	s.Sandbox = "http://" + s.env["SANDBOX_ADDR"]
	with := func(extra ...string) map[string]string {
		env := map[string]string{}
		maps.Copy(env, s.env)
		for i := 0; i < len(extra); i += 2 {
			env[extra[i]] = extra[i+1]
		}
		return env
	}
	s.NATS = StartProcess(t, "nats-server", filepath.Join(bin, "nats-server"), nil, "-c", natsConfig(t, natsPort))
	s.SandboxProcess = StartProcess(t, "axp-sandbox", filepath.Join(bin, "axp-sandbox"), with())
	WaitReady(t, s.SandboxProcess, s.Sandbox+"/control/state")
	s.Orchestrator = StartProcess(t, "session-orchestrator", filepath.Join(bin, "session-orchestrator"), with("ADMIN_ADDR", adminOrch))
	s.Ingest = StartProcess(t, "webhook-ingest", filepath.Join(bin, "webhook-ingest"), with("ADMIN_ADDR", adminIngest))
	s.Gateway = StartProcess(t, "gateway", filepath.Join(bin, "gateway"), with("ADMIN_ADDR", adminGateway))
	WaitReady(t, s.Orchestrator, "http://"+adminOrch+"/healthz/ready")
	WaitReady(t, s.Ingest, "http://"+adminIngest+"/healthz/ready")
	WaitReady(t, s.Gateway, "http://"+adminGateway+"/healthz/ready")
	return s
}

// natsConfig is the file of a server that keeps as much as streams reserve: what it
// would offer by itself is a share of what is free on this disk today.
func natsConfig(t testing.TB, port string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:%s\"\njetstream { store_dir: %q, max_file_store: 4GB }\n", port, t.TempDir())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// CallbackURL is where the connector has asked AXP to call; it waits until it has.
func (s *Suite) CallbackURL(ctx context.Context, t testing.TB) string {
	t.Helper()
	var state struct {
		Subscriptions []struct {
			CallbackURL string `json:"callbackUrl"`
		} `json:"subscriptions"`
	}
	err := Await(ctx, "the webhook subscription", func(ctx context.Context) (bool, error) {
		err := CallJSON(ctx, http.MethodGet, s.Sandbox+"/control/state", "", nil, &state)
		return len(state.Subscriptions) > 0, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return state.Subscriptions[0].CallbackURL
}
