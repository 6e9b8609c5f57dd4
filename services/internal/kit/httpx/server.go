package httpx

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
)

// ServerConfig says how an HTTP server treats its connections. Zero values stand
// for the defaults.
type ServerConfig struct {
	ReadHeaderTimeout time.Duration `env:"HTTP_READ_HEADER_TIMEOUT" default:"5s" doc:"How long a client may take to send the head of a request."`
	ReadTimeout       time.Duration `env:"HTTP_READ_TIMEOUT" default:"15s" doc:"How long a client may take to send the body of a request."`
	IdleTimeout       time.Duration `env:"HTTP_IDLE_TIMEOUT" default:"75s" doc:"How long a connection without requests is kept."`
	MaxHeaderBytes    config.Bytes  `env:"HTTP_MAX_HEADER_BYTES" default:"32KiB" doc:"Largest head of a request."`
}

// Validate refuses negative times.
func (c ServerConfig) Validate() []config.Mistake {
	var out []config.Mistake
	for _, t := range []struct {
		key string
		d   time.Duration
	}{
		{"HTTP_READ_HEADER_TIMEOUT", c.ReadHeaderTimeout},
		{"HTTP_READ_TIMEOUT", c.ReadTimeout},
		{"HTTP_IDLE_TIMEOUT", c.IdleTimeout},
	} {
		if t.d < 0 {
			out = append(out, config.Mistake{Key: t.key, Problem: "must not be negative"})
		}
	}
	if c.MaxHeaderBytes > 1<<30 {
		out = append(out, config.Mistake{Key: "HTTP_MAX_HEADER_BYTES", Problem: "must be at most 1GiB"})
	}
	return out
}

// WithDefaults returns the configuration with the defaults in place of zeros.
func (c ServerConfig) WithDefaults() ServerConfig {
	if c.ReadHeaderTimeout == 0 {
		c.ReadHeaderTimeout = 5 * time.Second
	}
	if c.ReadTimeout == 0 {
		c.ReadTimeout = 15 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 75 * time.Second
	}
	if c.MaxHeaderBytes == 0 {
		c.MaxHeaderBytes = 32 << 10
	}
	return c
}

var _ lifecycle.Component = (*Server)(nil)

// Server is an HTTP server as a component. It counts its running handlers
// itself: net/http forgets those that took over their connection, such as
// WebSockets.
type Server struct {
	name     string
	listener net.Listener
	server   *http.Server
	handlers context.Context //nolint:containedctx // the base of the requests' contexts
	cancel   context.CancelFunc

	mu       sync.Mutex
	running  int
	quiet    chan struct{} // closed while no handler runs
	draining bool
	lastHook int
	hooks    map[int]func()
}

// NewServer returns a server for the listener, which it owns from now on. The
// timeout for bodies is not the server's: see [ReadTimeout].
func NewServer(name string, lis net.Listener, h http.Handler, cfg ServerConfig, log *slog.Logger) *Server {
	cfg = cfg.WithDefaults()
	s := &Server{name: name, listener: lis, quiet: make(chan struct{}), hooks: map[int]func(){}}
	close(s.quiet)
	s.handlers, s.cancel = context.WithCancel(context.Background())
	s.server = &http.Server{
		Handler:           s.count(h),
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    int(cfg.MaxHeaderBytes),
		BaseContext:       func(net.Listener) context.Context { return s.handlers },
		ErrorLog:          stdlog.New(newFaults(log), "", 0),
	}
	return s
}

// Addr returns the address that is bound, with the port that was chosen for 0.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Name returns the name.
func (s *Server) Name() string { return s.name }

// Ready returns nil: the listener is bound, and connections wait in its queue.
func (s *Server) Ready(context.Context) error { return nil }

// Close gives the address free when the server never ran.
func (s *Server) Close() error {
	s.cancel()
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close %s: %w", s.name, err)
	}
	return nil
}

// Run serves until ctx is done, then cuts off what is left and waits for the
// handlers to return.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.server.Serve(s.listener) }()
	select {
	case err := <-failed:
		if !errors.Is(err, http.ErrServerClosed) {
			s.cancel()
			return fmt.Errorf("serve HTTP on %s: %w", s.Addr(), err)
		}
		<-ctx.Done() // drained
	case <-ctx.Done():
	}
	s.beginDrain()
	s.cutOff()
	<-s.isQuiet()
	return nil
}

// Drain runs the hooks of [Server.OnDrain], stops accepting and waits for the
// handlers, also for those that took over their connection. What is not done
// when ctx is gets cut off.
func (s *Server) Drain(ctx context.Context) error {
	s.beginDrain()
	if err := s.server.Shutdown(ctx); err != nil {
		s.cutOff()
		return fmt.Errorf("HTTP requests were cut off: %w", err)
	}
	select {
	case <-s.isQuiet():
		return nil
	case <-ctx.Done():
		s.cutOff()
		return fmt.Errorf("HTTP streams were cut off: %w", context.Cause(ctx))
	}
}

// OnDrain adds a function that runs when the server begins to drain, before it
// stops accepting. It is where streams that would not end by themselves are told
// to. The functions run one after the other, in no promised order, and must not
// block. When the server drains already, f runs at once. The function that is
// returned takes f back; a stream calls it when it ends by itself.
func (s *Server) OnDrain(f func()) (release func()) {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		f()
		return func() {}
	}
	defer s.mu.Unlock()
	s.lastHook++
	id := s.lastHook
	s.hooks[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.hooks, id)
	}
}

func (s *Server) beginDrain() {
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return
	}
	hooks := s.hooks
	s.draining, s.hooks = true, nil
	s.mu.Unlock()
	for _, f := range hooks {
		f()
	}
}

// cutOff ends the contexts of the handlers and closes their connections.
func (s *Server) cutOff() {
	s.cancel()
	// The listener is closed already in the one case that gives an error.
	_ = s.server.Close()
}

// isQuiet returns what is closed once no handler runs. It is asked for when no
// new ones can start.
func (s *Server) isQuiet() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.quiet
}

// count keeps track of the handlers that run.
func (s *Server) count(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.running == 0 {
			s.quiet = make(chan struct{})
		}
		s.running++
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.running--
			if s.running == 0 {
				close(s.quiet)
			}
		}()
		h.ServeHTTP(w, r)
	})
}
