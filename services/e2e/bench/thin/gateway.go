package thin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	ws "github.com/coder/websocket"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

const (
	// liveBuffer is how many events may wait for one client, as in the product.
	liveBuffer   = 64
	flushTimeout = 5 * time.Second
)

// RunGateway serves clients until ctx ends.
func RunGateway(ctx context.Context, cfg Config) error {
	nc, _, err := open(ctx, cfg.NATSURL)
	if err != nil {
		return err
	}
	defer nc.Close()
	lis, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return err
	}
	g := &gateway{nc: nc}
	srv := grpc.NewServer()
	axpchatv1.RegisterChatServiceServer(srv, g)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws/{session}", g.webSocket)
	mux.HandleFunc("GET /sse/{session}", g.events)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return srv.Serve(lis) })
	group.Go(func() error {
		<-ctx.Done()
		srv.Stop()
		return nil
	})
	group.Go(func() error { return serve(ctx, admin(cfg.AdminAddr), server(cfg.HTTPAddr, mux)) })
	return group.Wait()
}

type gateway struct {
	axpchatv1.UnimplementedChatServiceServer

	nc *nats.Conn
}

// WatchEvents sends a session's events. It leaves what it does not know of the
// stream to the client: nothing is caught up.
func (g *gateway) WatchEvents(r *axpchatv1.WatchEventsRequest, s grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
	return g.follow(s.Context(), r.GetSessionId(), func(f *axpchatv1.ConnectResponse) error {
		return s.Send(&axpchatv1.WatchEventsResponse{Frame: f})
	})
}

// Connect is the same on a stream of two ways. A second goroutine reads, since a
// client may speak at any time.
func (g *gateway) Connect(s grpc.BidiStreamingServer[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	go func() { // ends with the handler
		for {
			if _, err := s.Recv(); err != nil {
				return
			}
		}
	}()
	return g.follow(s.Context(), first.GetHello().GetSessionId(), s.Send)
}

func (g *gateway) webSocket(w http.ResponseWriter, r *http.Request) {
	conn, err := ws.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	if _, _, err := conn.Read(r.Context()); err != nil { // hello
		return
	}
	ctx := conn.CloseRead(context.WithoutCancel(r.Context()))
	_ = g.follow(ctx, r.PathValue("session"), func(f *axpchatv1.ConnectResponse) error { // it ends with the client
		data, err := protojson.Marshal(f)
		if err != nil {
			return err
		}
		return conn.Write(ctx, ws.MessageText, data)
	})
}

func (g *gateway) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	_ = g.follow(r.Context(), r.PathValue("session"), func(f *axpchatv1.ConnectResponse) error { // it ends with the client
		data, err := protojson.Marshal(f)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
			return err
		}
		return control.Flush()
	})
}

// follow sends a welcome when the server knows the subscription, then what comes.
func (g *gateway) follow(ctx context.Context, session string, send func(*axpchatv1.ConnectResponse) error) error {
	live := make(chan *nats.Msg, liveBuffer)
	sub, err := g.nc.ChanSubscribe(livePrefix+session, live)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // it fails only without the connection
	if err := g.nc.FlushTimeout(flushTimeout); err != nil {
		return err
	}
	welcome := &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Welcome{Welcome: &axpchatv1.Welcome{}}}
	if err := send(welcome); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-live:
			if err := send(frame(m)); err != nil {
				return err
			}
		}
	}
}

// frame carries the stored event as it came.
func frame(m *nats.Msg) *axpchatv1.ConnectResponse {
	sequence, _ := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64) // the server's own header
	return &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Event{Event: &axpchatv1.Event{
		EventId: m.Header.Get("Nats-Msg-Id"), Sequence: sequence,
		Payload: &axpchatv1.Event_Unknown{Unknown: &axpchatv1.UnknownEvent{RawJson: string(m.Data)}},
	}}}
}
