package e2e

import (
	"context"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// TestStoryWithAUserForEachService tells the whole chat over a NATS server of
// deploy/nats: every process with a certificate of its own, and just the rights
// that come with it. Nothing may be denied to anybody.
func TestStoryWithAUserForEachService(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs six processes")
	}
	s := startSecured(t)
	t.Run("story", func(t *testing.T) { tellStory(t, s.Suite) })
	for name, p := range map[string]*suitetest.Process{"gateway": s.Gateway, "session-orchestrator": s.Orchestrator, "webhook-ingest": s.Ingest} {
		if strings.Contains(p.Log(), "NATS denies") {
			t.Errorf("%s was denied something", name)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, admin := range s.admins {
		if _, metrics := suitetest.Page(ctx, t, admin+"/metrics"); strings.Contains(metrics, "axpchat_nats_denied") || !strings.Contains(metrics, "# ") {
			t.Errorf("%s counts denials, or nothing", admin)
		}
		if status, why := suitetest.Page(ctx, t, admin+"/healthz/ready"); status != http.StatusOK {
			t.Errorf("%s is not ready: %s", admin, why)
		}
	}
}

// secured is a suite over the shipped configuration of NATS.
type secured struct {
	*suitetest.Suite
	t    *testing.T
	bin  string
	ca   *tlsxtest.Authority
	nats string // address
	// admins are the admin ports of gateway, webhook-ingest and session-orchestrator.
	admins []string
}

func startSecured(t *testing.T) *secured {
	t.Helper()
	addr := freeAddrs(t, 9)
	natsAddr, sandbox, grpcAddr, httpAddr, hook, orch := addr[0], addr[1], addr[2], addr[3], addr[4], addr[5]
	s := &secured{t: t, ca: tlsxtest.NewAuthority(t), nats: natsAddr, Suite: &suitetest.Suite{
		HTTP: "http://" + httpAddr, GRPC: grpcAddr, Webhook: "http://" + hook, Sandbox: "http://" + sandbox,
		Admin: "http://" + addr[6],
	}, admins: []string{"http://" + addr[6], "http://" + addr[7], "http://" + addr[8]}}
	s.bin = suitetest.Binaries(t, "./gateway/cmd/gateway", "./session-orchestrator/cmd/session-orchestrator",
		"./webhook-ingest/cmd/webhook-ingest", "./axp-sandbox/cmd/axp-sandbox", "github.com/nats-io/nats-server/v2")
	s.startNATS()
	axp := map[string]string{
		"AXP_BASE_URL": s.Sandbox, "AXP_ACCOUNT_ID": suitetest.Account, "AXP_CLIENT_ID": "sandbox-client",
		"AXP_CLIENT_SECRET": "sandbox-secret", "AXP_APP_KEY": "sandbox-appkey", "AXP_CHANNEL_PROVIDER_ID": suitetest.Provider,
	}
	tokens := map[string]string{"AUTH_HS256_SECRET": suitetest.TokenSecret, "AUTH_ISSUER": "axp-sandbox", "AUTH_AUDIENCE": "axp-chat-connector"}
	hooks := map[string]string{"WEBHOOK_SECRET": suitetest.WebhookSecret, "WEBHOOK_PUBLIC_URL": s.Webhook}
	s.SandboxProcess = suitetest.StartProcess(t, "axp-sandbox", filepath.Join(s.bin, "axp-sandbox"), join(axp, tokens, hooks, map[string]string{
		"SANDBOX_ADDR": sandbox, "SANDBOX_AUTO_AGENT": "false", "SANDBOX_RETRY_DELAY": "300ms",
	}))
	suitetest.WaitReady(t, s.SandboxProcess, s.Sandbox+"/control/state")
	s.provision()
	s.Orchestrator = s.start("session-orchestrator", join(axp, hooks, map[string]string{"ORCHESTRATOR_GRPC_ADDR": orch, "ADMIN_ADDR": addr[8]}))
	s.Ingest = s.start("webhook-ingest", map[string]string{
		"WEBHOOK_SECRET": suitetest.WebhookSecret, "WEBHOOK_ADDR": hook, "ADMIN_ADDR": addr[7], "NATS_API_PREFIX": "axpchat.api",
	})
	s.Gateway = s.start("gateway", join(tokens, map[string]string{
		"ORCHESTRATOR_ADDR": orch, "GATEWAY_GRPC_ADDR": grpcAddr, "GATEWAY_HTTP_ADDR": httpAddr, "ADMIN_ADDR": addr[6], "NATS_API_PREFIX": "axpchat.api",
	}))
	for i, p := range []*suitetest.Process{s.Gateway, s.Ingest, s.Orchestrator} {
		suitetest.WaitReady(t, p, s.admins[i]+"/healthz/ready")
	}
	return s
}

// startNATS runs the server with the files as they are shipped.
func (s *secured) startNATS() {
	s.t.Helper()
	conf, err := filepath.Abs(filepath.Join("..", "..", "deploy", "nats", "nats.conf"))
	if err != nil {
		s.t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(s.nats)
	if err != nil {
		s.t.Fatal(err)
	}
	monitoring := freeAddrs(s.t, 1)[0]
	files := tlsxtest.Files(s.t, s.ca.Issue([]string{"127.0.0.1"}), s.ca)
	s.NATS = suitetest.StartProcess(s.t, "nats-server", filepath.Join(s.bin, "nats-server"), map[string]string{
		"NATS_SERVER_NAME": "nats-0", "NATS_CERT_FILE": files.Cert, "NATS_KEY_FILE": files.Key, "NATS_CA_FILE": files.CA,
		"NATS_STORE_DIR": s.t.TempDir(), "NATS_MAX_FILE_STORE": "10G", "NATS_STORE_KEY": "k0123456789abcdef", "NATS_MONITORING_ADDR": monitoring,
	}, "-c", conf, "-a", "127.0.0.1", "-p", port)
	suitetest.WaitReady(s.t, s.NATS, "http://"+monitoring+"/healthz")
}

// provision declares streams and buckets, by the identity that may.
func (s *secured) provision() {
	s.t.Helper()
	p := suitetest.StartProcess(s.t, "provisioner", filepath.Join(s.bin, "session-orchestrator"), s.login("provisioner"), "provision")
	select {
	case <-p.Done():
	case <-s.t.Context().Done():
	}
	if !strings.Contains(p.Log(), "streams and buckets are up to date") {
		s.t.Fatalf("provisioning failed:\n%s", p.Log())
	}
}

func (s *secured) start(service string, env map[string]string) *suitetest.Process {
	s.t.Helper()
	return suitetest.StartProcess(s.t, service, filepath.Join(s.bin, service), join(s.login(service), env, map[string]string{"NATS_MANAGE_STREAMS": "false", "LOG_LEVEL": "debug"}))
}

// login are the settings by which a service is a user of NATS.
func (s *secured) login(service string) map[string]string {
	s.t.Helper()
	f := tlsxtest.Files(s.t, s.ca.Issue([]string{service + ".nats.axpchat"}), s.ca)
	return map[string]string{
		"NATS_URL": "nats://" + s.nats, "NATS_CERT_FILE": f.Cert, "NATS_KEY_FILE": f.Key, "NATS_CA_FILE": f.CA, "OUTBOX_PARTITIONS": "4",
	}
}

func join(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	ports, out := &suitetest.Ports{}, make([]string, n)
	for i := range out {
		var err error
		if out[i], err = ports.Addr(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
