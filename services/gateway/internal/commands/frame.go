package commands

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
)

// Execute carries out the command of a frame on the stream's session and
// returns its reply. The request is checked as that of the unary method is, so
// the same mistake has the same violations on every way in.
func (s *Service) Execute(ctx context.Context, session string, f *axpchatv1.ConnectRequest) *axpchatv1.Reply {
	reply := &axpchatv1.Reply{FrameId: f.GetFrameId()}
	if err := s.execute(ctx, session, f, reply); err != nil {
		reply.Result = &axpchatv1.Reply_Problem{Problem: errs.ToProblem(err, grpcx.RequestID(ctx))}
	}
	return reply
}

// execute sets the result unless it fails.
func (s *Service) execute(ctx context.Context, session string, f *axpchatv1.ConnectRequest, reply *axpchatv1.Reply) error {
	switch p := f.GetPayload().(type) {
	case *axpchatv1.ConnectRequest_SendMessage:
		out, err := run(ctx, s, session, p.SendMessage, s.SendMessage)
		reply.Result = &axpchatv1.Reply_SendMessage{SendMessage: out}
		return err
	case *axpchatv1.ConnectRequest_CreateEngagement:
		out, err := run(ctx, s, session, p.CreateEngagement, s.CreateEngagement)
		reply.Result = &axpchatv1.Reply_CreateEngagement{CreateEngagement: out}
		return err
	case *axpchatv1.ConnectRequest_EndEngagement:
		out, err := run(ctx, s, session, p.EndEngagement, s.EndEngagement)
		reply.Result = &axpchatv1.Reply_EndEngagement{EndEngagement: out}
		return err
	case *axpchatv1.ConnectRequest_UpdateSessionParameters:
		out, err := run(ctx, s, session, p.UpdateSessionParameters, s.UpdateSessionParameters)
		reply.Result = &axpchatv1.Reply_UpdateSessionParameters{UpdateSessionParameters: out}
		return err
	case *axpchatv1.ConnectRequest_KeepAlive:
		out, err := run(ctx, s, session, p.KeepAlive, s.KeepAlive)
		reply.Result = &axpchatv1.Reply_KeepAlive{KeepAlive: out}
		return err
	case *axpchatv1.ConnectRequest_AppendCustomerIdentifiers:
		out, err := run(ctx, s, session, p.AppendCustomerIdentifiers, s.AppendCustomerIdentifiers)
		reply.Result = &axpchatv1.Reply_AppendCustomerIdentifiers{AppendCustomerIdentifiers: out}
		return err
	case *axpchatv1.ConnectRequest_DeleteSession:
		out, err := run(ctx, s, session, p.DeleteSession, s.DeleteSession)
		reply.Result = &axpchatv1.Reply_DeleteSession{DeleteSession: out}
		return err
	default:
		return errs.New(axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID, "the frame holds no command that this server knows")
	}
}

// run checks the request and calls the method.
func run[Req proto.Message, Resp any](ctx context.Context, s *Service, session string, req Req, method func(context.Context, Req) (Resp, error)) (Resp, error) {
	var none Resp
	if err := bind(req, session); err != nil {
		return none, err
	}
	if err := s.validator.Validate(req); err != nil {
		return none, err
	}
	return method(ctx, req)
}

// bind sets the stream's session where the command leaves it out.
func bind(req proto.Message, session string) error {
	m := req.ProtoReflect()
	field := m.Descriptor().Fields().ByName("session_id")
	switch m.Get(field).String() {
	case session:
		return nil
	case "":
		m.Set(field, protoreflect.ValueOfString(session))
		return nil
	default:
		return errs.New(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "the stream is bound to another session").
			WithViolation("sessionId", "must be the session of the stream, or be left out", "session")
	}
}

// SetRequestID gives a request the id that came beside it, such as in the header
// Idempotency-Key. It fails where the request has another id of its own. A
// message keeps its own client_message_id: that is its identity on every
// transport, while many HTTP clients make up a header for each call.
func SetRequestID(req proto.Message, id string) error {
	m := req.ProtoReflect()
	field, message := m.Descriptor().Fields().ByName("request_id"), false
	if field == nil {
		field, message = m.Descriptor().Fields().ByName("client_message_id"), true
	}
	if field == nil {
		return nil
	}
	switch own := m.Get(field).String(); {
	case own == "":
		m.Set(field, protoreflect.ValueOfString(id))
		return nil
	case own == id, message:
		return nil
	default:
		return errs.New(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "the header Idempotency-Key and the body name different ids").
			WithViolation(field.JSONName(), "must be the same as the header Idempotency-Key, or be left out", "idempotency_key")
	}
}
