package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/connector/dev"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/internal/suitetest"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
)

const (
	// pace is how long a slow client waits after each byte.
	pace = 50 * time.Millisecond
	// short is what listeners are told to allow; gRPC asks whether somebody is there
	// once a second at most.
	short     = 300 * time.Millisecond
	keepalive = time.Second
	// unset is what the admin port allows for heads and bodies, which can't be set.
	unset = 5 * time.Second
	// goodbye is how long a WebSocket's client may take to answer a close frame.
	goodbye = 5 * time.Second
	// slack is what a loaded machine may be late by.
	slack = 5 * time.Second
)

// loris says the first part at once and goes on byte by byte, until it is cut off.
type loris struct {
	name, addr  string
	first, rest []byte
	within      time.Duration // the limit that ends it
}

// attack fails unless the connection ends in time, and not at once.
func (l *loris) attack(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return err
	}
	began := time.Now()
	err = conn.SetReadDeadline(began.Add(l.within + slack))
	if err == nil {
		_, err = conn.Write(l.first)
	}
	var writer sync.WaitGroup
	defer writer.Wait()
	over := make(chan struct{})
	defer close(over)
	defer func() { _ = conn.Close() }()
	if err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	said := 0
	writer.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for said = range l.rest {
			select {
			case <-tick.C:
			case <-over:
				return
			}
			if _, err := conn.Write(l.rest[said : said+1]); err != nil {
				return
			}
		}
	})
	_, err = io.Copy(io.Discard, conn) // to its end: by a reset, too
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%s: is still there after %s, where %s are allowed", l.name, time.Since(began), l.within)
	case time.Since(began) < pace:
		return fmt.Errorf("%s: was cut off at once: it showed nothing", l.name)
	}
	return nil
}

// calling is the beginning of a gRPC call: all of its head, and that of a message
// of whose bytes none has come yet.
func calling(t *testing.T, path, token string) []byte {
	t.Helper()
	var out, head bytes.Buffer
	out.WriteString(http2.ClientPreface)
	enc := hpack.NewEncoder(&head)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"}, {"authorization", "Bearer " + token},
	} {
		if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	framer := http2.NewFramer(&out, nil)
	if err := errors.Join(framer.WriteSettings(), framer.WriteSettingsAck(), framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true})); err != nil {
		t.Fatal(err)
	}
	// A frame of 1000 bytes, whose head is all that is there.
	out.Write([]byte{0, 0x03, 0xe8, byte(http2.FrameData), 0, 0, 0, 0, 1})
	return out.Bytes()
}

// replica runs a second orchestrator of the suite, on a listener of its own: in one
// process the first has none.
func replica(ctx context.Context, t *testing.T, cfg dev.Config, s *scene) *orchestrator.Orchestrator {
	t.Helper()
	host := func(address string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		return u.Host
	}
	all := cfg.Pointed(host(s.Sandbox), host(s.Webhook))
	all.Bus.URL = "nats://" + cfg.Connector.NATSListen
	providers := telemetry.Nop()
	b, err := bus.Connect(ctx, bus.Params{Config: all.Bus, Name: "replica", Log: logx.Discard(), Propagator: providers.Propagator, Meter: providers.Meter})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o, err := orchestrator.New(ctx, orchestrator.Params{Config: all.Orchestrator, Log: logx.Discard(), Providers: providers, Bus: b, Listener: lis})
	if err != nil {
		t.Fatal(err)
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- lifecycle.Run(life, logx.Discard(), 10*time.Second, o.Components()...) }()
	t.Cleanup(func() {
		end()
		if err := errors.Join(<-ended, o.Close()); err != nil {
			t.Errorf("the replica did not end cleanly: %v", err)
		}
	})
	return o
}

// TestSlowClientsAreCutOffAtEveryListener: heads that come byte by byte, and
// bodies, end within the limits, while the chat beside them goes on.
func TestSlowClientsAreCutOffAtEveryListener(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var cfg dev.Config
	listen, err := (&suitetest.Ports{}).Addr()
	if err != nil {
		t.Fatal(err)
	}
	s := start(ctx, t, func(c *dev.Config) {
		c.Connector.NATSListen = listen
		g := &c.Connector.Gateway
		g.GRPC.HandshakeTimeout, g.GRPC.KeepaliveTime, g.GRPC.KeepaliveTimeout = short, keepalive, keepalive
		c.Connector.Orchestrator.GRPC = g.GRPC
		g.HTTP.ReadHeaderTimeout, g.HTTP.ReadTimeout, g.Streams.HelloTimeout = short, short, short
		c.Connector.Ingest.HTTP, c.Connector.Ingest.ReadTimeout = g.HTTP, short
		cfg = *c
	})
	pod := replica(ctx, t, cfg, s)
	conn, err := grpc.NewClient(pod.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	behind := orchestratorv1.NewOrchestratorServiceClient(conn)

	lorises := s.lorises(t, pod.Addr().String())
	results := make(chan error, len(lorises))
	for _, l := range lorises {
		go func() { results <- l.attack(ctx) }()
	}
	beside := time.NewTicker(10 * pace)
	defer beside.Stop()
	for left := len(lorises); left > 0; {
		select {
		case err := <-results:
			left--
			if err != nil {
				t.Error(err)
			}
		case <-beside.C:
			s.goesOn(ctx, t)
			_, err := behind.GetSession(ctx, &orchestratorv1.GetSessionRequest{
				Caller: &orchestratorv1.Caller{Account: suitetest.Account, Subject: "victim"}, Request: &axpchatv1.GetSessionRequest{SessionId: s.session},
			})
			if err != nil {
				t.Errorf("the orchestrator does not answer beside slow clients: %v", err)
			}
		}
	}
	if s.said == 0 {
		t.Error("nothing was said meanwhile")
	}
}

// lorises are several of each kind, at each listener.
func (s *scene) lorises(t *testing.T, pod string) []*loris {
	t.Helper()
	const call, watch, inner = "/axpchat.v1.ChatService/GetSession", "/axpchat.v1.ChatService/WatchEvents", "/axpchat.orchestrator.v1.OrchestratorService/GetSession"
	long := bytes.Repeat([]byte("a"), 1000)
	preface := []byte(http2.ClientPreface)
	httpAddr, hook, admin := s.HTTP[len("http://"):], s.Webhook[len("http://"):], s.Admin[len("http://"):]
	head := []byte("GET /v1/sessions HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	body := func(line, more string) []byte {
		return []byte(line + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n" + more + "\r\n")
	}
	token := "Authorization: Bearer " + s.thief + "\r\n"
	upgrade := "GET /v1/sessions/" + s.own + ":connect HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: axpchat.v1+json\r\n" + token + "\r\n\x81\xfe\x03\xe8\x00\x00\x00\x00"
	kinds := []loris{
		{"gateway gRPC, preface", s.GRPC, nil, preface, short},
		{"gateway gRPC, a call of the thief", s.GRPC, calling(t, call, s.thief), long, 2 * keepalive},
		{"gateway gRPC, a call of a stranger", s.GRPC, calling(t, call, "none"), long, 2 * keepalive},
		{"gateway gRPC, a stream of the thief", s.GRPC, calling(t, watch, s.thief), long, 2 * keepalive},
		{"orchestrator gRPC, preface", pod, nil, preface, short},
		{"orchestrator gRPC, a call", pod, calling(t, inner, ""), long, 2 * keepalive},
		{"gateway HTTP, head", httpAddr, head, long, short},
		{"gateway HTTP, first line", httpAddr, nil, head, short},
		{"gateway HTTP, body of the thief", httpAddr, body("POST /v1/sessions", token), long, short},
		{"gateway HTTP, body of a stranger", httpAddr, body("POST /v1/sessions", ""), long, short},
		{"gateway HTTP, body of no call", httpAddr, body("POST /v1/nothing", ""), long, short},
		{"gateway HTTP, body of a page", httpAddr, body("GET /", ""), long, short},
		{"gateway HTTP, body of no page", httpAddr, body("POST /nothing", ""), long, short},
		{"gateway HTTP, body of events of a stranger", httpAddr, body("GET /v1/sessions/"+s.session+"/events", "Accept: text/event-stream\r\n"), long, short},
		{"gateway HTTP, first frame of a WebSocket", httpAddr, []byte(upgrade), long, short + goodbye},
		{"webhook-ingest, head", hook, head, long, short},
		{"webhook-ingest, body with a wrong key", hook, body("POST /webhooks/axp/SANDBX/wrong", ""), long, short},
		{"webhook-ingest, body of no path", hook, body("POST /", ""), long, short},
		{"admin, head", admin, head, long, unset},
		{"admin, body", admin, body("GET /healthz/live", ""), long, unset},
		{"admin, body of no path", admin, body("POST /", ""), long, unset},
	}
	var out []*loris
	for _, k := range kinds {
		for range 3 {
			out = append(out, &k)
		}
	}
	return out
}
