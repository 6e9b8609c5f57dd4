// Package api owns the orchestrator's gRPC service: it checks that a call
// names its caller and its session, hands it to the package that carries it
// out, and wraps the answer. Field rules are checked before, and errors turned
// into statuses after, by the chain of kit/grpcx. It takes no decision itself.
package api

import (
	"context"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/attachments"
	"github.com/axpchat/connector/services/session-orchestrator/internal/engagements"
	"github.com/axpchat/connector/services/session-orchestrator/internal/idle"
	"github.com/axpchat/connector/services/session-orchestrator/internal/messages"
	"github.com/axpchat/connector/services/session-orchestrator/internal/sessions"
)

// Params is what New needs; all of it is required.
type Params struct {
	Sessions    *sessions.Service
	Engagements *engagements.Service
	Messages    *messages.Service
	Attachments *attachments.Service
	Idle        *idle.Service
}

// Server implements orchestratorv1.OrchestratorServiceServer. It is safe for
// concurrent use.
type Server struct {
	orchestratorv1.UnimplementedOrchestratorServiceServer
	p Params
}

// New makes the server.
func New(p Params) *Server { return &Server{p: p} }

// sessionRequest is a public request that names a session.
type sessionRequest interface {
	comparable
	GetSessionId() string
}

// check refuses a call without its caller, its request or its session.
func check[R sessionRequest](caller *orchestratorv1.Caller, req R) error {
	if err := checkCaller(caller); err != nil {
		return err
	}
	var none R
	if req == none {
		return missing("request")
	}
	if req.GetSessionId() == "" {
		return missing("sessionId")
	}
	return nil
}

func checkCaller(caller *orchestratorv1.Caller) error {
	switch {
	case caller.GetAccount() == "":
		return missing("caller.account")
	case caller.GetSubject() == "":
		// Else everybody without a subject would be one customer.
		return missing("caller.subject")
	}
	return nil
}

func missing(field string) error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, field+" is missing").
		WithViolation(field, "is missing", "required")
}

// CreateSession implements the service.
func (s *Server) CreateSession(ctx context.Context, in *orchestratorv1.CreateSessionRequest) (*orchestratorv1.CreateSessionResponse, error) {
	if err := checkCaller(in.GetCaller()); err != nil {
		return nil, err
	}
	if in.GetRequest() == nil {
		return nil, missing("request")
	}
	session, err := s.p.Sessions.Create(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	return &orchestratorv1.CreateSessionResponse{Response: &axpchatv1.CreateSessionResponse{Session: session}}, nil
}

// GetSession implements the service.
func (s *Server) GetSession(ctx context.Context, in *orchestratorv1.GetSessionRequest) (*orchestratorv1.GetSessionResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	session, err := s.p.Sessions.Get(ctx, in.GetCaller(), in.GetRequest().GetSessionId())
	if err != nil {
		return nil, err
	}
	return &orchestratorv1.GetSessionResponse{Response: &axpchatv1.GetSessionResponse{Session: session}}, nil
}

// StepUp implements the service.
func (s *Server) StepUp(ctx context.Context, in *orchestratorv1.StepUpRequest) (*orchestratorv1.StepUpResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	session, err := s.p.Sessions.StepUp(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	s.p.Idle.Touch(ctx, session.GetAccount(), session.GetSessionId())
	return &orchestratorv1.StepUpResponse{Response: &axpchatv1.StepUpResponse{Session: session}}, nil
}

// UpdateSessionParameters implements the service.
func (s *Server) UpdateSessionParameters(ctx context.Context, in *orchestratorv1.UpdateSessionParametersRequest) (*orchestratorv1.UpdateSessionParametersResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	session, err := s.p.Sessions.UpdateParameters(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	s.p.Idle.Touch(ctx, session.GetAccount(), session.GetSessionId())
	return &orchestratorv1.UpdateSessionParametersResponse{Response: &axpchatv1.UpdateSessionParametersResponse{Session: session}}, nil
}

// KeepAlive implements the service.
func (s *Server) KeepAlive(ctx context.Context, in *orchestratorv1.KeepAliveRequest) (*orchestratorv1.KeepAliveResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	response, err := s.p.Idle.KeepAlive(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	return &orchestratorv1.KeepAliveResponse{Response: response}, nil
}

// AppendCustomerIdentifiers implements the service.
func (s *Server) AppendCustomerIdentifiers(ctx context.Context, in *orchestratorv1.AppendCustomerIdentifiersRequest) (*orchestratorv1.AppendCustomerIdentifiersResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	session, err := s.p.Sessions.AppendIdentifiers(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	return &orchestratorv1.AppendCustomerIdentifiersResponse{Response: &axpchatv1.AppendCustomerIdentifiersResponse{Session: session}}, nil
}

// DeleteSession implements the service.
func (s *Server) DeleteSession(ctx context.Context, in *orchestratorv1.DeleteSessionRequest) (*orchestratorv1.DeleteSessionResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	session, err := s.p.Sessions.Delete(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	return &orchestratorv1.DeleteSessionResponse{Response: &axpchatv1.DeleteSessionResponse{Session: session}}, nil
}

// SendMessage implements the service.
func (s *Server) SendMessage(ctx context.Context, in *orchestratorv1.SendMessageRequest) (*orchestratorv1.SendMessageResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	message, err := s.p.Messages.Send(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	s.p.Idle.Touch(ctx, in.GetCaller().GetAccount(), in.GetRequest().GetSessionId())
	if owner := message.GetSessionId(); owner != in.GetRequest().GetSessionId() { // it has joined the chat
		s.p.Idle.Touch(ctx, in.GetCaller().GetAccount(), owner)
	}
	return &orchestratorv1.SendMessageResponse{Response: &axpchatv1.SendMessageResponse{Message: message}}, nil
}

// CreateAttachment implements the service.
func (s *Server) CreateAttachment(ctx context.Context, in *orchestratorv1.CreateAttachmentRequest) (*orchestratorv1.CreateAttachmentResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	attachment, err := s.p.Attachments.Create(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	return &orchestratorv1.CreateAttachmentResponse{Response: &axpchatv1.CreateAttachmentResponse{Attachment: attachment}}, nil
}

// GetAttachment implements the service.
func (s *Server) GetAttachment(ctx context.Context, in *orchestratorv1.GetAttachmentRequest) (*orchestratorv1.GetAttachmentResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	attachment, err := s.p.Attachments.Get(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	return &orchestratorv1.GetAttachmentResponse{Response: &axpchatv1.GetAttachmentResponse{Attachment: attachment}}, nil
}
