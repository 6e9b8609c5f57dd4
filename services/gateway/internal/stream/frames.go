package stream

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
)

// AXP's limits, as clients are told.
const (
	messageTextLength = 4096
	sessionParameters = 20
)

// welcome makes the first frame.
func (s *Server) welcome(r Request, rec *busv1.SessionRecord, engagements []*axpchatv1.Engagement, cursor string) *axpchatv1.Welcome {
	return &axpchatv1.Welcome{
		Session: rec.GetSession(), Engagements: engagements, Cursor: cursor,
		// AXP's Custom Chat has no typing, no receipts and takes no files inside messages.
		Capabilities: &axpchatv1.Capabilities{ReceiveAttachments: true, RichMedia: true},
		Limits: &axpchatv1.Limits{
			MessageTextLength: messageTextLength, SessionParameters: sessionParameters,
			FrameBytes: int32(s.p.Config.FrameBytes), Retention: durationpb.New(s.p.Retention),
		},
		HeartbeatInterval: durationpb.New(r.Heartbeat), ServerTime: timestamppb.Now(), ServerVersion: s.p.Version,
		IdleRules: rec.GetSession().GetIdleRules(),
	}
}

func closeFrame(c *axpchatv1.Close) *axpchatv1.ConnectResponse {
	return &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Close{Close: c}}
}

func eventFrame(e *axpchatv1.Event) *axpchatv1.ConnectResponse {
	return &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Event{Event: e}}
}

func replyFrame(r *axpchatv1.Reply) *axpchatv1.ConnectResponse {
	return &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Reply{Reply: r}}
}

func pongFrame(id string) *axpchatv1.ConnectResponse {
	return &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Pong{
		Pong: &axpchatv1.Pong{ServerTime: timestamppb.Now(), FrameId: id},
	}}
}

func goAwayFrame(after time.Duration, cursor string) *axpchatv1.ConnectResponse {
	return &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_GoAway{
		GoAway: &axpchatv1.GoAway{RetryAfterMs: after.Milliseconds(), Cursor: cursor},
	}}
}

func resetFrame(r *axpchatv1.Reset) *axpchatv1.ConnectResponse {
	return &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Reset_{Reset_: r}}
}

func reminderFrame(expires time.Time) *axpchatv1.ConnectResponse {
	return &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_TokenExpiryReminder{
		TokenExpiryReminder: &axpchatv1.TokenExpiryReminder{ExpireTime: timestamppb.New(expires)},
	}}
}

// received is what the client sent, or why it sends no more.
type received struct {
	frame *axpchatv1.ConnectRequest
	err   error
}

// frames is the reading side of a two-way stream.
type frames struct {
	next chan received
	stop chan struct{} // closed when nobody reads next any more
}

// receive reads frames one by one: while nobody takes the last one, nothing is
// read, and the client is slowed down by the transport. The goroutine ends with
// the first error, or soon after the transport has ended the connection.
func (s *Server) receive(ctx context.Context, in Receiver) *frames {
	f := &frames{next: make(chan received), stop: make(chan struct{})}
	go func() {
		defer s.unread(ctx, f)
		for {
			frame, err := in.Receive(ctx)
			select {
			case f.next <- received{frame, err}:
			case <-f.stop:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return f
}

// unread is deferred; it calls recover itself. A frame that can't be read for a
// fault of ours ends its stream.
func (s *Server) unread(ctx context.Context, f *frames) {
	if err := s.panics.Note(ctx, "frame", recover(), "request_id", grpcx.RequestID(ctx)); err != nil {
		select {
		case f.next <- received{err: err}:
		case <-f.stop:
		}
	}
}
