package natsrights

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/gateway"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
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
)

func user(service string) string { return service + ".nats.axpchat" }

const (
	patience = 20 * time.Second
	account  = "ABCDEF"
)

// cluster is a server of the shipped configuration.
type cluster struct {
	server *server.Server
	ca     *tlsxtest.Authority // vouches for clients and the server
	url    string
	port   int
}

// start runs a server. Changes are made to what the files say.
func start(t *testing.T, ca *tlsxtest.Authority, changes ...func(*server.Options)) *cluster {
	t.Helper()
	files := tlsxtest.Files(t, ca.Issue([]string{"127.0.0.1"}), ca)
	for key, value := range map[string]string{
		"NATS_SERVER_NAME": "test", "NATS_CERT_FILE": files.Cert, "NATS_KEY_FILE": files.Key, "NATS_CA_FILE": files.CA,
		"NATS_STORE_DIR": t.TempDir(), "NATS_MAX_FILE_STORE": "10G", "NATS_STORE_KEY": "k0123456789abcdef", "NATS_MONITORING_ADDR": "127.0.0.1:8222",
	} {
		t.Setenv(key, strconv.Quote(value)) // a comma would end it
	}
	opts, err := server.ProcessConfigFile(filepath.Join("..", "..", "..", "deploy", "nats", "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.HTTPPort, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, 0, true, true
	for _, change := range changes {
		change(opts)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) || !s.JetStreamEnabled() {
		t.Fatal("the server is not ready")
	}
	return &cluster{server: s, ca: ca, url: s.ClientURL(), port: s.Addr().(*net.TCPAddr).Port}
}

// config is how a service is configured for the cluster, with a certificate of
// its own.
func (c *cluster) config(t *testing.T, service string) bus.Config {
	t.Helper()
	files := tlsxtest.Files(t, c.ca.Issue([]string{user(service)}), c.ca)
	cfg := bustest.Config()
	cfg.URL, cfg.CertFile, cfg.KeyFile, cfg.CAFile = c.url, files.Cert, files.Key, files.CA
	cfg.Manage = service == svcProvisioner
	if service == svcGateway || service == svcIngest {
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
	}{{svcProvisioner, new(*bus.Bus)}, {svcOrchestrator, &w.orchestrator}, {svcGateway, &w.gateway}, {svcGateway, &w.pod}, {svcIngest, &w.ingest}} {
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
	case svcIngest:
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
	nc, err := nats.Connect(c.url, nats.ClientCert(cfg.CertFile, cfg.KeyFile), nats.RootCAs(cfg.CAFile), nats.CustomInboxPrefix("_INBOX_"+service),
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
