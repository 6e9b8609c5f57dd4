package chart

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// rig is the suite as the chart renders it, in processes of this machine.
type rig struct {
	t             *testing.T
	objects       []object
	certs         *certificates
	nodes         []*node
	changes       []string          // of addresses in what is rendered
	addr          map[string]string // by what listens there
	sandbox, http string
	processes     map[string]*suitetest.Process
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, objects: render(t, filepath.Join("testdata", "run-values.yaml")), addr: map[string]string{}, processes: map[string]*suitetest.Process{}}
	r.certs = newCertificates(t, r.objects)
	r.nodes = startNATS(t, r.objects, r.certs)
	var ports suitetest.Ports
	for _, name := range []string{"sandbox", "grpc", "http", "hook", "orchestrator", "operator", svcGateway, svcOrchestrator, svcIngest} {
		addr, err := ports.Addr()
		if err != nil {
			t.Fatal(err)
		}
		r.addr[name] = addr
	}
	r.sandbox, r.http = "http://"+r.addr["sandbox"], "http://"+r.addr["http"]
	host := prefix + svcOrchestrator + "." + namespace + ".svc"
	r.changes = []string{
		"https://axp.example.com", r.sandbox, "https://chat-hooks.example.com", "http://" + r.addr["hook"], "dns:///" + host + ":8083", r.addr["orchestrator"],
	}
	for _, n := range r.nodes {
		r.changes = append(r.changes, n.host+":4222", n.addr())
	}
	if err := r.certs.leaf(t, prefix+"session-orchestrator-tls").VerifyHostname(host); err != nil {
		t.Error(err)
	}
	return r
}

// start runs a pod's container with what it would find. Its ports are of this machine.
func (r *rig) start(component string, env map[string]string) *suitetest.Process {
	r.t.Helper()
	p := pods(r.t, r.objects)[component]
	w := materialise(r.t, r.objects, p, p.Containers[0], r.certs.all, r.changes...)
	maps.Copy(w.env, env)
	binary := component
	if component == svcProvisioner {
		binary = svcOrchestrator
	}
	return suitetest.StartProcess(r.t, component, command(r.t, binary), w.env, p.Containers[0].Args...)
}

func (r *rig) provision() {
	r.t.Helper()
	p := r.start(svcProvisioner, nil)
	select {
	case <-p.Done():
	case <-time.After(patience):
		r.t.Fatal("provisioning does not end")
	}
	if !strings.Contains(p.Log(), "streams and buckets are up to date") {
		r.t.Fatalf("provisioning failed:\n%s", p.Log())
	}
}

func (r *rig) startServices() {
	r.t.Helper()
	sandbox := suitetest.StartProcess(r.t, "axp-sandbox", command(r.t, "axp-sandbox"), map[string]string{
		"SANDBOX_ADDR": r.addr["sandbox"], "SANDBOX_AUTO_AGENT": "false", "AUTH_HS256_SECRET": suitetest.TokenSecret,
	})
	suitetest.WaitReady(r.t, sandbox, r.sandbox+"/control/state")
	for component, env := range map[string]map[string]string{
		svcOrchestrator: {"ORCHESTRATOR_GRPC_ADDR": r.addr["orchestrator"], "OPERATOR_ADDR": r.addr["operator"]},
		svcIngest:       {"WEBHOOK_ADDR": r.addr["hook"]},
		svcGateway:      {"GATEWAY_GRPC_ADDR": r.addr["grpc"], "GATEWAY_HTTP_ADDR": r.addr["http"]},
	} {
		env["ADMIN_ADDR"] = r.addr[component]
		r.processes[component] = r.start(component, env)
	}
	for component, p := range r.processes {
		suitetest.WaitReady(r.t, p, "http://"+r.addr[component]+"/healthz/ready")
	}
}

// TestWhatTheChartRendersCarriesAChat runs all of it: three NATS servers, the
// provisioner, the services with the certificates that cert-manager would make. A
// customer and an agent talk, nothing is denied, and their words are on no disk.
func TestWhatTheChartRendersCarriesAChat(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs five processes")
	}
	r := newRig(t)
	r.provision()
	r.startServices()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r.chat(ctx)
	for component, p := range r.processes {
		if log := p.Log(); strings.Contains(log, "NATS denies") || strings.Contains(log, "sandbox-secret") {
			t.Errorf("%s was denied something, or tells secrets:\n%s", component, log)
		}
	}
	r.replicated(ctx)
	t.Run("strangers", r.strangers)
	t.Run("renewal", r.renewal)
	for _, n := range r.nodes {
		r.encrypted(n.world.env["NATS_STORE_DIR"])
	}
}

const words = "the words that nobody shall find"

func (r *rig) chat(ctx context.Context) {
	r.t.Helper()
	t := r.t
	token, err := suitetest.Token(ctx, r.sandbox, "Ada", "ada")
	if err != nil {
		t.Fatal(err)
	}
	call := func(method, path string, in, out any) {
		t.Helper()
		if err := suitetest.CallJSON(ctx, method, r.http+path, token, in, out); err != nil {
			t.Fatal(err)
		}
	}
	var session, chat struct {
		Session    struct{ SessionID string }
		Engagement struct{ EngagementID string }
	}
	call(http.MethodPost, "/v1/sessions", map[string]any{}, &session)
	path := "/v1/sessions/" + session.Session.SessionID + "/engagements"
	call(http.MethodPost, path, map[string]any{"conversation": "sizes"}, &chat)
	path += "/" + chat.Engagement.EngagementID + "/messages"
	desk := suitetest.Desk{URL: r.sandbox, Name: "Robin"}
	found, err := desk.Find(ctx, "Ada", func(c suitetest.DeskChat) bool { return c.Status == "ACTIVE" })
	if err != nil {
		t.Fatal(err)
	}
	if err := desk.Accept(ctx, found.DialogID); err != nil {
		t.Fatal(err)
	}
	call(http.MethodPost, path, map[string]any{"clientMessageId": "m1", "text": words}, nil)
	if _, err := desk.Find(ctx, "Ada", func(c suitetest.DeskChat) bool { return len(c.CustomerTexts()) > 0 }); err != nil {
		t.Fatal(err)
	}
	if err := desk.Say(ctx, found.DialogID, "Yes, in red."); err != nil {
		t.Fatal(err)
	}
	err = suitetest.Await(ctx, "the agent's words", func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.http+path, nil)
		if err != nil {
			return false, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		_, err = body.ReadFrom(resp.Body)
		return strings.Contains(body.String(), "Yes, in red.") && strings.Contains(body.String(), words), err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects with a certificate that a Secret holds.
func (r *rig) dial(files tlsx.Files, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("nats://"+r.nodes[0].addr(), append([]nats.Option{nats.ClientCert(files.Cert, files.Key), nats.RootCAs(files.CA), nats.NoReconnect()}, opts...)...)
}

// replicated asks as the provisioner how many copies there are.
func (r *rig) replicated(ctx context.Context) {
	r.t.Helper()
	nc, err := r.dial(r.certs.files(r.t, prefix+"nats-provisioner-tls"), nats.CustomInboxPrefix("_INBOX_provisioner"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range []string{"EVENTS", "OUTBOX", "KV_SESSIONS"} {
		s, err := js.Stream(ctx, name)
		if err != nil {
			r.t.Fatal(err)
		}
		if c := s.CachedInfo().Cluster; c == nil || len(c.Replicas) != 2 {
			r.t.Errorf("%s is not on three servers: %+v", name, c)
		}
	}
}

// strangers tries what certificates are not for.
func (r *rig) strangers(t *testing.T) {
	gateway := r.certs.files(t, prefix+"nats-gateway-tls")
	denied := make(chan error, 8)
	nc, err := r.dial(gateway, nats.CustomInboxPrefix("_INBOX_gateway"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := errors.Join(nc.Publish("chat.event.SANDBX.s", []byte("forged")), nc.Flush()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-denied:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("got %v", err)
		}
	case <-time.After(patience):
		t.Error("a gateway may write events")
	}
	// The authority of the routes and that of the services vouch for no client of NATS.
	for _, secret := range []string{"nats-routes-tls", "gateway-tls"} {
		files := r.certs.files(t, prefix+secret)
		files.CA = gateway.CA
		if c, err := r.dial(files); err == nil {
			c.Close()
			t.Errorf("%s opens NATS", secret)
		}
	}
	// A client of NATS opens no route, and nobody without a certificate.
	routes := r.certs.files(t, prefix+"nats-routes-tls")
	for name, files := range map[string]tlsx.Files{"a gateway": {Cert: gateway.Cert, Key: gateway.Key, CA: routes.CA}, "nobody": {CA: routes.CA}, "a route": routes} {
		if got := opensRoute(t, r.nodes[0], files); got != (name == "a route") {
			t.Errorf("%s opens a route: %t", name, got)
		}
	}
}

// opensRoute makes the handshake of a route; its server speaks first, in the open.
func opensRoute(t *testing.T, n *node, files tlsx.Files) bool {
	t.Helper()
	conn, err := net.Dial("tcp", n.server.ClusterAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	source, err := tlsx.Open(files, nil)
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(conn, source.Client("127.0.0.1"))
	if err := secure.HandshakeContext(t.Context()); err != nil {
		return false
	}
	// Only what is read tells what the server thinks of the certificate.
	_, err = secure.Read(make([]byte, 1))
	return err == nil
}

// renewal replaces the servers' certificates, as cert-manager does, and has them read
// the configuration again, as the reloader does.
func (r *rig) renewal(t *testing.T) {
	for _, n := range r.nodes {
		before := shown(t, r, n)
		for secret, dir := range map[string]string{"nats-server-tls": "server", "nats-routes-tls": "routes"} {
			r.certs.issue(prefix + secret)
			for name, content := range r.certs.secrets[prefix+secret] {
				if err := os.WriteFile(filepath.Join(n.world.dir, "etc", "nats-tls", dir, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		opts := n.options(t)
		n.change(opts)
		opts.Port = n.server.Addr().(*net.TCPAddr).Port
		if err := n.server.ReloadOptions(opts); err != nil {
			t.Fatal(err)
		}
		if after := shown(t, r, n); after == before || after != r.certs.leaf(t, prefix+"nats-server-tls").SerialNumber.String() {
			t.Errorf("%s still shows its old certificate", n.host)
		}
	}
}

// shown is the serial number of the certificate that a server shows to clients.
func shown(t *testing.T, r *rig, n *node) string {
	t.Helper()
	files := r.certs.files(t, prefix+"nats-gateway-tls")
	nc, err := nats.Connect("nats://"+n.addr(), nats.ClientCert(files.Cert, files.Key), nats.RootCAs(files.CA), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	state, err := nc.TLSConnectionState()
	if err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0].SerialNumber.String()
}

// encrypted looks for the customer's words on a server's disk.
func (r *rig) encrypted(dir string) {
	r.t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files++
		if bytes.Contains(data, []byte(words)) {
			r.t.Errorf("%s has a customer's words in it", path)
		}
		return err
	})
	if err != nil || files < 10 {
		r.t.Errorf("%d files, %v", files, err)
	}
}
