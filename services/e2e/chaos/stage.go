package chaos

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/axpchat/connector/services/internal/suitetest"
)

const (
	pods      = 2 // of each service
	natsNodes = 3
)

// service is one pod of a service.
type service struct {
	*suitetest.Process
	admin string         // http://host:port
	nats  []*Link        // to each NATS node
	life  sync.Mutex     // one fault at a time changes its life
	usage map[string]use // at idle, by moment
}

// ready is where the pod says that it can be used.
func (s *service) ready() string { return s.admin + "/healthz/ready" }

// stage is everything that runs. Its parts live until close.
type stage struct {
	dir, bin, logs string
	ports          *suitetest.Ports

	cluster                         *cluster
	gateways, orchestrators, ingest []*service
	sandbox                         *suitetest.Process
	sandboxURL                      string

	hooks      *hooks
	toHooks    *Link
	toIngest   []*Link
	toAXP      []*Link
	toOrch     []*Link
	toGateGRPC []*Link
	toGateHTTP []*Link

	undo []func()
}

// build compiles what runs.
func build(ctx context.Context, dir string) error {
	return suitetest.Build(ctx, dir, "./gateway/cmd/gateway", "./session-orchestrator/cmd/session-orchestrator",
		"./webhook-ingest/cmd/webhook-ingest", "./axp-sandbox/cmd/axp-sandbox", "github.com/nats-io/nats-server/v2")
}

// newStage starts everything; close must be called even where it fails.
func newStage(ctx context.Context, o Options) (*stage, error) {
	s := &stage{ports: &suitetest.Ports{}, bin: o.Binaries, logs: o.Artifacts}
	var err error
	if s.dir, err = os.MkdirTemp("", "axpchat-chaos-"); err != nil {
		return s, err
	}
	s.undo = append(s.undo, func() { _ = os.RemoveAll(s.dir) })
	if s.logs == "" {
		s.logs = filepath.Join(s.dir, "logs")
	}
	if err := os.MkdirAll(s.logs, 0o750); err != nil {
		return s, err
	}
	if s.bin == "" {
		s.bin = filepath.Join(s.dir, "bin")
		if err := os.MkdirAll(s.bin, 0o750); err != nil {
			return s, err
		}
		if err := build(ctx, s.bin); err != nil {
			return s, err
		}
	}
	if s.cluster, err = s.newCluster(ctx); err != nil {
		return s, err
	}
	if err := s.startSandbox(ctx); err != nil {
		return s, err
	}
	return s, s.startServices(ctx)
}

// close ends everything in reverse.
func (s *stage) close() {
	for _, undo := range slices.Backward(s.undo) {
		undo()
	}
	s.undo = nil
}

func (s *stage) link(ctx context.Context, name string, backends ...string) (*Link, error) {
	l, err := newLink(ctx, name, backends...)
	if err == nil {
		s.undo = append(s.undo, l.close)
	}
	return l, err
}

// launch starts a process with its log in a file of its own, to which a second
// life of it is added.
func (s *stage) launch(name, binary string, env map[string]string, args ...string) (*suitetest.Process, error) {
	log, err := os.OpenFile(filepath.Join(s.logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, name)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	p, err := suitetest.Launch(suitetest.Command{Name: name, Binary: filepath.Join(s.bin, binary), Args: args, Env: env, Dir: dir, Log: log})
	if err != nil {
		return nil, err
	}
	s.undo = append(s.undo, func() { p.Kill(); _ = log.Close() })
	return p, nil
}

func (s *stage) startSandbox(ctx context.Context) error {
	addr, err := s.ports.Addr()
	if err != nil {
		return err
	}
	s.sandboxURL = "http://" + addr
	s.sandbox, err = s.launch("axp-sandbox", "axp-sandbox", map[string]string{
		"SANDBOX_ADDR": addr, "SANDBOX_AUTO_AGENT": "false", "SANDBOX_RETRY_DELAY": "500ms", "SANDBOX_MAX_ATTEMPTS": "100000",
		"SANDBOX_TOKEN_LIFETIME": "60s", "AUTH_HS256_SECRET": suitetest.TokenSecret,
	})
	if err != nil {
		return err
	}
	return s.sandbox.WaitReady(ctx, s.sandboxURL+"/control/state")
}

// common is the configuration that all services share. What waits long in
// production waits seconds here, for a run has minutes.
func common() map[string]string {
	return map[string]string{
		"NATS_REPLICAS": "3", "OUTBOX_PARTITIONS": "8", "LOG_LEVEL": "info", "ADMIN_PPROF": "true", "SHUTDOWN_GRACE": "15s",
		"AUTH_HS256_SECRET": suitetest.TokenSecret, "AUTH_ISSUER": "axp-sandbox", "AUTH_AUDIENCE": "axp-chat-connector",
		"WEBHOOK_SECRET": suitetest.WebhookSecret,
		"AXP_ACCOUNT_ID": suitetest.Account, "AXP_CLIENT_ID": "sandbox-client", "AXP_CLIENT_SECRET": "sandbox-secret",
		"AXP_APP_KEY": "sandbox-appkey", "AXP_CHANNEL_PROVIDER_ID": suitetest.Provider,
		"AXP_CALL_TIMEOUT": "4s", "AXP_TOKEN_BACKOFF_MAX": "2s", "OUTBOX_RETRY_MAX": "2s",
		"BACKFILL_HOLE_WAIT": "3s", "BACKFILL_ECHO_WAIT": "6s", "BACKFILL_QUIET_AFTER": "15s",
		"HEARTBEAT_INTERVAL": "3s", "CLIENT_IDLE_TIMEOUT": "20s", "DRAIN_SPREAD": "2s", "DRAIN_GRACE": "2s",
		"DELIVERY_QUEUE_BYTES": "64KiB", "STREAM_WRITE_TIMEOUT": "4s", "DELIVERY_STALL_TIMEOUT": "6s",
		// Garbage that gathers before it is collected would hide what leaks.
		"GOGC": "100",
		// All customers come from one address, and all at once after each fault.
		"LIMIT_ADDRESS_CONNECTS": "off", "LIMIT_ADDRESS_FRAMES": "off",
		"GRPC_CLIENT_KEEPALIVE_TIME": "10s", "GRPC_CLIENT_KEEPALIVE_TIMEOUT": "3s",
	}
}

func (s *stage) startServices(ctx context.Context) error {
	ingestAddrs, orchAddrs, err := s.addresses()
	if err != nil {
		return err
	}
	hookBackends := make([]string, pods)
	for i := range pods {
		l, err := s.link(ctx, fmt.Sprintf("axp->ingest-%d", i), ingestAddrs[i])
		if err != nil {
			return err
		}
		s.toIngest, hookBackends[i] = append(s.toIngest, l), l.addr()
	}
	if s.hooks, err = newHooks(ctx, hookBackends...); err != nil {
		return err
	}
	s.undo = append(s.undo, s.hooks.close)
	if s.toHooks, err = s.link(ctx, "axp->balancer", s.hooks.addr()); err != nil {
		return err
	}
	for i := range pods {
		if err := s.startOrchestrator(ctx, i, orchAddrs[i]); err != nil {
			return err
		}
		if i == 0 { // it declares the streams; the others find them
			if err := s.orchestrators[0].WaitReady(ctx, s.orchestrators[0].ready()); err != nil {
				return err
			}
		}
		if err := s.startIngest(ctx, i, ingestAddrs[i]); err != nil {
			return err
		}
		if err := s.startGateway(ctx, i, orchAddrs); err != nil {
			return err
		}
	}
	var group errgroup.Group
	for _, p := range s.services() {
		group.Go(func() error { return p.WaitReady(ctx, p.ready()) })
	}
	return group.Wait()
}

func (s *stage) addresses() (ingest, orchestrator []string, err error) {
	for range pods {
		i, err := s.ports.Addr()
		if err != nil {
			return nil, nil, err
		}
		o, err := s.ports.Addr()
		if err != nil {
			return nil, nil, err
		}
		ingest, orchestrator = append(ingest, i), append(orchestrator, o)
	}
	return ingest, orchestrator, nil
}

// pod starts one pod of a service with its own links to NATS.
func (s *stage) pod(ctx context.Context, binary string, i int, env map[string]string) (*service, error) {
	name := fmt.Sprintf("%s-%d", binary, i)
	admin, err := s.ports.Addr()
	if err != nil {
		return nil, err
	}
	p := &service{admin: "http://" + admin, usage: map[string]use{}}
	urls := make([]string, natsNodes)
	for n, node := range s.cluster.nodes {
		l, err := s.link(ctx, name+"->"+node.Name, node.client)
		if err != nil {
			return nil, err
		}
		p.nats, urls[n] = append(p.nats, l), "nats://"+l.addr()
	}
	all := common()
	maps.Copy(all, env)
	all["ADMIN_ADDR"], all["NATS_URL"] = admin, strings.Join(urls, ",")
	p.Process, err = s.launch(name, binary, all)
	return p, err
}

func (s *stage) startOrchestrator(ctx context.Context, i int, addr string) error {
	sandbox := strings.TrimPrefix(s.sandboxURL, "http://")
	axp, err := s.link(ctx, fmt.Sprintf("session-orchestrator-%d->axp", i), sandbox)
	if err != nil {
		return err
	}
	s.toAXP = append(s.toAXP, axp)
	p, err := s.pod(ctx, "session-orchestrator", i, map[string]string{
		"ORCHESTRATOR_GRPC_ADDR": addr, "AXP_BASE_URL": "http://" + axp.addr(), "WEBHOOK_PUBLIC_URL": "http://" + s.toHooks.addr(),
	})
	s.orchestrators = append(s.orchestrators, p)
	return err
}

func (s *stage) startIngest(ctx context.Context, i int, addr string) error {
	p, err := s.pod(ctx, "webhook-ingest", i, map[string]string{"WEBHOOK_ADDR": addr})
	s.ingest = append(s.ingest, p)
	return err
}

func (s *stage) startGateway(ctx context.Context, i int, orchestrators []string) error {
	grpcAddr, err := s.ports.Addr()
	if err != nil {
		return err
	}
	httpAddr, err := s.ports.Addr()
	if err != nil {
		return err
	}
	// Each gateway begins at another orchestrator.
	own := append(append([]string{}, orchestrators[i%pods:]...), orchestrators[:i%pods]...)
	for _, to := range []struct {
		list     *[]*Link
		name     string
		backends []string
	}{
		{&s.toOrch, "gateway-%d->session-orchestrator", own},
		{&s.toGateGRPC, "clients->gateway-%d gRPC", []string{grpcAddr}},
		{&s.toGateHTTP, "clients->gateway-%d HTTP", []string{httpAddr}},
	} {
		l, err := s.link(ctx, fmt.Sprintf(to.name, i), to.backends...)
		if err != nil {
			return err
		}
		*to.list = append(*to.list, l)
	}
	s.toOrch[i].preferFirst()
	p, err := s.pod(ctx, "gateway", i, map[string]string{
		"GATEWAY_GRPC_ADDR": grpcAddr, "GATEWAY_HTTP_ADDR": httpAddr, "ORCHESTRATOR_ADDR": s.toOrch[i].addr(),
		// So little that the slow readers of a run fill it.
		"DELIVERY_QUEUE_BYTES": "64KiB",
	})
	s.gateways = append(s.gateways, p)
	return err
}

// services are all pods of the product.
func (s *stage) services() []*service {
	return append(append(append([]*service{}, s.gateways...), s.orchestrators...), s.ingest...)
}

// links are all links but those of the NATS routes.
func (s *stage) links() []*Link {
	all := append(append([]*Link{s.toHooks}, s.toIngest...), s.toAXP...)
	all = append(append(append(all, s.toOrch...), s.toGateGRPC...), s.toGateHTTP...)
	for _, p := range s.services() {
		all = append(all, p.nats...)
	}
	return all
}

// heal repairs every link.
func (s *stage) heal() {
	for _, l := range s.links() {
		l.heal()
	}
	s.cluster.rejoin()
}
