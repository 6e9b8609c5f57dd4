// Package grpcstream owns the gRPC side of the gateway: ChatService, put
// together from the packages that do the work, and its streams as a transport.
//
// It decides nothing. REST comes through the same service, by an in-process
// connection, so that the same interceptors run.
package grpcstream

import (
	"context"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/commands"
	"github.com/axpchat/connector/services/gateway/internal/history"
	"github.com/axpchat/connector/services/gateway/internal/limits"
	"github.com/axpchat/connector/services/gateway/internal/longpoll"
	"github.com/axpchat/connector/services/gateway/internal/sessions"
	"github.com/axpchat/connector/services/gateway/internal/stream"
	"github.com/axpchat/connector/services/gateway/internal/tickets"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// Params is what a Service is made of.
type Params struct {
	Commands *commands.Service
	Sessions *sessions.Reader
	History  *history.Lister
	Tickets  *tickets.Desk
	Poller   *longpoll.Poller
	Streams  *stream.Server
	Limits   *limits.Limiter
}

// Service is ChatService. It is safe for concurrent use.
type Service struct {
	// A method that is missing must not compile, rather than be unimplemented.
	axpchatv1.UnsafeChatServiceServer
	*commands.Service
	p Params
}

var _ axpchatv1.ChatServiceServer = (*Service)(nil)

// SelfValidating are the methods whose messages are checked by this package: a
// broken command frame is answered by its reply and does not end the stream.
func SelfValidating() []string { return []string{axpchatv1.ChatService_Connect_FullMethodName} }

// New returns the service.
func New(p Params) *Service { return &Service{Service: p.Commands, p: p} }

func principal(ctx context.Context) (*auth.Principal, error) {
	p, ok := auth.FromContext(ctx)
	if !ok {
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "there is no token")
	}
	return p, nil
}

// ListMessages implements ChatServiceServer.
func (s *Service) ListMessages(ctx context.Context, req *axpchatv1.ListMessagesRequest) (*axpchatv1.ListMessagesResponse, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	return s.p.History.List(ctx, p, req)
}

// CreateTicket implements ChatServiceServer.
func (s *Service) CreateTicket(ctx context.Context, req *axpchatv1.CreateTicketRequest) (*axpchatv1.CreateTicketResponse, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.p.Sessions.Owned(ctx, p, req.GetSessionId()); err != nil {
		return nil, err
	}
	return s.p.Tickets.Create(ctx, p, req.GetSessionId(), req.GetUse())
}

// PollEvents implements ChatServiceServer.
func (s *Service) PollEvents(ctx context.Context, req *axpchatv1.PollEventsRequest) (*axpchatv1.PollEventsResponse, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	place, err := s.p.Limits.Hold(ctx, limits.Who{Account: p.Account, Subject: p.Subject, Session: req.GetSessionId(), Origin: limits.OriginOf(ctx)})
	if err != nil {
		return nil, err
	}
	defer place.Close()
	return s.p.Poller.Poll(ctx, p, req)
}
