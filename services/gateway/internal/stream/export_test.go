package stream

import (
	"context"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// AcceptAlone is Accept with all that it does but asking NATS: there is one
// session, and its journal is empty.
func (s *Server) AcceptAlone(ctx context.Context, session string, r *Request, out Sender, in Receiver) End {
	if err := s.hello(ctx, r, in); err != nil {
		return s.unopened(ctx, err, out)
	}
	frames := s.receive(ctx, in)
	defer close(frames.stop)
	if r.Session != session {
		return s.unopened(ctx, errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, ""), out)
	}
	r.Heard, r.Heartbeat = &Heard{}, s.p.Config.Heartbeat
	welcome := &axpchatv1.Welcome{Session: &axpchatv1.Session{SessionId: session}}
	return s.newStream(*r, newSubscription(), welcome, nil).serve(ctx, out, frames)
}
