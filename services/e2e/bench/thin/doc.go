// Package thin is the thinnest program that keeps the promise of the delivery
// path: a callback is stored in JetStream before it is answered, and the stored
// event is pushed to the client of its session. It is what the suite's own path
// is measured against, so it leaves out all that the promise does not need:
// verification of dialogs, normalising, catch-up, repair, heartbeats, limits,
// metrics, logs. It must never serve anything but the benchmark.
package thin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof" // mounted by hand
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// Config is what both programs are told.
type Config struct {
	NATSURL   string
	Addr      string // of ingest's HTTP, or of the gateway's gRPC
	HTTPAddr  string // of the gateway's WebSocket and server-sent events
	AdminAddr string // readiness and profiles
	Key       string // the last part of ingest's path
}

// Account is the account of every session.
const Account = "BENCHX"

// Path is where ingest takes callbacks, up to the key.
const Path = "/webhooks/thin/"

const (
	stream      = "EVENTS"
	eventPrefix = "chat.event." + Account + "."
	livePrefix  = "chat.live." + Account + "."

	// The same as the product's defaults: they decide what the server remembers.
	retention  = 7 * 24 * time.Hour
	duplicates = 2 * time.Hour

	connectPause = 100 * time.Millisecond
	headTimeout  = 5 * time.Second
)

// open connects to NATS and declares the stream.
func open(ctx context.Context, url string) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(url, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(connectPause))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to NATS: %w", err)
	}
	js, err := jetstream.New(nc)
	if err == nil {
		_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: stream, Subjects: []string{"chat.event.*.*"}, Storage: jetstream.FileStorage, Replicas: 1,
			MaxAge: retention, Duplicates: duplicates, AllowDirect: true,
			RePublish: &jetstream.RePublish{Source: "chat.event.>", Destination: "chat.live.>"},
		})
	}
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("declare the stream: %w", err)
	}
	return nc, js, nil
}

// admin answers that the program is ready, and with profiles.
func admin(addr string) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz/ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	return server(addr, mux)
}

func server(addr string, h http.Handler) *http.Server {
	return &http.Server{Addr: addr, Handler: h, ReadHeaderTimeout: headTimeout}
}

// serve runs HTTP servers until ctx ends or one fails.
func serve(ctx context.Context, servers ...*http.Server) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range servers {
		lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Addr)
		if err != nil {
			return err
		}
		group.Go(func() error {
			if err := s.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			return s.Close()
		})
	}
	return group.Wait()
}
