package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof" // mounted by hand, only when switched on
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/axpchat/connector/services/internal/kit/lifecycle"
)

const (
	// readyTimeout bounds one readiness check; probes themselves time out after
	// a few seconds, and a late answer is as bad as none.
	readyTimeout = 2 * time.Second
	readyGrace   = 200 * time.Millisecond
	// bodyTimeout is how long a body may take that nobody asked for.
	bodyTimeout = 5 * time.Second
	// closeTimeout is what running requests get at the end.
	closeTimeout = time.Second
)

var (
	_ lifecycle.Component = (*Admin)(nil)
	_ lifecycle.Announcer = (*Admin)(nil)
)

// Admin is the HTTP server for operators and probes:
//
//	/healthz/live     200 while the process runs
//	/healthz/startup  200 once everything was ready for the first time
//	/healthz/ready    200 when everything is ready, 503 otherwise or when draining;
//	                  what works in part only is told, and is ready
//	/metrics          Prometheus
//	/version          service, version and Go version
//	/debug/pprof/     profiles, when switched on
//
// It has no authentication: its address belongs on a private network. As a
// component it comes first, so that probes are answered while the others start
// and until they have drained.
type Admin struct {
	// DrainDelay is how long Announce waits after readiness has gone, so that
	// load balancers notice. Zero unless set, before the component runs.
	DrainDelay time.Duration

	listener  net.Listener
	server    *http.Server
	providers *Providers
	ready     func(context.Context) map[string]error
	started   atomic.Bool
	draining  atomic.Bool
}

// NewAdmin binds the address and returns the server, which does not answer yet.
// The ready function gives an entry for each component, nil when it is ready; it
// is called for every probe, possibly concurrently, with a context of 2 s, and
// must end when that is done. An entry that is a lifecycle.DegradedError is told and
// does not count. A nil function stands for a process without parts.
func NewAdmin(addr string, profiles bool, p *Providers, ready func(ctx context.Context) map[string]error) (*Admin, error) {
	// Binding does not block; there is nothing that a context could cut short.
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on ADMIN_ADDR: %w", err)
	}
	if ready == nil {
		ready = func(context.Context) map[string]error { return nil }
	}
	a := &Admin{listener: listener, providers: p, ready: ready}
	a.server = &http.Server{
		Handler:           limitBodies(a.routes(profiles)),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	return a, nil
}

// limitBodies bounds how long net/http waits for the body of a request before it
// answers. A limit for all requests would cut profiles off as well.
func limitBodies(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			// It can't be set on the writers of tests, which do not wait either.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		h.ServeHTTP(w, r)
	})
}

func (a *Admin) routes(profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz/live", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, health{Status: "ok"})
	})
	mux.HandleFunc("GET /healthz/ready", a.serveReady)
	mux.HandleFunc("GET /healthz/startup", a.serveStartup)
	mux.HandleFunc("GET /version", a.serveVersion)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.providers.Registry, promhttp.HandlerOpts{
		Registry: a.providers.Registry,
		// One broken collector must not hide all others.
		ErrorHandling: promhttp.ContinueOnError,
	}))
	if profiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// Addr returns the address that is bound, with the port that was chosen for 0.
func (a *Admin) Addr() string { return a.listener.Addr().String() }

// Name returns "admin".
func (a *Admin) Name() string { return "admin" }

// Run serves until ctx is done. It must be called once at most.
func (a *Admin) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- a.server.Serve(a.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("admin server: %w", err)
	case <-ctx.Done():
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := a.server.Shutdown(within); err != nil {
		// A profile may run for longer; it is cut off.
		_ = a.server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin server: %w", err)
	}
	return nil
}

// Ready returns nil: the listener is bound, and connections wait in its queue.
func (a *Admin) Ready(context.Context) error { return nil }

// SetDraining makes readiness fail from now on.
func (a *Admin) SetDraining() { a.draining.Store(true) }

// Announce makes readiness fail and waits for DrainDelay.
func (a *Admin) Announce(ctx context.Context) {
	a.SetDraining()
	if a.DrainDelay <= 0 {
		return
	}
	timer := time.NewTimer(a.DrainDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Drain makes readiness fail. Probes and metrics are served until Run ends.
func (a *Admin) Drain(context.Context) error {
	a.SetDraining()
	return nil
}

// Close gives the address free when the component never ran.
func (a *Admin) Close() error {
	if err := a.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("admin server: %w", err)
	}
	return nil
}

// health is the body of the health paths.
type health struct {
	Status     string            `json:"status"`
	Components map[string]string `json:"components,omitempty"`
}

func (a *Admin) serveReady(w http.ResponseWriter, r *http.Request) {
	h, ok := a.check(r.Context())
	if a.draining.Load() {
		h.Status, ok = "draining", false
	}
	writeJSON(w, statusOf(ok), h)
}

// serveStartup looks at readiness itself: while a startup probe fails, no other
// probe runs that could.
func (a *Admin) serveStartup(w http.ResponseWriter, r *http.Request) {
	if a.started.Load() {
		writeJSON(w, http.StatusOK, health{Status: "ok"})
		return
	}
	h, ok := a.check(r.Context())
	writeJSON(w, statusOf(ok), h)
}

// check asks for readiness within readyTimeout.
func (a *Admin) check(ctx context.Context) (health, bool) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	// A little longer than ctx: a function that keeps to it still gets to say
	// which component was late.
	late := time.NewTimer(readyTimeout + readyGrace)
	defer late.Stop()
	// The buffer lets a late answer end its goroutine.
	answer := make(chan map[string]error, 1)
	go func() { answer <- a.ready(ctx) }()
	var components map[string]error
	select {
	case components = <-answer:
	case <-late.C:
		return health{Status: "timeout"}, false
	}
	h, ok := health{Status: "ok", Components: make(map[string]string, len(components))}, true
	for name, err := range components {
		h.Components[name] = "ok"
		if err == nil {
			continue
		}
		h.Components[name] = err.Error()
		if _, partly := errors.AsType[*lifecycle.DegradedError](err); !partly {
			h.Status, ok = "unavailable", false
		} else if ok {
			h.Status = "degraded"
		}
	}
	if ok {
		a.started.Store(true)
	}
	return h, ok
}

func (a *Admin) serveVersion(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{
		"service": a.providers.Service,
		"version": a.providers.Version,
		"go":      runtime.Version(),
	})
}

func statusOf(ok bool) int {
	if ok {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The client may be gone; nobody is left to be told.
	_, _ = w.Write(append(text, '\n'))
}
