package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
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

// customer is an app: the same story can be told through each way in.
type customer interface {
	createSession(ctx context.Context, req *axpchatv1.CreateSessionRequest) (*axpchatv1.Session, error)
	// watch begins to receive the session's events after the cursor.
	watch(ctx context.Context, session, cursor string) (*inbox, error)
	updateParameters(ctx context.Context, req *axpchatv1.UpdateSessionParametersRequest) error
	createEngagement(ctx context.Context, req *axpchatv1.CreateEngagementRequest) (*axpchatv1.Engagement, error)
	send(ctx context.Context, req *axpchatv1.SendMessageRequest) (*axpchatv1.Message, error)
	endEngagement(ctx context.Context, req *axpchatv1.EndEngagementRequest) error
	deleteSession(ctx context.Context, req *axpchatv1.DeleteSessionRequest) error
	listMessages(ctx context.Context, req *axpchatv1.ListMessagesRequest) (*axpchatv1.ListMessagesResponse, error)
}

// inbox collects the frames of one stream and checks the promise on events:
// strictly growing sequences.
type inbox struct {
	mu      sync.Mutex
	events  []*axpchatv1.Event
	welcome *axpchatv1.Welcome
	replies map[string]*axpchatv1.Reply
	closed  *axpchatv1.Close
	problem error
	changed chan struct{}
	last    uint64
}

func newInbox() *inbox {
	return &inbox{changed: make(chan struct{}), replies: map[string]*axpchatv1.Reply{}}
}

func (b *inbox) add(f *axpchatv1.ConnectResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch p := f.GetPayload().(type) {
	case *axpchatv1.ConnectResponse_Welcome:
		b.welcome = p.Welcome
	case *axpchatv1.ConnectResponse_Reply:
		b.replies[p.Reply.GetFrameId()] = p.Reply
	case *axpchatv1.ConnectResponse_Close:
		b.closed = p.Close
	case *axpchatv1.ConnectResponse_Event:
		if p.Event.GetSequence() <= b.last {
			b.problem = fmt.Errorf("event %s has sequence %d after %d", p.Event.GetEventId(), p.Event.GetSequence(), b.last)
		}
		b.last = p.Event.GetSequence()
		b.events = append(b.events, p.Event)
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *inbox) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.problem == nil {
		b.problem = err
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// until waits until look, called under the lock, is content.
func (b *inbox) until(ctx context.Context, what string, look func() bool) error {
	for {
		b.mu.Lock()
		ok, problem, changed := look(), b.problem, b.changed
		kinds := make([]string, 0, len(b.events))
		for _, e := range b.events {
			kinds = append(kinds, kind(e))
		}
		b.mu.Unlock()
		if ok {
			return nil
		}
		if problem != nil {
			return fmt.Errorf("waiting for %s: %w (have %v)", what, problem, kinds)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (have %v)", what, ctx.Err(), kinds)
		case <-changed:
		}
	}
}

// event waits for the first event that match likes.
func (b *inbox) event(ctx context.Context, what string, match func(*axpchatv1.Event) bool) (*axpchatv1.Event, error) {
	var found *axpchatv1.Event
	err := b.until(ctx, what, func() bool {
		for _, e := range b.events {
			if match(e) {
				found = e
				return true
			}
		}
		return false
	})
	return found, err
}

func (b *inbox) cursor() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.events) == 0 {
		return b.welcome.GetCursor()
	}
	return b.events[len(b.events)-1].GetCursor()
}

func kind(e *axpchatv1.Event) string {
	m := e.ProtoReflect()
	fd := m.WhichOneof(m.Descriptor().Oneofs().ByName("payload"))
	if fd == nil {
		return ""
	}
	return string(fd.Name())
}

// grpcCustomer is a native app: everything over one Connect stream.
type grpcCustomer struct {
	client axpchatv1.ChatServiceClient
	token  string
	stream grpc.BidiStreamingClient[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse]
	inbox  *inbox
	frames int
}

func newGRPCCustomer(t testing.TB, target, token string) *grpcCustomer {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &grpcCustomer{client: axpchatv1.NewChatServiceClient(conn), token: token}
}

func (c *grpcCustomer) auth(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
}

func (c *grpcCustomer) createSession(ctx context.Context, req *axpchatv1.CreateSessionRequest) (*axpchatv1.Session, error) {
	resp, err := c.client.CreateSession(c.auth(ctx), req)
	return resp.GetSession(), err
}

func (c *grpcCustomer) watch(ctx context.Context, session, cursor string) (*inbox, error) {
	stream, err := c.client.Connect(c.auth(ctx))
	if err != nil {
		return nil, err
	}
	hello := &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Hello{Hello: &axpchatv1.Hello{SessionId: session, Cursor: cursor}}}
	if err := stream.Send(hello); err != nil {
		return nil, err
	}
	c.stream, c.inbox = stream, newInbox()
	box := c.inbox
	go func() { // ends with ctx
		for {
			f, err := stream.Recv()
			if err != nil {
				box.fail(err)
				return
			}
			box.add(f)
		}
	}()
	return box, box.until(ctx, "welcome", func() bool { return box.welcome != nil })
}

// command sends one frame and waits for its reply.
func (c *grpcCustomer) command(ctx context.Context, f *axpchatv1.ConnectRequest) (*axpchatv1.Reply, error) {
	c.frames++
	f.FrameId = fmt.Sprint("f", c.frames)
	if err := c.stream.Send(f); err != nil {
		return nil, err
	}
	var reply *axpchatv1.Reply
	if err := c.inbox.until(ctx, "reply to "+f.GetFrameId(), func() bool { reply = c.inbox.replies[f.GetFrameId()]; return reply != nil }); err != nil {
		return nil, err
	}
	if p := reply.GetProblem(); p != nil {
		return nil, fmt.Errorf("%s: %s %v", p.GetReason(), p.GetDetail(), p.GetViolations())
	}
	return reply, nil
}

func (c *grpcCustomer) updateParameters(ctx context.Context, req *axpchatv1.UpdateSessionParametersRequest) error {
	_, err := c.command(ctx, &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_UpdateSessionParameters{UpdateSessionParameters: req}})
	return err
}

func (c *grpcCustomer) createEngagement(ctx context.Context, req *axpchatv1.CreateEngagementRequest) (*axpchatv1.Engagement, error) {
	r, err := c.command(ctx, &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_CreateEngagement{CreateEngagement: req}})
	return r.GetCreateEngagement().GetEngagement(), err
}

func (c *grpcCustomer) send(ctx context.Context, req *axpchatv1.SendMessageRequest) (*axpchatv1.Message, error) {
	r, err := c.command(ctx, &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_SendMessage{SendMessage: req}})
	return r.GetSendMessage().GetMessage(), err
}

func (c *grpcCustomer) endEngagement(ctx context.Context, req *axpchatv1.EndEngagementRequest) error {
	_, err := c.command(ctx, &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_EndEngagement{EndEngagement: req}})
	return err
}

func (c *grpcCustomer) deleteSession(ctx context.Context, req *axpchatv1.DeleteSessionRequest) error {
	_, err := c.command(ctx, &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_DeleteSession{DeleteSession: req}})
	return err
}

func (c *grpcCustomer) listMessages(ctx context.Context, req *axpchatv1.ListMessagesRequest) (*axpchatv1.ListMessagesResponse, error) {
	return c.client.ListMessages(c.auth(ctx), req)
}

// restCustomer is a web app: commands by REST, events by SSE or WebSocket.
type restCustomer struct {
	base      string
	token     string
	websocket bool
}

// call sends a request message as JSON and decodes the answer.
func (c *restCustomer) call(ctx context.Context, method, path string, in, out proto.Message) error {
	var body any
	if in != nil {
		data, err := protojson.Marshal(in)
		if err != nil {
			return err
		}
		body = rawJSON(data)
	}
	var raw rawJSON
	if err := suitetest.CallJSON(ctx, method, c.base+path, c.token, body, &raw); err != nil {
		return err
	}
	return protojson.Unmarshal(raw, out)
}

// rawJSON passes JSON through encoding/json untouched.
type rawJSON []byte

func (r rawJSON) MarshalJSON() ([]byte, error)     { return r, nil }
func (r *rawJSON) UnmarshalJSON(data []byte) error { *r = append((*r)[:0], data...); return nil }

func (c *restCustomer) createSession(ctx context.Context, req *axpchatv1.CreateSessionRequest) (*axpchatv1.Session, error) {
	out := &axpchatv1.CreateSessionResponse{}
	err := c.call(ctx, http.MethodPost, "/v1/sessions", req, out)
	return out.GetSession(), err
}

func (c *restCustomer) updateParameters(ctx context.Context, req *axpchatv1.UpdateSessionParametersRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/sessions/"+req.GetSessionId()+":updateParameters", req, &axpchatv1.UpdateSessionParametersResponse{})
}

func (c *restCustomer) createEngagement(ctx context.Context, req *axpchatv1.CreateEngagementRequest) (*axpchatv1.Engagement, error) {
	out := &axpchatv1.CreateEngagementResponse{}
	err := c.call(ctx, http.MethodPost, "/v1/sessions/"+req.GetSessionId()+"/engagements", req, out)
	return out.GetEngagement(), err
}

func (c *restCustomer) send(ctx context.Context, req *axpchatv1.SendMessageRequest) (*axpchatv1.Message, error) {
	out := &axpchatv1.SendMessageResponse{}
	err := c.call(ctx, http.MethodPost, "/v1/sessions/"+req.GetSessionId()+"/engagements/"+req.GetEngagementId()+"/messages", req, out)
	return out.GetMessage(), err
}

func (c *restCustomer) endEngagement(ctx context.Context, req *axpchatv1.EndEngagementRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/sessions/"+req.GetSessionId()+"/engagements/"+req.GetEngagementId()+":end", req, &axpchatv1.EndEngagementResponse{})
}

func (c *restCustomer) deleteSession(ctx context.Context, req *axpchatv1.DeleteSessionRequest) error {
	return c.call(ctx, http.MethodDelete, "/v1/sessions/"+req.GetSessionId()+"?reason="+req.GetReason().String(), nil, &axpchatv1.DeleteSessionResponse{})
}

func (c *restCustomer) listMessages(ctx context.Context, req *axpchatv1.ListMessagesRequest) (*axpchatv1.ListMessagesResponse, error) {
	out := &axpchatv1.ListMessagesResponse{}
	path := fmt.Sprintf("/v1/sessions/%s/engagements/%s/messages?pageSize=%d&pageToken=%s", req.GetSessionId(), req.GetEngagementId(), req.GetPageSize(), req.GetPageToken())
	err := c.call(ctx, http.MethodGet, path, nil, out)
	return out, err
}

func (c *restCustomer) watch(ctx context.Context, session, cursor string) (*inbox, error) {
	box := newInbox()
	var err error
	if c.websocket {
		err = c.watchWebSocket(ctx, box, session, cursor)
	} else {
		err = c.watchSSE(ctx, box, session, cursor)
	}
	if err != nil {
		return nil, err
	}
	return box, box.until(ctx, "welcome", func() bool { return box.welcome != nil })
}

func (c *restCustomer) watchSSE(ctx context.Context, box *inbox, session, cursor string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/sessions/"+session+"/events", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Authorization", "Bearer "+c.token)
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		defer resp.Body.Close()
		return fmt.Errorf("events: %s %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	go func() { // ends with ctx
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 4<<20)
		var id, data string
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "id":
				id = value
			case "data":
				data += value
			case "":
				if data == "" {
					continue
				}
				f := &axpchatv1.ConnectResponse{}
				if err := protojson.Unmarshal([]byte(data), f); err != nil {
					box.fail(err)
					return
				}
				if e := f.GetEvent(); e != nil && e.GetCursor() != id {
					box.fail(fmt.Errorf("id %q of an event with cursor %q", id, e.GetCursor()))
				}
				box.add(f)
				data = ""
			}
		}
		box.fail(errors.Join(errors.New("event stream ended"), lines.Err()))
	}()
	return nil
}

// watchWebSocket opens the socket as a browser does: with a one-time ticket.
func (c *restCustomer) watchWebSocket(ctx context.Context, box *inbox, session, cursor string) error {
	ticket := &axpchatv1.CreateTicketResponse{}
	in := &axpchatv1.CreateTicketRequest{Use: axpchatv1.TicketUse_TICKET_USE_CONNECT}
	if err := c.call(ctx, http.MethodPost, "/v1/sessions/"+session+":createTicket", in, ticket); err != nil {
		return err
	}
	url := strings.Replace(c.base, "http", "ws", 1) + "/v1/sessions/" + session + ":connect?ticket=" + ticket.GetTicket()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{"axpchat.v1+json"}})
	if err != nil {
		return err
	}
	ws.SetReadLimit(4 << 20)
	hello, err := protojson.Marshal(&axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Hello{Hello: &axpchatv1.Hello{Cursor: cursor}}})
	if err != nil {
		return err
	}
	if err := ws.Write(ctx, websocket.MessageText, hello); err != nil {
		return err
	}
	go func() { // ends with ctx
		defer ws.CloseNow()
		for {
			_, data, err := ws.Read(ctx)
			if err != nil {
				box.fail(err)
				return
			}
			f := &axpchatv1.ConnectResponse{}
			if err := protojson.Unmarshal(data, f); err != nil {
				box.fail(err)
				return
			}
			box.add(f)
		}
	}()
	return nil
}

// patience is how long one step of a story may take on a busy machine.
const patience = 30 * time.Second
