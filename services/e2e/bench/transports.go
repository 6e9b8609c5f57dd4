package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	ws "github.com/coder/websocket"
	"google.golang.org/grpc"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// transport is a way in which an idle client holds on to a gateway. Long polling
// is none: a client without a request under way costs nothing.
type transport struct {
	name string
	aim  float64 // bytes a client, at most; 0: none was set
	// connect returns when the welcome is there. The client reads on, and counts
	// in readers, until leave is called.
	connect func(ctx context.Context, s *side, session string, readers *sync.WaitGroup) (leave func(), err error)
}

func transports() []transport {
	return []transport{
		{"grpc-connect", 40 << 10, connectBidi},
		{"grpc-watch", 40 << 10, connectWatch},
		{"websocket", 30 << 10, connectWebSocket},
		{"sse", 0, connectEvents},
	}
}

func transportNames() []string {
	var names []string
	for _, t := range transports() {
		names = append(names, t.name)
	}
	return names
}

func transportOf(name string) (transport, bool) {
	for _, t := range transports() {
		if t.name == name {
			return t, true
		}
	}
	return transport{}, false
}

var errNoWelcome = errors.New("the first frame is not welcome")

func connectBidi(ctx context.Context, s *side, session string, readers *sync.WaitGroup) (func(), error) {
	return overGRPC(ctx, s, readers, func(ctx context.Context, c axpchatv1.ChatServiceClient) (func() (*axpchatv1.ConnectResponse, error), error) {
		stream, err := c.Connect(ctx)
		if err != nil {
			return nil, err
		}
		return stream.Recv, stream.Send(&axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Hello{Hello: &axpchatv1.Hello{SessionId: session}}})
	})
}

func connectWatch(ctx context.Context, s *side, session string, readers *sync.WaitGroup) (func(), error) {
	return overGRPC(ctx, s, readers, func(ctx context.Context, c axpchatv1.ChatServiceClient) (func() (*axpchatv1.ConnectResponse, error), error) {
		stream, err := c.WatchEvents(ctx, &axpchatv1.WatchEventsRequest{SessionId: session})
		if err != nil {
			return nil, err
		}
		return func() (*axpchatv1.ConnectResponse, error) {
			m, err := stream.Recv()
			return m.GetFrame(), err
		}, nil
	})
}

type opener func(context.Context, axpchatv1.ChatServiceClient) (recv func() (*axpchatv1.ConnectResponse, error), err error)

// overGRPC opens a stream on a connection of its own.
func overGRPC(ctx context.Context, s *side, readers *sync.WaitGroup, open opener) (leave func(), err error) {
	conn, err := s.dial()
	if err != nil {
		return nil, err
	}
	recv, err := open(s.authorised(ctx), axpchatv1.NewChatServiceClient(conn))
	if err == nil {
		var f *axpchatv1.ConnectResponse
		if f, err = recv(); err == nil && f.GetWelcome() == nil {
			err = fmt.Errorf("%w: %v", errNoWelcome, f)
		}
	}
	if err != nil {
		_ = conn.Close() // the first error counts
		return nil, err
	}
	readers.Go(func() {
		for {
			if _, err := recv(); err != nil {
				return
			}
		}
	})
	return func() { closeConn(conn) }, nil
}

func closeConn(conn *grpc.ClientConn) { _ = conn.Close() } // nothing is under way

func connectWebSocket(ctx context.Context, s *side, session string, readers *sync.WaitGroup) (func(), error) {
	conn, resp, err := ws.Dial(ctx, "ws://"+s.httpAddr+s.webSocket(session), &ws.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + s.token}}, Subprotocols: []string{"axpchat.v1+json"},
	})
	if err != nil {
		return nil, err
	}
	if resp.Body != nil {
		_ = resp.Body.Close() // there is none after an upgrade
	}
	err = conn.Write(ctx, ws.MessageText, []byte(`{"hello":{}}`))
	if err == nil {
		var data []byte
		if _, data, err = conn.Read(ctx); err == nil && !strings.Contains(string(data), "welcome") {
			err = errNoWelcome
		}
	}
	if err != nil {
		_ = conn.CloseNow() // the first error counts
		return nil, err
	}
	readers.Go(func() { // reading answers pings, too
		for {
			if _, _, err := conn.Read(ctx); err != nil {
				return
			}
		}
	})
	return func() { _ = conn.CloseNow() }, nil // nobody waits for a handshake
}

func connectEvents(ctx context.Context, s *side, session string, readers *sync.WaitGroup) (func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	leave, err := listen(ctx, s, session, readers)
	if err != nil {
		cancel()
		return nil, err
	}
	return func() { cancel(); leave() }, nil
}

func listen(ctx context.Context, s *side, session string, readers *sync.WaitGroup) (func(), error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.httpAddr+s.events(session), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Accept", "text/event-stream")
	own := &http.Transport{DisableCompression: true}
	resp, err := (&http.Client{Transport: own}).Do(req)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && resp.StatusCode == http.StatusOK {
		if !strings.Contains(lines.Text(), `"welcome"`) {
			continue
		}
		readers.Go(func() { _, _ = io.Copy(io.Discard, resp.Body) }) // ends with the client
		return func() { _ = resp.Body.Close(); own.CloseIdleConnections() }, nil
	}
	_ = resp.Body.Close() // the first error counts
	return nil, fmt.Errorf("server-sent events: status %d: %w", resp.StatusCode, errors.Join(errNoWelcome, lines.Err()))
}
