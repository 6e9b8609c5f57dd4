package tenants

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// patience bounds every wait; it is never waited out where all is well.
const patience = 40 * time.Second

// tenant is an account with the AXP that serves it.
type tenant struct {
	account string
	origin  string // of its web pages
	idle    time.Duration
	axp     string // address of its sandbox
	desk    suitetest.Desk
	secret  string // the file with the client secret that the connector uses

	sandbox *suitetest.Process
	env     map[string]string // of the sandbox
}

func (te *tenant) name() string { return strings.ToLower(te.account) }

// accountYAML is the tenant's entry in the list accounts.
func (te *tenant) accountYAML() string {
	return fmt.Sprintf("- {account_id: %s, client_id: %[2]s-client, client_secret_file: %[3]s, app_key: %[2]s-key, channel_provider_id: %[2]s-chat, base_url: %[4]s}\n",
		te.account, te.name(), te.secret, te.axp)
}

// run runs the tenant's AXP, which keeps its world over a restart.
func (te *tenant) run(t *testing.T) {
	t.Helper()
	te.sandbox = suitetest.StartProcess(t, "axp-sandbox-"+te.account, filepath.Join(binaries, "axp-sandbox"), te.env)
	suitetest.WaitReady(t, te.sandbox, te.axp+"/control/state")
}

// deployment is a connector as in production, with its configuration in a file
// that is swapped as Kubernetes swaps a ConfigMap.
type deployment struct {
	t         *testing.T
	connector *suitetest.Process
	http      string
	webhook   string
	admin     string
	nats      string
	api       axpchatv1.ChatServiceClient
	dir       string
	versions  int
}

// deploy runs an AXP for each of the tenants, and a connector that serves those
// named after them.
func deploy(t *testing.T, tenants []*tenant, first ...*tenant) *deployment {
	t.Helper()
	if testing.Short() {
		t.Skip("runs several processes")
	}
	ports := &suitetest.Ports{}
	port := func() string {
		addr, err := ports.Addr()
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
	tokens := map[string]string{"AUTH_HS256_SECRET": suitetest.TokenSecret, "AUTH_ISSUER": "axp-sandbox", "AUTH_AUDIENCE": "axp-chat-connector"}
	for _, te := range tenants {
		addr := port()
		te.axp, te.secret = "http://"+addr, filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(te.secret, []byte(te.name()+"-secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		te.desk = suitetest.Desk{URL: te.axp, Name: "Agent of " + te.account}
		te.env = map[string]string{
			"SANDBOX_DATA_FILE": filepath.Join(t.TempDir(), "sandbox.json"),
			"SANDBOX_ADDR":      addr, "SANDBOX_ACCOUNT_ID": te.account, "SANDBOX_CLIENT_ID": te.name() + "-client", "SANDBOX_CLIENT_SECRET": te.name() + "-secret",
			"SANDBOX_APP_KEY": te.name() + "-key", "SANDBOX_CHANNEL_PROVIDER_ID": te.name() + "-chat",
			"SANDBOX_AUTO_AGENT": "false", "SANDBOX_QUEUE_MESSAGE": "false", "SANDBOX_RETRY_DELAY": "300ms",
		}
		maps.Copy(te.env, tokens)
		te.run(t)
	}
	d := &deployment{t: t, dir: t.TempDir()}
	if err := os.Symlink(filepath.Join("..data", "connector.yaml"), filepath.Join(d.dir, "connector.yaml")); err != nil {
		t.Fatal(err)
	}
	d.configure(first...)
	grpcAddr, httpAddr, hook, admin, natsAddr := port(), port(), port(), port(), port()
	d.http, d.webhook, d.admin, d.nats = "http://"+httpAddr, "http://"+hook, "http://"+admin, "nats://"+natsAddr
	env := map[string]string{
		"CONFIG_FILE": filepath.Join(d.dir, "connector.yaml"), "CONFIG_RELOAD_INTERVAL": "200ms", "ACCOUNT_REMOVAL_GRACE": "3s",
		"DATA_DIR": t.TempDir(), "NATS_LISTEN": natsAddr, "OUTBOX_PARTITIONS": "4", "OUTBOX_RETRY_MAX": "500ms",
		"GATEWAY_GRPC_ADDR": grpcAddr, "GATEWAY_HTTP_ADDR": httpAddr, "WEBHOOK_ADDR": hook, "ADMIN_ADDR": admin,
		"WEBHOOK_SECRET": suitetest.WebhookSecret, "WEBHOOK_PUBLIC_URL": d.webhook, "LOG_LEVEL": "info",
		// The chats here never pause.
		"LIMIT_CONNECTION_MESSAGES": "off", "LIMIT_SESSION_MESSAGES": "off", "LIMIT_CUSTOMER_MESSAGES": "off",
	}
	maps.Copy(env, tokens)
	d.connector = suitetest.StartProcess(t, "connector", filepath.Join(binaries, "connector"), env)
	suitetest.WaitReady(t, d.connector, d.admin+"/healthz/ready")
	conn, err := grpc.NewClient("passthrough:///"+grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	d.api = axpchatv1.NewChatServiceClient(conn)
	return d
}

// configure swaps in a configuration with these tenants.
func (d *deployment) configure(tenants ...*tenant) {
	d.t.Helper()
	var accounts, listed, rules strings.Builder
	ids := make([]string, 0, len(tenants))
	for _, te := range tenants {
		accounts.WriteString(te.accountYAML())
		fmt.Fprintf(&listed, "- {account_id: %s, allowed_origins: [%s]}\n", te.account, te.origin)
		fmt.Fprintf(&rules, "- {account_id: %s, idle_timeout: %s}\n", te.account, te.idle)
		ids = append(ids, te.account)
	}
	d.swap("accounts:\n" + accounts.String() + "tenants:\n" + listed.String() + "idle_rules:\n" + rules.String() +
		"webhook_accounts: [" + strings.Join(ids, ", ") + "]\n")
}

// swap puts a file in the place of the one before, as Kubernetes does.
func (d *deployment) swap(content string) {
	d.t.Helper()
	d.versions++
	version := "..v" + strconv.Itoa(d.versions)
	fail := func(err error) {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(err)
		}
	}
	fail(os.Mkdir(filepath.Join(d.dir, version), 0o700))
	fail(os.WriteFile(filepath.Join(d.dir, version, "connector.yaml"), []byte(content), 0o600))
	fail(os.Symlink(version, filepath.Join(d.dir, "..data_tmp")))
	fail(os.Rename(filepath.Join(d.dir, "..data_tmp"), filepath.Join(d.dir, "..data")))
}

func (d *deployment) get(path string) string {
	d.t.Helper()
	_, body := suitetest.Page(d.t.Context(), d.t, d.admin+path)
	return body
}

var accountLabel = regexp.MustCompile(`account="([^"]*)"`)

// labels are the accounts that the metrics with a prefix name.
func (d *deployment) labels(prefix string) []string {
	d.t.Helper()
	var out []string
	for line := range strings.Lines(d.get("/metrics")) {
		if m := accountLabel.FindStringSubmatch(line); m != nil && strings.HasPrefix(line, prefix) && !slices.Contains(out, m[1]) {
			out = append(out, m[1])
		}
	}
	slices.Sort(out)
	return out
}

// metric is the value of a series without labels; empty: there is none.
func (d *deployment) metric(name string) string {
	d.t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + `(?:\{[^}]*\})? (\S+)$`).FindStringSubmatch(d.get("/metrics"))
	if m == nil {
		return ""
	}
	return m[1]
}

func (d *deployment) await(what string, ok func() bool) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	if err := suitetest.Await(ctx, what, func(context.Context) (bool, error) { return ok(), nil }); err != nil {
		d.t.Fatal(err)
	}
}

// subscriptions is how many an AXP has.
func (te *tenant) subscriptions(t *testing.T) int {
	t.Helper()
	var state struct {
		Subscriptions []struct{ CallbackURL string }
	}
	if err := suitetest.CallJSON(t.Context(), http.MethodGet, te.axp+"/control/state", "", nil, &state); err != nil {
		t.Fatal(err)
	}
	return len(state.Subscriptions)
}

// outage has an AXP answer nothing for a while; heal ends it.
func (te *tenant) outage(t *testing.T) {
	t.Helper()
	in := map[string]int{"durationMs": int(time.Hour / time.Millisecond)}
	if err := suitetest.CallJSON(t.Context(), http.MethodPost, te.axp+"/control/outage", "", in, nil); err != nil {
		t.Fatal(err)
	}
}

func (te *tenant) heal(t *testing.T) {
	t.Helper()
	if err := suitetest.CallJSON(t.Context(), http.MethodDelete, te.axp+"/control/faults", "", nil, nil); err != nil {
		t.Fatal(err)
	}
}
