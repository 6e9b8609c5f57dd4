package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/e2e/bench/thin"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/suitetest"
)

const (
	ours = "ours"
	bare = "thin"

	subject  = "bench-customer"
	setupMax = time.Minute
)

// part is one process of a side.
type part struct {
	*suitetest.Process
	name  string
	admin string // http://host:port, with profiles
}

// side is one of the two paths: a NATS server, an ingest and a gateway.
type side struct {
	name                  string
	nats, ingest, gateway *part
	hookAddr, hookPath    string
	grpcAddr, httpAddr    string
	natsURL               string
	token                 string
	// webSocket and events are the paths of a session's streams over HTTP.
	webSocket, events func(session string) string
}

func (s *side) parts() []*part { return []*part{s.nats, s.ingest, s.gateway} }

// rig starts processes and ends them.
type rig struct {
	dir   string
	ports suitetest.Ports
	keys  *keyring.Keyring
	undo  []func()
}

// newRig builds what is run, commands of the suite by their package path and
// others in full.
func newRig(ctx context.Context, commands ...string) (*rig, error) {
	dir, err := os.MkdirTemp("", "axpchat-bench-")
	if err != nil {
		return nil, err
	}
	r := &rig{dir: dir, undo: []func(){func() { _ = os.RemoveAll(dir) }}}
	if r.keys, err = keyring.New(keyring.Config{Secret: config.Secret(suitetest.WebhookSecret)}); err != nil {
		return r, err
	}
	return r, suitetest.Build(ctx, dir, append(commands, "./gateway/cmd/gateway", "./webhook-ingest/cmd/webhook-ingest",
		"github.com/nats-io/nats-server/v2")...)
}

func (r *rig) close() {
	for _, f := range slices.Backward(r.undo) {
		f()
	}
}

func (r *rig) addrs(n int) ([]string, error) {
	out := make([]string, n)
	for i := range out {
		addr, err := r.ports.Addr()
		if err != nil {
			return nil, err
		}
		out[i] = addr
	}
	return out, nil
}

// launch starts a process; ready is the path on its admin address, empty where
// nobody waits for it.
func (r *rig) launch(ctx context.Context, name, binary, admin, ready string, env map[string]string, args ...string) (*part, error) {
	p, err := suitetest.Launch(suitetest.Command{
		Name: name, Binary: filepath.Join(r.dir, binary), Args: args, Env: env, Dir: r.dir,
	})
	if err != nil {
		return nil, err
	}
	r.undo = append(r.undo, p.Kill)
	out := &part{Process: p, name: name, admin: "http://" + admin}
	if ready == "" {
		return out, nil
	}
	if err := p.WaitReady(ctx, out.admin+ready); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, p.Log())
	}
	return out, nil
}

// startNATS starts a server as it is set up for production, on a disk of its own.
func (r *rig) startNATS(ctx context.Context, name, addr, profiles string) (*part, error) {
	_, port, _ := net.SplitHostPort(profiles)
	conf := filepath.Join(r.dir, name+"-nats.conf")
	text := fmt.Sprintf("listen: %q\nprof_port: %s\njetstream { store_dir: %q, max_file_store: 4GB, sync_interval: 1s }\n", addr, port, filepath.Join(r.dir, name+"-nats"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return r.launch(ctx, "nats", "nats-server", profiles, "/debug/pprof/", nil, "-c", conf)
}

// startOurs starts the suite's path.
func (r *rig) startOurs(ctx context.Context, extra []string) (*side, error) {
	a, err := r.addrs(2)
	if err != nil {
		return nil, err
	}
	s := &side{name: ours, natsURL: "nats://" + a[0]}
	if s.nats, err = r.startNATS(ctx, s.name, a[0], a[1]); err != nil {
		return nil, err
	}
	return s, r.startServices(ctx, s, "", extra)
}

// startServices starts what has strangers before it, over the side's NATS; suffix
// tells its processes from others of their kind.
func (r *rig) startServices(ctx context.Context, s *side, suffix string, extra []string) error {
	a, err := r.addrs(6)
	if err != nil {
		return err
	}
	s.hookAddr, s.grpcAddr, s.httpAddr = a[0], a[1], a[2]
	s.hookPath = keyring.CallbackPath(account) + r.keys.CallbackKey(account)
	s.webSocket = func(session string) string { return "/v1/sessions/" + session + ":connect" }
	s.events = func(session string) string { return "/v1/sessions/" + session + "/events" }
	env := func(admin string) map[string]string {
		out := map[string]string{
			"NATS_URL": s.natsURL, "WEBHOOK_SECRET": suitetest.WebhookSecret, "AUTH_HS256_SECRET": suitetest.TokenSecret,
			"WEBHOOK_ADDR": s.hookAddr, "GATEWAY_GRPC_ADDR": s.grpcAddr, "GATEWAY_HTTP_ADDR": s.httpAddr,
			"ORCHESTRATOR_ADDR": a[5], // nobody calls it
			"ADMIN_ADDR":        admin, "ADMIN_PPROF": "true",
			// One customer at one address has all the streams. Their places are counted
			// all the same.
			"LIMIT_CUSTOMER_CONNECTS": "off", "LIMIT_CUSTOMER_STREAMS": "1000000",
			"LIMIT_ADDRESS_CONNECTS": "off", "LIMIT_ADDRESS_FRAMES": "off", "LIMIT_ADDRESS_STREAMS": "1000000",
		}
		for _, kv := range extra {
			k, v, _ := strings.Cut(kv, "=")
			out[k] = v
		}
		return out
	}
	if s.ingest, err = r.launch(ctx, "ingest"+suffix, "webhook-ingest", a[3], "/healthz/ready", env(a[3])); err != nil {
		return err
	}
	if s.gateway, err = r.launch(ctx, "gateway"+suffix, "gateway", a[4], "/healthz/ready", env(a[4])); err != nil {
		return err
	}
	s.token, err = token()
	return err
}

// startThin starts the yardstick.
func (r *rig) startThin(ctx context.Context) (*side, error) {
	a, err := r.addrs(7)
	if err != nil {
		return nil, err
	}
	const key = "a-constant-key-of-the-yardstick"
	s := &side{
		name: bare, natsURL: "nats://" + a[0], hookAddr: a[2], grpcAddr: a[3], httpAddr: a[4], hookPath: thin.Path + key,
		webSocket: func(session string) string { return "/ws/" + session },
		events:    func(session string) string { return "/sse/" + session },
	}
	if s.nats, err = r.startNATS(ctx, s.name, a[0], a[1]); err != nil {
		return nil, err
	}
	if s.ingest, err = r.launch(ctx, "ingest", "thin", a[5], "/healthz/ready", nil,
		"ingest", "-nats", s.natsURL, "-addr", a[2], "-admin", a[5], "-key", key); err != nil {
		return nil, err
	}
	s.gateway, err = r.launch(ctx, "gateway", "thin", a[6], "/healthz/ready", nil,
		"gateway", "-nats", s.natsURL, "-addr", a[3], "-http", a[4], "-admin", a[6])
	if err != nil {
		return nil, err
	}
	s.token, err = token() // the same bytes on the wire
	return s, err
}

// freshGateway starts the gateway anew: memory that clients have left behind
// would hide what new ones take, and so would the garbage that it may have however
// many they are.
func (s *side) freshGateway(ctx context.Context) error {
	s.gateway.Kill()
	s.gateway.Setenv("GOGC", "100")
	if err := s.gateway.Start(); err != nil {
		return err
	}
	return s.gateway.WaitReady(ctx, s.gateway.admin+"/healthz/ready")
}

// seed writes sessions, each with a running chat, as the orchestrator does.
func (s *side) seed(ctx context.Context, sessions int) error {
	ctx, cancel := context.WithTimeout(ctx, setupMax)
	defer cancel()
	cfg := bus.Config{}
	if err := config.Load(&cfg, config.Map(map[string]string{"NATS_URL": s.natsURL})); err != nil {
		return err
	}
	b, err := bus.Connect(ctx, bus.Params{Config: cfg, Name: "bench", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // nothing is under way any more
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range sessions {
		group.Go(func() error {
			session, chat, now := sessionID(i), engagementID(i), timestamppb.Now()
			_, err := b.Sessions.Create(ctx, bus.SessionKeyOf(account, session), &busv1.SessionRecord{
				Subject: subject, EngagementIds: []string{chat},
				Session: &axpchatv1.Session{
					SessionId: session, Account: account, DisplayName: "Ines Duarte", CreateTime: now,
					Status: axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE,
				},
			})
			if err != nil {
				return err
			}
			_, err = b.Engagements.Create(ctx, bus.EngagementKey(account, session, chat), &busv1.EngagementRecord{
				Account: account,
				Engagement: &axpchatv1.Engagement{
					EngagementId: chat, SessionId: session, CreateTime: now,
					Status: axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ACTIVE,
				},
			})
			return err
		})
	}
	return group.Wait()
}
