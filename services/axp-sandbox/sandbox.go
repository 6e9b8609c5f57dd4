// Package sandbox owns the stand-in for AXP: the documented REST operations
// with their validation and errors, real webhooks, an agent desk, an automatic
// agent, an issuer of customers' tokens and faults on demand. It is held to the
// same contract as the client that talks to it, and is never part of a
// production image.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/axpchat/connector/services/axp-sandbox/internal/api"
	"github.com/axpchat/connector/services/axp-sandbox/internal/autoagent"
	"github.com/axpchat/connector/services/axp-sandbox/internal/control"
	"github.com/axpchat/connector/services/axp-sandbox/internal/desk"
	"github.com/axpchat/connector/services/axp-sandbox/internal/deskapi"
	"github.com/axpchat/connector/services/axp-sandbox/internal/issuer"
	"github.com/axpchat/connector/services/axp-sandbox/internal/media"
	"github.com/axpchat/connector/services/axp-sandbox/internal/webhooks"
	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

// Params is what New needs.
type Params struct {
	Config   Config
	Log      *slog.Logger
	Listener net.Listener // nil: SANDBOX_ADDR is bound
}

var _ lifecycle.Component = (*Sandbox)(nil)

// Sandbox is a running stand-in for AXP. It is safe for concurrent use.
type Sandbox struct {
	log    *slog.Logger
	world  *world.World
	hooks  *webhooks.Hooks
	auto   *autoagent.Agent
	server *httpx.Server
	disk   *disk

	leaving chan struct{} // ends the desk's streams
	leave   sync.Once
}

// New builds the sandbox, loads its data and binds its address.
func New(ctx context.Context, p Params) (*Sandbox, error) {
	c := p.Config
	if p.Listener == nil {
		lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Addr)
		if err != nil {
			return nil, fmt.Errorf("axp-sandbox: listen on SANDBOX_ADDR: %w", err)
		}
		p.Listener = lis
	}
	files, err := media.New(time.Now)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("axp-sandbox: %w", err), p.Listener.Close())
	}
	s := &Sandbox{log: p.Log, leaving: make(chan struct{})}
	s.hooks = webhooks.New(webhooks.Config{Timeout: c.CallbackTimeout, RetryDelay: c.RetryDelay, MaxAttempts: c.MaxAttempts, Seed: c.Seed}, p.Log)
	s.world = world.New(world.Config{
		AccountID: c.AccountID, ChannelProviderID: c.ChannelProviderID, ActivationDelay: c.ActivationDelay, QueueMessage: c.QueueMessage,
	}, s.hooks.Emit, time.Now)
	s.auto = autoagent.New(autoagent.Config{Name: c.AgentName, AcceptDelay: c.AcceptDelay, ReplyDelay: c.ReplyDelay}, s.world, c.AutoAgent)
	s.disk = &disk{path: c.DataFile, world: s.world, hooks: s.hooks, log: p.Log, dirty: make(chan struct{}, 1)}
	if err := s.disk.load(); err != nil { //nolint:contextcheck // callbacks live as long as the sandbox, not as the start
		s.world.Close()
		s.hooks.Close()
		return nil, errors.Join(fmt.Errorf("axp-sandbox: %w", err), p.Listener.Close())
	}
	s.server = httpx.NewServer("axp-sandbox", p.Listener, s.handler(c, files), httpx.ServerConfig{}, p.Log)
	s.server.OnDrain(func() { s.leave.Do(func() { close(s.leaving) }) })
	return s, nil
}

func (s *Sandbox) handler(c Config, files *media.Store) http.Handler {
	mux := http.NewServeMux()
	calls := api.New(api.Params{
		Config: api.Config{
			AccountID: c.AccountID, ClientID: c.ClientID, ClientSecret: c.ClientSecret.Reveal(), AppKey: c.AppKey.Reveal(),
			ChannelProviderID: c.ChannelProviderID,
			TokenLifetime:     c.TokenLifetime, PlainHTTPCallbacks: c.AllowHTTP, Seed: c.Seed,
		},
		World: s.world, Hooks: s.hooks, Media: files, Now: time.Now,
	})
	calls.Register(mux)
	control.Register(mux, control.Params{World: s.world, Hooks: s.hooks, API: calls, Auto: s.auto})
	deskapi.New(deskapi.Params{World: s.world, Auto: s.auto, Media: files, Name: c.AgentName, Log: s.log, Done: s.leaving}).Register(mux)
	page := desk.Handler()
	mux.Handle("/desk", page)
	mux.Handle("/desk/", page)
	if c.TokenSecret.Reveal() != "" {
		tokens := issuer.Handler(issuer.Config{Secret: c.TokenSecret.Reveal(), Issuer: c.TokenIssuer, Audience: c.TokenAudience, Account: c.AccountID}, time.Now)
		mux.Handle("POST /dev/token", tokens)
		mux.Handle("OPTIONS /dev/token", tokens)
	}
	mux.Handle("GET /{$}", http.RedirectHandler("/desk", http.StatusFound))
	return httpx.RequestID(httpx.Recover(panics.New(s.log, nil), mux))
}

// Addr is the address that is bound.
func (s *Sandbox) Addr() string { return s.server.Addr() }

// Name is "axp-sandbox".
func (s *Sandbox) Name() string { return "axp-sandbox" }

// Ready returns nil: the sandbox needs nobody.
func (s *Sandbox) Ready(ctx context.Context) error { return s.server.Ready(ctx) }

// Run serves until ctx ends.
func (s *Sandbox) Run(ctx context.Context) error {
	var group sync.WaitGroup
	inner, cancel := context.WithCancel(ctx)
	group.Go(func() { s.auto.Run(inner) })
	group.Go(func() { s.disk.run(inner) })
	err := s.server.Run(ctx)
	cancel()
	group.Wait()
	s.world.Close()
	s.hooks.Close()
	return errors.Join(err, s.disk.save())
}

// Drain ends streams and lets requests finish.
func (s *Sandbox) Drain(ctx context.Context) error { return s.server.Drain(ctx) }

// Close gives back what New has taken, where Run was never called.
func (s *Sandbox) Close() error {
	s.world.Close()
	s.hooks.Close()
	return s.server.Close()
}
