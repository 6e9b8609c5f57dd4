package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"go.opentelemetry.io/otel/metric"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/internal/rotation"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/api"
	"github.com/axpchat/connector/services/session-orchestrator/internal/attachments"
	"github.com/axpchat/connector/services/session-orchestrator/internal/backfill"
	"github.com/axpchat/connector/services/session-orchestrator/internal/engagements"
	"github.com/axpchat/connector/services/session-orchestrator/internal/erase"
	"github.com/axpchat/connector/services/session-orchestrator/internal/idle"
	"github.com/axpchat/connector/services/session-orchestrator/internal/journal"
	"github.com/axpchat/connector/services/session-orchestrator/internal/messages"
	"github.com/axpchat/connector/services/session-orchestrator/internal/outbox"
	"github.com/axpchat/connector/services/session-orchestrator/internal/parameters"
	"github.com/axpchat/connector/services/session-orchestrator/internal/projector"
	"github.com/axpchat/connector/services/session-orchestrator/internal/reaper"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/sessions"
	"github.com/axpchat/connector/services/session-orchestrator/internal/timers"
)

// instrumentation names the meter of the orchestrator's own metrics.
const instrumentation = "github.com/axpchat/connector/services/session-orchestrator"

// Params is what New needs.
type Params struct {
	Config Config
	Log    *slog.Logger
	// Providers may be nil: no traces and metrics then.
	Providers *telemetry.Providers
	// Bus is connected; New provisions it and leaves closing it to the caller.
	Bus *bus.Bus
	// Listener is where the gRPC service is served; nil: Config.GRPCAddr.
	Listener net.Listener
	// Now is the clock by which chats and messages grow old; nil: the system's.
	Now func() time.Time
}

// Orchestrator is the session-orchestrator, built and bound.
type Orchestrator struct {
	components []lifecycle.Component
	listener   net.Listener
	accounts   *accounts.Registry
	policy     *idle.Policy
	operators  net.Listener // nil: operators are not served
	closers    lifecycle.Closers
}

// parts are what the orchestrator is made of, in the order of dependence.
type parts struct {
	agreement   *rotation.Agreement
	accounts    *accounts.Registry
	journal     *journal.Journal
	records     *records.Records
	watch       *records.Watch
	engagements *engagements.Service
	sessions    *sessions.Service
	messages    *messages.Service
	attachments *attachments.Service
	projector   *projector.Projector
	outbox      *outbox.Worker
	backfill    *backfill.Filler
	policy      *idle.Policy
	idle        *idle.Service
	parameters  *parameters.Teller
	timers      *timers.Worker
	reaper      *reaper.Reaper
	eraser      *erase.Eraser
}

// New builds the orchestrator: it brings streams and buckets up to date and
// binds the listener, and calls nobody else. Close undoes it; on an error it is
// undone already.
func New(ctx context.Context, p Params) (o *Orchestrator, err error) {
	o = &Orchestrator{}
	defer o.closers.CloseOnError(&err)
	if p.Providers == nil {
		p.Providers = telemetry.Nop()
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	ring, err := keyring.New(p.Config.Keyring)
	if err != nil {
		return nil, err
	}
	if err := p.Bus.Provision(ctx); err != nil {
		return nil, err
	}
	if err := p.Bus.FollowErased(ctx); err != nil {
		return nil, err
	}
	built, err := o.build(p, ring)
	if err != nil {
		return nil, err
	}
	o.accounts, o.policy = built.accounts, built.policy
	webhooks, err := newWebhooks(p, ring, built)
	if err != nil {
		return nil, err
	}
	serving, err := o.serve(ctx, p, built)
	if err != nil {
		return nil, err
	}
	o.components = []lifecycle.Component{built.agreement, built.projector, built.outbox, built.backfill, built.timers, built.reaper, webhooks, serving}
	operators, err := o.serveOperators(ctx, p, built.eraser)
	if err != nil {
		return nil, err
	}
	if operators != nil {
		o.components = append(o.components, operators)
	}
	return o, nil
}

// build makes the parts. What must be closed is noted as it is made.
func (o *Orchestrator) build(p Params, ring *keyring.Keyring) (*parts, error) {
	var (
		b     = &parts{journal: journal.New(p.Bus, p.Now)}
		meter = p.Providers.Meter.Meter(instrumentation)
		err   error
	)
	b.records = records.New(p.Bus, b.journal)
	b.agreement, err = rotation.New(rotation.Params{Config: p.Config.Rotation, Bus: p.Bus, Keys: ring, Log: p.Log, Meter: meter})
	if err != nil {
		return nil, err
	}
	b.accounts, err = accounts.New(accounts.Params{
		Accounts: p.Config.AccountList(), Config: p.Config.Removal, AXP: p.Config.AXP, Log: p.Log, Providers: p.Providers,
		UserAgent: "axp-chat-connector/" + lifecycle.Version(),
	})
	if err != nil {
		return nil, err
	}
	o.closers.Add("AXP clients", b.accounts.Close)
	b.watch, err = records.NewWatch(p.Bus)
	if err != nil {
		return nil, err
	}
	o.closers.Add("watch", b.watch.Close)
	b.policy = idle.NewPolicy(p.Config.Idle, p.Bus, p.Log, p.Now)
	b.parameters, err = parameters.New(parameters.Params{
		Config: p.Config.Parameters, Bus: p.Bus, Records: b.records, Accounts: b.accounts, Log: p.Log, Meter: meter, Now: p.Now,
	})
	if err != nil {
		return nil, err
	}
	b.engagements, err = engagements.New(engagements.Params{
		Bus: p.Bus, Records: b.records, Accounts: b.accounts, Minter: b.agreement, Watch: b.watch, Parameters: b.parameters, Policy: b.policy, Log: p.Log, Meter: meter, Now: p.Now,
	})
	if err != nil {
		return nil, err
	}
	b.sessions, err = sessions.New(sessions.Params{
		Bus: p.Bus, Records: b.records, Journal: b.journal, Accounts: b.accounts, Ender: b.engagements,
		Parameters: b.parameters, Policy: b.policy, Log: p.Log, Meter: meter, Now: p.Now,
	})
	if err != nil {
		return nil, err
	}
	b.messages = messages.New(messages.Params{
		Bus: p.Bus, Records: b.records, Journal: b.journal, Accounts: b.accounts, Log: p.Log, Now: p.Now,
		Bounds: messages.Bounds{Session: p.Config.Outbox.MaxPerSession, Account: p.Config.Outbox.MaxPerAccount},
	})
	b.attachments = attachments.New(p.Bus, b.records, b.accounts)
	if err := watchAside(p.Bus, meter); err != nil {
		return nil, err
	}
	return b, b.workers(p, meter)
}

// workers makes the parts that work on their own.
func (b *parts) workers(p Params, meter metric.Meter) (err error) {
	b.projector, err = projector.New(projector.Params{Bus: p.Bus, Records: b.records, Surplus: b.engagements, Log: p.Log, Meter: meter})
	if err != nil {
		return err
	}
	sender, err := outbox.NewSender(outbox.SenderParams{
		Config: p.Config.Outbox, Bus: p.Bus, Records: b.records, Journal: b.journal, Watch: b.watch, Accounts: b.accounts,
		Engagements: b.engagements, Log: p.Log, Meter: meter, Now: p.Now,
	})
	if err != nil {
		return err
	}
	b.outbox, err = outbox.NewWorker(outbox.WorkerParams{Bus: p.Bus, Sender: sender, Log: p.Log, Meter: meter})
	if err != nil {
		return err
	}
	b.backfill, err = backfill.New(backfill.Params{
		Config: p.Config.Backfill, Bus: p.Bus, Records: b.records, Accounts: b.accounts, Engagements: b.engagements,
		Replicas: b.outbox, Log: p.Log, Meter: meter, Now: p.Now,
	})
	if err != nil {
		return err
	}
	return b.clockwork(p, meter)
}

// clockwork makes the parts that work by the clock.
func (b *parts) clockwork(p Params, meter metric.Meter) (err error) {
	b.idle, err = idle.New(idle.Params{
		Policy: b.policy, Bus: p.Bus, Records: b.records, Journal: b.journal, Engagements: b.engagements, Sessions: b.sessions,
		Log: p.Log, Meter: meter, Now: p.Now,
	})
	if err != nil {
		return err
	}
	b.timers, err = timers.New(timers.Params{Bus: p.Bus, Log: p.Log, Meter: meter, Handlers: map[string]timers.Handler{
		idle.TimerKind: b.idle.Due, parameters.TimerKind: b.sessions.TellParameters,
	}})
	if err != nil {
		return err
	}
	b.eraser, err = erase.New(erase.Params{Bus: p.Bus, Sessions: b.sessions, Log: p.Log, Meter: meter, Now: p.Now})
	if err != nil {
		return err
	}
	b.reaper, err = reaper.New(reaper.Params{
		Config: p.Config.Reaper, Bus: p.Bus, Erasures: b.eraser, Sessions: b.sessions, Engagements: b.engagements, Parameters: b.parameters,
		Policy: b.policy, Replicas: b.outbox, Log: p.Log, Meter: meter, Now: p.Now,
	})
	return err
}

// serve binds the listener and puts the gRPC service on it.
func (o *Orchestrator) serve(ctx context.Context, p Params, b *parts) (lifecycle.Component, error) {
	params := grpcx.ServerParams{Log: p.Log, Providers: p.Providers, Config: p.Config.GRPC, Health: true}
	if p.Config.GRPC.ClientCAFile != "" {
		params.Interceptors = []grpcx.Interceptor{grpcx.OnlyCallers(p.Config.Callers)}
	}
	server, err := grpcx.NewServer(params)
	if err != nil {
		return nil, err
	}
	orchestratorv1.RegisterOrchestratorServiceServer(server, api.New(api.Params{
		Sessions: b.sessions, Engagements: b.engagements, Messages: b.messages, Attachments: b.attachments, Idle: b.idle,
	}))
	o.listener = p.Listener
	if o.listener == nil {
		o.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", p.Config.GRPCAddr)
		if err != nil {
			return nil, fmt.Errorf("listen on ORCHESTRATOR_GRPC_ADDR: %w", err)
		}
	}
	o.closers.Add("listener", func() error {
		if err := o.listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return grpcx.NewServerComponent("orchestrator-grpc", o.listener, server), nil
}

// Reload puts into force what of a configuration may change while the
// orchestrator runs: the accounts and the idle rules. On an error nothing has
// changed.
func (o *Orchestrator) Reload(ctx context.Context, c Config) error {
	if err := o.accounts.Set(ctx, c.AccountList()); err != nil {
		return err
	}
	o.policy.SetConfig(c.Idle)
	return nil
}

// Components are the parts that run, in the order in which they start and the
// reverse of which they drain: the gRPC service last and first.
func (o *Orchestrator) Components() []lifecycle.Component { return o.components }

// Addr is the address that the gRPC service is bound to.
func (o *Orchestrator) Addr() net.Addr { return o.listener.Addr() }

// Close gives back what New has opened. Call it when the components have ended.
func (o *Orchestrator) Close() error { return o.closers.Close() }
