package bustest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/axpchat/connector/services/internal/kit/bus"
)

// nodes is the size of a cluster.
const nodes = 3

// Cluster starts a cluster of three servers of the test's own, which talk to
// each other over the loopback interface, and returns the addresses of the
// servers for clients.
func Cluster(t testing.TB) []string {
	t.Helper()
	routes := make([]*url.URL, nodes)
	ports := make([]int, nodes)
	for i := range nodes {
		ports[i] = FreePort(t)
		routes[i] = &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[i]))}
	}
	urls := make([]string, nodes)
	for i := range nodes {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("node-%d", i), Host: "127.0.0.1", Port: server.RANDOM_PORT,
			JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 1 << 30, JetStreamMaxMemory: 64 << 20,
			NoSigs: true, NoLog: true, MaxPayload: 4 << 20,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}, Routes: routes,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		urls[i] = s.ClientURL()
	}
	return urls
}

// ConnectCluster connects a bus to a server of a cluster and provisions it with
// three replicas, or with what the configuration says.
func ConnectCluster(t testing.TB, address string, cfg bus.Config) *bus.Bus {
	t.Helper()
	cfg.URL = address
	if cfg.Replicas == 1 {
		cfg.Replicas = nodes
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := bus.Connect(ctx, bus.Params{Config: cfg, Name: t.Name(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("connect to NATS: %v", err)
	}
	t.Cleanup(func() { _ = b.Close() }) // the server may be gone already, on purpose
	if err := b.Provision(ctx); err != nil {
		t.Fatalf("provision: %v", err)
	}
	return b
}

// FreePort is a port that was free a moment ago: each node of a cluster must
// know the others' before it starts.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
