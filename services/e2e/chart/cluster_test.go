package chart

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// certificates does cert-manager's work: it makes what the rendered Certificates
// ask for. Those of servers also get this machine's address.
type certificates struct {
	authorities map[string]*tlsxtest.Authority // by issuer
	wanted      map[string]certificate         // by Secret
	secrets     map[string]map[string][]byte
}

type certificate struct {
	SecretName string   `yaml:"secretName"`
	DNSNames   []string `yaml:"dnsNames"`
	IsCA       bool     `yaml:"isCA"`
	Usages     []string
	IssuerRef  struct{ Name, Kind string } `yaml:"issuerRef"`
}

func newCertificates(t *testing.T, objects []object) *certificates {
	t.Helper()
	c := &certificates{authorities: map[string]*tlsxtest.Authority{}, wanted: map[string]certificate{}, secrets: map[string]map[string][]byte{}}
	for _, o := range objects {
		if o.Kind != "Certificate" {
			continue
		}
		var spec certificate
		o.decode(t, &spec)
		if spec.IsCA {
			continue
		}
		if find(t, objects, "Issuer", spec.IssuerRef.Name); c.authorities[spec.IssuerRef.Name] == nil {
			c.authorities[spec.IssuerRef.Name] = tlsxtest.NewAuthority(t)
		}
		c.wanted[spec.SecretName] = spec
		c.issue(spec.SecretName)
	}
	if len(c.authorities) != 3 || len(c.wanted) != 8 {
		t.Fatalf("%d authorities, %d certificates", len(c.authorities), len(c.wanted))
	}
	return c
}

// issue makes a certificate, anew.
func (c *certificates) issue(secret string) {
	spec := c.wanted[secret]
	ca := c.authorities[spec.IssuerRef.Name]
	names := slices.Clone(spec.DNSNames)
	var usages []x509.ExtKeyUsage
	if slices.Contains(spec.Usages, "server auth") {
		names, usages = append(names, "127.0.0.1"), append(usages, x509.ExtKeyUsageServerAuth)
	}
	if slices.Contains(spec.Usages, "client auth") {
		usages = append(usages, x509.ExtKeyUsageClientAuth)
	}
	p := ca.Issue(names, func(x *x509.Certificate) { x.ExtKeyUsage = usages })
	c.secrets[secret] = map[string][]byte{"tls.crt": p.Cert, "tls.key": p.Key, "ca.crt": ca.PEM}
}

// files writes a Secret for a client of the test's own.
func (c *certificates) files(t *testing.T, secret string) tlsx.Files {
	t.Helper()
	dir := t.TempDir()
	for name, content := range c.secrets[secret] {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return tlsx.Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: filepath.Join(dir, "ca.crt")}
}

func (c *certificates) leaf(t *testing.T, secret string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(c.secrets[secret]["tls.crt"])
	if block == nil {
		t.Fatalf("%s has no certificate", secret)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

const storeKey = "k0123456789abcdef"

// secrets are those of the pods that are run.
func (c *certificates) all(name string) map[string][]byte {
	given := map[string]map[string][]byte{
		"axp-credentials": {"SANDBX.client-secret": []byte("sandbox-secret"), "SANDBX.app-key": []byte("sandbox-appkey\n")},
		"webhook-secret":  {"secret": []byte(suitetest.WebhookSecret)},
		"token-secret":    {"hs256-secret": []byte(suitetest.TokenSecret)},
		"operator-token":  {"token": []byte("operator-0123456789-0123456789-0123456789")},
		"nats-store-key":  {"key": []byte(storeKey)},
	}
	maps.Copy(given, c.secrets)
	return given[name]
}

// node is a NATS server that runs with what the chart renders.
type node struct {
	server *server.Server
	world  world
	host   string // the pod's name in the cluster
	route  int
	change func(*server.Options)
}

// startNATS runs the servers of the StatefulSet with the rendered configuration and
// environment. Only their addresses are of this machine.
func startNATS(t *testing.T, objects []object, certs *certificates) []*node {
	t.Helper()
	name := prefix + svcNATS
	p := pods(t, objects)[svcNATS]
	var spec struct {
		Replicas    int
		ServiceName string `yaml:"serviceName"`
	}
	find(t, objects, "StatefulSet", name).decode(t, &spec)
	var ports suitetest.Ports
	nodes := make([]*node, spec.Replicas)
	var routes []*url.URL
	var hosts []string
	for i := range nodes {
		addr, err := ports.Addr()
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(addr)
		n := &node{host: fmt.Sprintf("%s-%d.%s.%s.svc", name, i, spec.ServiceName, namespace)}
		if n.route, err = strconv.Atoi(port); err != nil {
			t.Fatal(err)
		}
		nodes[i] = n
		routes, hosts = append(routes, &url.URL{Scheme: "nats-route", Host: addr}), append(hosts, n.host+":6222")
	}
	for i, n := range nodes {
		n.world = materialise(t, objects, p, p.Containers[0], certs.all)
		n.world.env["NATS_SERVER_NAME"] = fmt.Sprintf("%s-%d", name, i) // the pod's name, by fieldRef
		n.world.env["NATS_STORE_DIR"] = filepath.Join(n.world.dir, n.world.env["NATS_STORE_DIR"])
		opts := n.options(t)
		var got []string
		for _, r := range opts.Routes {
			got = append(got, r.Host)
		}
		if !slices.Equal(got, hosts) {
			t.Errorf("routes to %v, want %v", got, hosts)
		}
		n.change = func(o *server.Options) {
			o.Host, o.Port, o.HTTPPort, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, 0, true, true
			o.Cluster.Host, o.Cluster.Port, o.Routes = "127.0.0.1", n.route, routes
		}
		n.change(opts)
		s, err := server.NewServer(opts)
		if err != nil {
			t.Fatal(err)
		}
		n.server = s
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	}
	for _, n := range nodes {
		if !n.server.ReadyForConnections(patience) || !n.server.JetStreamEnabled() {
			t.Fatal("the cluster is not ready")
		}
	}
	return nodes
}

// options reads the configuration as the pod's server does.
func (n *node) options(t *testing.T) *server.Options {
	t.Helper()
	for k, v := range n.world.env {
		t.Setenv(k, v)
	}
	opts, err := server.ProcessConfigFile(filepath.Join(n.world.dir, "etc", "nats", "server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return opts
}

func (n *node) addr() string { return n.server.Addr().String() }

// TestTheRenderedServersAreEncryptedAndKnowEachOther reads the configuration.
func TestTheRenderedServersAreEncryptedAndKnowEachOther(t *testing.T) {
	objects := render(t, filepath.Join("testdata", "run-values.yaml"))
	certs := newCertificates(t, objects)
	for _, n := range startNATS(t, objects, certs) {
		o := n.options(t)
		if o.JetStreamKey != storeKey || o.JetStreamCipher != server.ChaCha {
			t.Error("what is stored is not encrypted with the Secret's key")
		}
		if !o.TLSMap || o.TLSConfig.ClientAuth != tls.RequireAndVerifyClientCert || o.TLSConfig.MinVersion != tls.VersionTLS13 {
			t.Error("clients come without a certificate")
		}
		if c := o.Cluster.TLSConfig; c == nil || c.ClientAuth != tls.RequireAndVerifyClientCert || c.MinVersion != tls.VersionTLS13 || !o.Cluster.NoAdvertise {
			t.Error("routes are open to others")
		}
		// Four fifths of the volume; before it is killed it has the time to hand over.
		if o.JetStreamMaxStore != 16<<30 || o.LameDuckDuration+o.LameDuckGracePeriod > 50e9 || o.PidFile == "" || !o.SyncAlways && o.SyncInterval > 1e9 {
			t.Errorf("store %d, lame duck %s and %s, sync %s", o.JetStreamMaxStore, o.LameDuckGracePeriod, o.LameDuckDuration, o.SyncInterval)
		}
		for secret, host := range map[string]string{prefix + "nats-server-tls": n.host, prefix + "nats-routes-tls": n.host} {
			if err := certs.leaf(t, secret).VerifyHostname(host); err != nil {
				t.Error(err)
			}
		}
	}
	shipped, err := os.ReadFile(filepath.Join(root(), "deploy", "nats", "permissions.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if got := find(t, objects, "ConfigMap", prefix+svcNATS).Data["permissions.conf"]; strings.TrimSpace(got) != strings.TrimSpace(string(shipped)) {
		t.Error("the chart's permissions are others than those of deploy/nats")
	}
}
