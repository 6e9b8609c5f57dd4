package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/panics"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/internal/rotation"
	"github.com/axpchat/connector/services/webhook-ingest/internal/callback"
	"github.com/axpchat/connector/services/webhook-ingest/internal/route"
)

// Params is what New needs. Bus must be provisioned and stays its owner's.
type Params struct {
	Config    Config
	Log       *slog.Logger
	Providers *telemetry.Providers
	Bus       *bus.Bus
	Listener  net.Listener // nil: WEBHOOK_ADDR is bound
}

// instrumentation names the meter of the service's own metrics.
const instrumentation = "github.com/axpchat/connector/services/webhook-ingest"

var _ lifecycle.Component = (*Ingest)(nil)

// Ingest takes AXP's callbacks. It is safe for concurrent use.
type Ingest struct {
	server   *httpx.Server
	callback *callback.Handler
	receiver *rotation.Receiver
	bus      *bus.Bus
}

// New builds the service and binds its address. A listener that was given
// belongs to the service when New has succeeded.
func New(ctx context.Context, p Params) (*Ingest, error) {
	if p.Bus == nil || p.Log == nil || p.Providers == nil {
		return nil, errors.New("webhook-ingest: bus, log and providers are needed")
	}
	keys, err := keyring.New(p.Config.Keys)
	if err != nil {
		return nil, fmt.Errorf("webhook-ingest: %w", err)
	}
	c := p.Config
	allowed, err := httpx.ParseNetworks(c.AllowedNetworks)
	if err != nil {
		return nil, fmt.Errorf("webhook-ingest: WEBHOOK_ALLOWED_NETWORKS: %w", err)
	}
	proxies, err := httpx.ParseNetworks(c.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("webhook-ingest: WEBHOOK_TRUSTED_PROXIES: %w", err)
	}
	receiver := rotation.NewReceiver(ctx, rotation.Params{Config: c.Rotation, Bus: p.Bus, Keys: keys, Log: p.Log})
	handler, err := callback.New(callback.Params{
		Keys:      keys,
		Router:    route.New(route.Params{Keys: keys, Index: p.Bus.Index, Wait: c.RouteWait, Holds: c.RouteHolds}),
		Store:     p.Bus,
		Verifier:  callback.NewVerifier(c.SignatureHeader, c.SignatureSecret),
		Log:       p.Log,
		Providers: p.Providers,
		Limits: callback.Limits{
			Body: int64(c.MaxBody), Read: c.ReadTimeout, StoreTimeout: c.StoreTimeout, Answer: answerLimit, Concurrent: c.MaxConcurrent,
			Duplicates: p.Bus.Config().DuplicateWindow,
		},
		Accounts:         c.Accounts,
		ChannelProviders: c.ChannelProviders,
		Outdated:         receiver.Behind,
		Allowed:          allowed,
		Proxies:          proxies,
		Waiting:          func(ctx context.Context) (uint64, error) { return waiting(ctx, p.Bus) },
	})
	if err != nil {
		return nil, fmt.Errorf("webhook-ingest: %w", err)
	}
	lis, err := listen(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("webhook-ingest: %w", err)
	}
	return &Ingest{server: httpx.NewServer("webhook-ingest", lis, routes(p, handler), c.HTTP, p.Log), callback: handler, receiver: receiver, bus: p.Bus}, nil
}

// listen binds the address, unless a listener was given, and puts TLS on it where
// it is configured.
func listen(ctx context.Context, p Params) (net.Listener, error) {
	bound := p.Listener
	if bound == nil {
		var err error
		if bound, err = (&net.ListenConfig{}).Listen(ctx, "tcp", p.Config.Addr); err != nil {
			return nil, fmt.Errorf("listen on WEBHOOK_ADDR: %w", err)
		}
	}
	lis, err := p.Config.Proxied.Listen(bound)
	if err == nil {
		lis, err = httpx.Secure(lis, p.Config.files(), p.Config.ClientNames, p.Log)
	}
	if err != nil && p.Listener == nil {
		err = errors.Join(err, bound.Close())
	}
	return lis, err
}

// Reload puts into force what of a configuration may change while the service
// runs: the accounts whose callbacks are taken.
func (i *Ingest) Reload(c Config) { i.callback.SetAccounts(c.Accounts) }

// waiting counts what was set aside for an operator.
func waiting(ctx context.Context, b *bus.Bus) (uint64, error) {
	s, err := b.JS.Stream(ctx, bus.UnroutedStream)
	if err != nil {
		return 0, fmt.Errorf("look at the stream %s: %w", bus.UnroutedStream, err)
	}
	return s.CachedInfo().State.Msgs, nil
}

// routes puts what gets through the handler's gate behind the middleware that all
// services have. Its logs and spans name the pattern of the route: the path holds
// the key.
func routes(p Params, handler *callback.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(callback.Pattern, handler.Behind(func(h http.Handler) http.Handler {
		h = httpx.ReadTimeout(p.Config.ReadTimeout, h)
		h = httpx.SecurityHeaders(h)
		h = httpx.Recover(panics.New(p.Log, p.Providers.Meter.Meter(instrumentation)), h)
		h = httpx.AccessLog(p.Log, h)
		h = httpx.Instrument(p.Providers, h)
		return httpx.RequestID(h)
	}))
	mux.HandleFunc("/", handler.NotFound)
	return mux
}

// Addr is the address that is bound.
func (i *Ingest) Addr() string { return i.server.Addr() }

// Name returns "webhook-ingest".
func (i *Ingest) Name() string { return i.server.Name() }

// Run serves until ctx is done.
func (i *Ingest) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	// It counts as a receiver until its last call is answered.
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	group.Go(func() { i.receiver.Run(serving) })
	return i.server.Run(ctx)
}

// Ready fails while events can't be stored because NATS can't be reached.
func (i *Ingest) Ready(ctx context.Context) error { return i.bus.Ready(ctx) }

// Drain stops accepting calls and lets those that are under way store their
// events and answer.
func (i *Ingest) Drain(ctx context.Context) error { return i.server.Drain(ctx) }

// Close gives the address free when the service never ran.
func (i *Ingest) Close() error { return i.server.Close() }
