package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// transport is a way in.
type transport int

const (
	grpcConnect transport = iota
	grpcWatch
	webSocket
	eventStream
	longPoll
	transports
)

// String names it.
func (t transport) String() string {
	return [...]string{"gRPC Connect", "gRPC WatchEvents", "WebSocket", "SSE", "long polling"}[t]
}

const (
	pingEvery = 5 * time.Second
	pollWait  = 5 * time.Second
	frameSize = 4 << 20
)

// follow brings the session's frames to a until the stream ends.
func (t transport) follow(ctx context.Context, a *attachment, pod int, cursor string) error {
	switch t {
	case grpcConnect:
		return a.connect(ctx, pod, cursor)
	case grpcWatch:
		return a.watch(ctx, pod, cursor)
	case webSocket:
		return a.webSocket(ctx, pod, cursor)
	case eventStream:
		return a.eventStream(ctx, pod, cursor)
	default:
		return a.poll(ctx, pod, cursor)
	}
}

// grpc opens a connection of the client's own.
func (a *attachment) grpc(pod int) (*grpc.ClientConn, axpchatv1.ChatServiceClient, error) {
	conn, err := grpc.NewClient("passthrough:///"+a.client.stage.toGateGRPC[pod].addr(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
	if err != nil {
		return nil, nil, err
	}
	return conn, axpchatv1.NewChatServiceClient(conn), nil
}

func (c *client) auth(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
}

// connect uses one stream for everything.
func (a *attachment) connect(ctx context.Context, pod int, cursor string) error {
	conn, chat, err := a.grpc(pod)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it may have ended already
	stream, err := chat.Connect(a.client.auth(ctx))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	send := func(f *axpchatv1.ConnectRequest) error {
		mu.Lock()
		defer mu.Unlock()
		return stream.Send(f)
	}
	if err := send(hello(a.client.session, cursor)); err != nil {
		return err
	}
	var pings sync.WaitGroup
	defer pings.Wait()
	defer a.cancel()
	pings.Go(func() { a.ping(ctx, send) })
	a.ready(a.inStream(send))
	for {
		f, err := stream.Recv()
		if err != nil {
			return well(err)
		}
		a.take(ctx, f)
	}
}

// well tells a stream that ended well from a broken one.
func well(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func hello(session, cursor string) *axpchatv1.ConnectRequest {
	return &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Hello{Hello: &axpchatv1.Hello{SessionId: session, Cursor: cursor}}}
}

// ping shows the server that the client is there.
func (a *attachment) ping(ctx context.Context, send func(*axpchatv1.ConnectRequest) error) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if send(&axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Ping{Ping: &axpchatv1.Ping{}}}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

type sendFunc = func(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.Message, error)

// inStream sends messages as frames and waits for their replies.
func (a *attachment) inStream(send func(*axpchatv1.ConnectRequest) error) sendFunc {
	return func(ctx context.Context, req *axpchatv1.SendMessageRequest) (*axpchatv1.Message, error) {
		reply := make(chan *axpchatv1.Reply, 1)
		a.mu.Lock()
		a.frames++
		id := "f" + strconv.Itoa(a.frames)
		a.replies[id] = reply
		a.mu.Unlock()
		f := &axpchatv1.ConnectRequest{FrameId: id, Payload: &axpchatv1.ConnectRequest_SendMessage{SendMessage: req}}
		if err := send(f); err != nil {
			return nil, io.ErrClosedPipe
		}
		select {
		case r := <-reply:
			if p := r.GetProblem(); p != nil {
				return nil, &problem{p.GetReason()}
			}
			return r.GetSendMessage().GetMessage(), nil
		case <-a.done:
			return nil, io.ErrClosedPipe
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// watch follows by WatchEvents and sends by calls on the same connection.
func (a *attachment) watch(ctx context.Context, pod int, cursor string) error {
	conn, chat, err := a.grpc(pod)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it may have ended already
	stream, err := chat.WatchEvents(a.client.auth(ctx), &axpchatv1.WatchEventsRequest{SessionId: a.client.session, Cursor: cursor})
	if err != nil {
		return err
	}
	a.ready(func(ctx context.Context, req *axpchatv1.SendMessageRequest) (*axpchatv1.Message, error) {
		resp, err := chat.SendMessage(a.client.auth(ctx), req)
		return resp.GetMessage(), err
	})
	for {
		f, err := stream.Recv()
		if err != nil {
			return well(err)
		}
		a.take(ctx, f.GetFrame())
	}
}

// base is where a pod serves HTTP.
func (c *client) base(pod int) string { return "http://" + c.stage.toGateHTTP[pod].addr() }

// rest makes a call with JSON.
func (c *client) rest(ctx context.Context, method, url string, in, out proto.Message) error {
	var body io.Reader
	if in != nil {
		data, err := protojson.Marshal(in)
		if err != nil {
			return err
		}
		body = strings.NewReader(string(data))
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode > 299 {
		return &suitetest.StatusError{Method: method, URL: url, Status: resp.StatusCode, Body: string(data)}
	}
	return protojson.Unmarshal(data, out)
}

// reasonOf reads the reason out of application/problem+json.
func reasonOf(body []byte) axpchatv1.ErrorReason {
	for name, n := range axpchatv1.ErrorReason_value {
		short := strings.TrimPrefix(name, "ERROR_REASON_")
		if n != 0 && strings.Contains(string(body), `"`+short+`"`) {
			return axpchatv1.ErrorReason(n)
		}
	}
	return axpchatv1.ErrorReason_ERROR_REASON_UNSPECIFIED
}

// restSend sends messages by REST to one pod.
func (a *attachment) restSend(pod int) sendFunc {
	return func(ctx context.Context, req *axpchatv1.SendMessageRequest) (*axpchatv1.Message, error) {
		out := &axpchatv1.SendMessageResponse{}
		url := a.client.base(pod) + "/v1/sessions/" + req.GetSessionId() + "/engagements/" + req.GetEngagementId() + "/messages"
		err := a.client.rest(ctx, http.MethodPost, url, req, out)
		return out.GetMessage(), err
	}
}

// webSocket opens the socket as a browser does, with a one-time ticket.
func (a *attachment) webSocket(ctx context.Context, pod int, cursor string) error {
	c := a.client
	ticket := &axpchatv1.CreateTicketResponse{}
	in := &axpchatv1.CreateTicketRequest{Use: axpchatv1.TicketUse_TICKET_USE_CONNECT}
	base := c.base(pod) + "/v1/sessions/" + c.session
	if err := c.rest(ctx, http.MethodPost, base+":createTicket", in, ticket); err != nil {
		c.refused(err)
		return err
	}
	ws, resp, err := websocket.Dial(ctx, strings.Replace(base, "http", "ws", 1)+":connect?ticket="+url.QueryEscape(ticket.GetTicket()),
		&websocket.DialOptions{Subprotocols: []string{"axpchat.v1+json"}, HTTPClient: c.web})
	if resp != nil && resp.Body != nil {
		defer resp.Body.Close()
	}
	if err != nil {
		return err
	}
	defer ws.CloseNow() //nolint:errcheck // it has ended already
	ws.SetReadLimit(frameSize)
	send := func(f *axpchatv1.ConnectRequest) error {
		data, err := protojson.Marshal(f)
		if err != nil {
			return err
		}
		return ws.Write(ctx, websocket.MessageText, data)
	}
	if err := send(hello("", cursor)); err != nil {
		return err
	}
	a.ready(a.inStream(send))
	for {
		_, data, err := ws.Read(ctx)
		if err != nil {
			if websocket.CloseStatus(err) >= 0 {
				return nil // it was told why
			}
			return err
		}
		f := &axpchatv1.ConnectResponse{}
		if err := protojson.Unmarshal(data, f); err != nil {
			return err
		}
		a.take(ctx, f)
	}
}

// eventStream reads server-sent events, and sends by REST.
func (a *attachment) eventStream(ctx context.Context, pod int, cursor string) error {
	c := a.client
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base(pod)+"/v1/sessions/"+c.session+"/events", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer "+c.token)
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	resp, err := c.web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body) // what there is
		err := &suitetest.StatusError{Method: http.MethodGet, URL: "events", Status: resp.StatusCode, Body: string(body)}
		c.refused(err)
		return err
	}
	a.ready(a.restSend(pod))
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, frameSize)
	data := ""
	for lines.Scan() {
		a.alive() // comments are signs of life, too
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case field == "data":
			data += value
		case lines.Text() == "" && data != "":
			f := &axpchatv1.ConnectResponse{}
			if err := protojson.Unmarshal([]byte(data), f); err != nil {
				return err
			}
			data = ""
			a.take(ctx, f)
		}
	}
	return lines.Err()
}

// poll asks again and again, and sends by REST. All polls count as one stream.
func (a *attachment) poll(ctx context.Context, pod int, cursor string) error {
	c := a.client
	a.ready(a.restSend(pod))
	for {
		out := &axpchatv1.PollEventsResponse{}
		url := fmt.Sprintf("%s/v1/sessions/%s/events:poll?cursor=%s&wait=%ds", c.base(pod), c.session, url.QueryEscape(cursor), int(pollWait.Seconds()))
		if err := c.rest(ctx, http.MethodGet, url, nil, out); err != nil {
			c.refused(err)
			return err
		}
		a.alive()
		if out.GetReset_() != nil {
			a.take(ctx, &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Reset_{Reset_: out.GetReset_()}})
		}
		for _, e := range out.GetEvents() {
			a.take(ctx, &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Event{Event: e}})
		}
		cursor = out.GetCursor()
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(out.GetEvents()) == 0 && out.GetReset_() == nil {
			pause(ctx, 20*time.Millisecond) // a pod that leaves answers at once
		}
	}
}

// journal reads a session's journal from its beginning.
func (c *client) journal(ctx context.Context, pod int) ([]*axpchatv1.Event, error) {
	var all []*axpchatv1.Event
	cursor := ""
	for {
		out := &axpchatv1.PollEventsResponse{}
		url := fmt.Sprintf("%s/v1/sessions/%s/events:poll?maxEvents=500&cursor=%s", c.base(pod), c.session, url.QueryEscape(cursor))
		if err := c.rest(ctx, http.MethodGet, url, nil, out); err != nil {
			return nil, err
		}
		if out.GetReset_() != nil {
			return nil, errors.New("the journal answers reset from its beginning")
		}
		all, cursor = append(all, out.GetEvents()...), out.GetCursor()
		if !out.GetMore() {
			return all, nil
		}
	}
}
