// Package natsembed owns the NATS server that runs inside a process of the
// suite, for the all-in-one connector and for tests. It is the only package that
// imports nats-server, but for the clusters of tests (bustest).
//
// Invariants: one data directory belongs to one process at a time, by a lock on
// it; without a listen address the server opens no socket and is reached by
// in-process connections alone; nothing installs signal handlers.
//
// It declares no stream and knows no subject: that is the bus's part. A server
// in a process of its own is configured elsewhere; this one has no users, so its
// listen address, if any, belongs on the loopback interface or a private network.
package natsembed

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	defaultName         = "axpchat"
	defaultSyncInterval = time.Second
	defaultMaxStore     = 4 << 30
	defaultMaxMemory    = 64 << 20
	// maxPayload leaves room around the largest callback body, as the servers of
	// deploy/ do.
	maxPayload = 4 << 20

	// startTimeout bounds the wait for the first connection. The recovery of the
	// journal (about 4 s for a million messages) comes before that and takes the
	// time it takes: ending it early would only make the next start as slow.
	startTimeout = 30 * time.Second
)

// errNotReady is what Start reports of a server that nobody could use.
var errNotReady = errors.New("server is not ready, or could not open its store")

// Options configures a server. The zero value suits a single process.
type Options struct {
	// Name is the server's name; it shows in monitoring. Default "axpchat".
	Name string
	// Listen is the host:port for clients of other processes; port 0 takes a free
	// one. Empty: in-process connections only.
	Listen string
	// SyncInterval is how often data is flushed to disk. What was acknowledged
	// within the last interval is lost when the machine, not just the process,
	// dies. Default 1 s.
	SyncInterval time.Duration
	// MaxStore and MaxMemory bound what JetStream keeps, in bytes, on disk and in
	// memory. Defaults 4 GiB and 64 MiB.
	MaxStore, MaxMemory int64
	// Log gets the server's warnings and errors, and its notices at level debug.
	// Without it they are dropped.
	Log *slog.Logger
}

// Server is a running NATS server. Its methods are safe for concurrent use.
type Server struct {
	nats      *server.Server
	listening bool
	unlock    func() error
	stop      sync.Once
}

// Start starts a server with JetStream on the data directory dir, which it
// creates when it is missing, and returns when clients can connect and the
// stored data is there. It fails when another process, or another server of this
// one, uses the directory.
func Start(dir string, opts Options) (_ *Server, err error) {
	if dir == "" {
		// The library would fall back to a directory under the system's temporary
		// one, where data is lost or shared without anybody noticing.
		return nil, errors.New("embedded NATS: no data directory given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "axpchat.lock"))
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: data directory %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unlock())
		}
	}()
	config, err := opts.server(dir)
	if err != nil {
		return nil, err
	}
	ns, err := server.NewServer(config)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	if opts.Log != nil {
		ns.SetLoggerV2(logger{opts.Log}, false, false, false)
	}
	ns.Start()
	s := &Server{nats: ns, listening: opts.Listen != "", unlock: unlock}
	// JetStream is switched off, with only a log line, when its store cannot be
	// opened: a server without it must not count as started.
	if !ns.ReadyForConnections(startTimeout) || !ns.JetStreamEnabled() {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, fmt.Errorf("embedded NATS: data directory %s: %w", dir, errNotReady)
	}
	return s, nil
}

// server translates the options, with their defaults.
func (o Options) server(dir string) (*server.Options, error) {
	out := &server.Options{
		ServerName:         orDefault(o.Name, defaultName),
		DontListen:         o.Listen == "",
		JetStream:          true,
		StoreDir:           dir,
		SyncInterval:       orDefault(o.SyncInterval, defaultSyncInterval),
		JetStreamMaxStore:  orDefault(o.MaxStore, defaultMaxStore),
		JetStreamMaxMemory: orDefault(o.MaxMemory, defaultMaxMemory),
		MaxPayload:         maxPayload,
		NoSigs:             true,
		NoLog:              true,
	}
	if o.Listen == "" {
		return out, nil
	}
	host, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: listen address: %w", err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: listen address %s: bad port", o.Listen)
	}
	out.Host, out.Port = host, int(number)
	if number == 0 {
		out.Port = server.RANDOM_PORT // 0 would mean the default port
	}
	return out, nil
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// InProcess returns the option that makes nats.Connect reach this server without
// a socket. The URL given to nats.Connect is ignored.
func (s *Server) InProcess() nats.Option { return nats.InProcessServer(s.nats) }

// Connect returns a new in-process connection. The caller closes it, before
// Shutdown.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect("", append([]nats.Option{s.InProcess()}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to embedded NATS: %w", err)
	}
	return nc, nil
}

// ClientURL returns the URL for clients of other processes, empty when the
// server does not listen.
func (s *Server) ClientURL() string {
	if !s.listening {
		return ""
	}
	return s.nats.ClientURL()
}

// Shutdown stops the server, waits until its data is written and gives the
// directory free. Open connections are closed. Further calls do nothing.
func (s *Server) Shutdown() {
	s.stop.Do(func() {
		s.nats.Shutdown()
		s.nats.WaitForShutdown()
		// The lock ends with the process at the latest; an error here has no
		// consequence that a caller could avert.
		_ = s.unlock()
	})
}
