package natsrights

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/gateway"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
	ingest "github.com/axpchat/connector/services/webhook-ingest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What the certificates of the suite are made out to.
const (
	svcProvisioner  = "provisioner"
	svcOrchestrator = "session-orchestrator"
	svcGateway      = "gateway"
	svcIngest       = "webhook-ingest"
	// svcOperator is a person, with the commands of webhook-ingest.
	svcOperator = "operator"
)

func services() []string {
	return []string{svcProvisioner, svcOrchestrator, svcGateway, svcIngest, svcOperator}
}

// deployments are the forms in which deploy/nats runs.
func deployments() map[string]func(*testing.T, *tlsxtest.Authority, ...func(*server.Options)) *cluster {
	return map[string]func(*testing.T, *tlsxtest.Authority, ...func(*server.Options)) *cluster{"one server": start, "a cluster of three": startThree}
}

func user(service string) string { return service + ".nats.axpchat" }

const (
	patience = 20 * time.Second
	account  = "ABCDEF"
)

// nodes is how many servers a cluster has that outlives any of them.
const nodes = 3

// cluster is one server of the shipped configuration, or three.
type cluster struct {
	server *server.Server      // the first one
	ca     *tlsxtest.Authority // vouches for clients and the servers
	url    string              // of the first one
	port   int
	urls   []string
	routes tlsx.Files // of the first one, in a cluster
}

// start runs a server. Changes are made to what the files say.
func start(t *testing.T, ca *tlsxtest.Authority, changes ...func(*server.Options)) *cluster {
	t.Helper()
	return run(t, ca, options(t, ca, "nats.conf", nil, changes...))
}

// startThree runs servers that keep everything three times, connected by routes
// with an authority of their own.
func startThree(t *testing.T, ca *tlsxtest.Authority, changes ...func(*server.Options)) *cluster {
	t.Helper()
	routes, ports := make([]string, nodes), make([]int, nodes)
	for i := range nodes {
		ports[i] = bustest.FreePort(t)
		routes[i] = fmt.Sprintf("nats-route://127.0.0.1:%d", ports[i])
	}
	between := tlsxtest.NewAuthority(t)
	var all []*server.Options
	var first tlsx.Files
	for i := range nodes {
		files := tlsxtest.Files(t, between.Issue([]string{"127.0.0.1"}), between)
		o := options(t, ca, "cluster.conf", map[string]string{
			"NATS_SERVER_NAME": fmt.Sprintf("test-%d", i), "NATS_CLUSTER_NAME": "test", "NATS_ROUTES": "[" + strings.Join(routes, ", ") + "]",
			"NATS_ROUTES_CERT_FILE": files.Cert, "NATS_ROUTES_KEY_FILE": files.Key, "NATS_ROUTES_CA_FILE": files.CA,
		}, changes...)
		o.Cluster.Host, o.Cluster.Port = "127.0.0.1", ports[i]
		all = append(all, o)
		if i == 0 {
			first = files
		}
	}
	c := run(t, ca, all...)
	c.routes = first
	return c
}

// options are what a file of deploy/nats says.
func options(t *testing.T, ca *tlsxtest.Authority, file string, env map[string]string, changes ...func(*server.Options)) *server.Options {
	t.Helper()
	files := tlsxtest.Files(t, ca.Issue([]string{"127.0.0.1"}), ca)
	values := map[string]string{
		"NATS_SERVER_NAME": "test", "NATS_CERT_FILE": files.Cert, "NATS_KEY_FILE": files.Key, "NATS_CA_FILE": files.CA,
		"NATS_STORE_DIR": t.TempDir(), "NATS_STORE_KEY": "k0123456789abcdef", "NATS_MAX_FILE_STORE": "10G", "NATS_MONITORING_ADDR": "127.0.0.1:8222",
	}
	maps.Copy(values, env)
	for key, value := range values {
		if key != "NATS_ROUTES" { // a list
			value = strconv.Quote(value) // a comma would end it
		}
		t.Setenv(key, value)
	}
	opts, err := server.ProcessConfigFile(filepath.Join("..", "..", "..", "deploy", "nats", file))
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.HTTPPort, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, 0, true, true
	for _, change := range changes {
		change(opts)
	}
	return opts
}

func run(t *testing.T, ca *tlsxtest.Authority, opts ...*server.Options) *cluster {
	t.Helper()
	c := &cluster{ca: ca}
	var all []*server.Server
	for _, o := range opts {
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		all = append(all, s)
	}
	for _, s := range all {
		if !s.ReadyForConnections(patience) || !s.JetStreamEnabled() {
			t.Fatal("a server is not ready")
		}
		c.urls = append(c.urls, s.ClientURL())
	}
	c.server, c.url, c.port = all[0], c.urls[0], all[0].Addr().(*net.TCPAddr).Port
	return c
}

// config is how a service is configured for the cluster, with a certificate of
// its own.
func (c *cluster) config(t *testing.T, service string) bus.Config {
	t.Helper()
	files := tlsxtest.Files(t, c.ca.Issue([]string{user(service)}), c.ca)
	cfg := bustest.Config()
	// In a cluster each is served by another server than its neighbours.
	url := c.urls[slices.Index(services(), service)%len(c.urls)]
	cfg.URL, cfg.CertFile, cfg.KeyFile, cfg.CAFile = url, files.Cert, files.Key, files.CA
	cfg.Manage, cfg.Replicas = service == svcProvisioner, len(c.urls)
	if service == svcGateway || service == svcIngest || service == svcOperator {
		cfg.APIPrefix = "axpchat.api"
	}
	return cfg
}

// connect connects a service, and brings what it uses up to date or checks it.
func (c *cluster) connect(ctx context.Context, t *testing.T, service string, opts ...nats.Option) (*bus.Bus, error) {
	t.Helper()
	b, err := bus.Connect(ctx, bus.Params{
		Config: c.config(t, service), Name: service, Log: slog.New(slog.DiscardHandler), Uses: uses(service), Options: opts,
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = b.Close() }) // the server may be gone already, on purpose
	if service == svcOperator {
		return b, nil // its commands look at nothing that they don't need
	}
	return b, b.Provision(ctx)
}

// join provisions the cluster and connects the services. The options are for one
// of them.
func (c *cluster) join(ctx context.Context, t *testing.T, service string, opts ...nats.Option) (*world, error) {
	t.Helper()
	w := &world{}
	for _, of := range []struct {
		name string
		bus  **bus.Bus
	}{{svcProvisioner, new(*bus.Bus)}, {svcOrchestrator, &w.orchestrator}, {svcGateway, &w.gateway}, {svcGateway, &w.pod}, {svcIngest, &w.ingest}, {svcOperator, &w.operator}} {
		var extra []nats.Option
		if of.name == service {
			extra = opts
		}
		if of.name == svcProvisioner {
			w.provisioner = extra
		}
		var err error
		if *of.bus, err = c.connect(ctx, t, of.name, extra...); err != nil {
			return nil, fmt.Errorf("%s: %w", of.name, err)
		}
	}
	return w, nil
}

func uses(service string) bus.Uses {
	switch service {
	case svcOrchestrator:
		return orchestrator.Uses()
	case svcGateway:
		return gateway.Uses()
	case svcIngest, svcOperator:
		return ingest.Uses()
	default:
		return bus.Uses{}
	}
}

// dial connects a stranger who has a service's certificate, but not its code.
func (c *cluster) dial(t *testing.T, service string) (*nats.Conn, <-chan error) {
	t.Helper()
	cfg := c.config(t, service)
	denied := make(chan error, 16)
	nc, err := nats.Connect(cfg.URL, nats.ClientCert(cfg.CertFile, cfg.KeyFile), nats.RootCAs(cfg.CAFile), nats.CustomInboxPrefix("_INBOX_"+service),
		nats.NoReconnect(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case denied <- err:
			default: // the test has seen enough
			}
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, denied
}
