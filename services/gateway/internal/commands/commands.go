// Package commands owns what clients ask for: each unary method of ChatService
// that needs AXP or changes state goes to the orchestrator with the customer of
// the call, and the same methods serve the command frames of a stream.
//
// It decides nothing about a session; the orchestrator checks whose it is. It
// keeps nothing.
package commands

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// Service carries out commands. It is safe for concurrent use. Its methods have
// the signatures of ChatServiceServer and expect a validated request and the
// customer in the context.
type Service struct {
	orchestrator orchestratorv1.OrchestratorServiceClient
	validator    Validator
	timeout      time.Duration
}

// Validator checks a request against its rules, as the interceptor of unary
// calls does.
type Validator interface {
	Validate(m proto.Message) error
}

// New returns a service whose calls take at most timeout.
func New(orchestrator orchestratorv1.OrchestratorServiceClient, v Validator, timeout time.Duration) *Service {
	return &Service{orchestrator: orchestrator, validator: v, timeout: timeout}
}

// call bounds a call and finds its customer.
func (s *Service) call(ctx context.Context) (context.Context, context.CancelFunc, *orchestratorv1.Caller, error) {
	p, ok := auth.FromContext(ctx)
	if !ok {
		return ctx, func() {}, nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "there is no token")
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	return ctx, cancel, caller(p), nil
}

func caller(p *auth.Principal) *orchestratorv1.Caller {
	c := &orchestratorv1.Caller{
		Account: p.Account, Subject: p.Subject, Name: p.Name, Verified: p.Verified,
		Anonymous: p.Anonymous, AnonymousSubject: p.AnonymousSubject,
		Identifiers: make(map[string]*axpchatv1.CustomerIdentifierValues, len(p.Identifiers)),
	}
	for name, values := range p.Identifiers {
		c.Identifiers[name] = &axpchatv1.CustomerIdentifierValues{Values: values}
	}
	return c
}

// CreateSession implements ChatServiceServer.
func (s *Service) CreateSession(ctx context.Context, req *axpchatv1.CreateSessionRequest) (*axpchatv1.CreateSessionResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.CreateSession(ctx, &orchestratorv1.CreateSessionRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// GetSession implements ChatServiceServer.
func (s *Service) GetSession(ctx context.Context, req *axpchatv1.GetSessionRequest) (*axpchatv1.GetSessionResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.GetSession(ctx, &orchestratorv1.GetSessionRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// StepUp implements ChatServiceServer.
func (s *Service) StepUp(ctx context.Context, req *axpchatv1.StepUpRequest) (*axpchatv1.StepUpResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.StepUp(ctx, &orchestratorv1.StepUpRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// UpdateSessionParameters implements ChatServiceServer.
func (s *Service) UpdateSessionParameters(ctx context.Context, req *axpchatv1.UpdateSessionParametersRequest) (*axpchatv1.UpdateSessionParametersResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.UpdateSessionParameters(ctx, &orchestratorv1.UpdateSessionParametersRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// KeepAlive implements ChatServiceServer.
func (s *Service) KeepAlive(ctx context.Context, req *axpchatv1.KeepAliveRequest) (*axpchatv1.KeepAliveResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.KeepAlive(ctx, &orchestratorv1.KeepAliveRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// AppendCustomerIdentifiers implements ChatServiceServer.
func (s *Service) AppendCustomerIdentifiers(ctx context.Context, req *axpchatv1.AppendCustomerIdentifiersRequest) (*axpchatv1.AppendCustomerIdentifiersResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.AppendCustomerIdentifiers(ctx, &orchestratorv1.AppendCustomerIdentifiersRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// DeleteSession implements ChatServiceServer.
func (s *Service) DeleteSession(ctx context.Context, req *axpchatv1.DeleteSessionRequest) (*axpchatv1.DeleteSessionResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.DeleteSession(ctx, &orchestratorv1.DeleteSessionRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// CreateEngagement implements ChatServiceServer.
func (s *Service) CreateEngagement(ctx context.Context, req *axpchatv1.CreateEngagementRequest) (*axpchatv1.CreateEngagementResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.CreateEngagement(ctx, &orchestratorv1.CreateEngagementRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// GetEngagement implements ChatServiceServer.
func (s *Service) GetEngagement(ctx context.Context, req *axpchatv1.GetEngagementRequest) (*axpchatv1.GetEngagementResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.GetEngagement(ctx, &orchestratorv1.GetEngagementRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// ListEngagements implements ChatServiceServer.
func (s *Service) ListEngagements(ctx context.Context, req *axpchatv1.ListEngagementsRequest) (*axpchatv1.ListEngagementsResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.ListEngagements(ctx, &orchestratorv1.ListEngagementsRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// JoinEngagement implements ChatServiceServer.
func (s *Service) JoinEngagement(ctx context.Context, req *axpchatv1.JoinEngagementRequest) (*axpchatv1.JoinEngagementResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.JoinEngagement(ctx, &orchestratorv1.JoinEngagementRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// EndEngagement implements ChatServiceServer.
func (s *Service) EndEngagement(ctx context.Context, req *axpchatv1.EndEngagementRequest) (*axpchatv1.EndEngagementResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.EndEngagement(ctx, &orchestratorv1.EndEngagementRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// SendMessage implements ChatServiceServer.
func (s *Service) SendMessage(ctx context.Context, req *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.SendMessage(ctx, &orchestratorv1.SendMessageRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// CreateAttachment implements ChatServiceServer.
func (s *Service) CreateAttachment(ctx context.Context, req *axpchatv1.CreateAttachmentRequest) (*axpchatv1.CreateAttachmentResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.CreateAttachment(ctx, &orchestratorv1.CreateAttachmentRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}

// GetAttachment implements ChatServiceServer.
func (s *Service) GetAttachment(ctx context.Context, req *axpchatv1.GetAttachmentRequest) (*axpchatv1.GetAttachmentResponse, error) {
	ctx, cancel, caller, err := s.call(ctx)
	defer cancel()
	if err != nil {
		return nil, err
	}
	out, err := s.orchestrator.GetAttachment(ctx, &orchestratorv1.GetAttachmentRequest{Caller: caller, Request: req})
	return out.GetResponse(), err
}
