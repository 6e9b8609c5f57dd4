package erase

import (
	"context"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// Server implements orchestratorv1.PrivacyServiceServer. It is safe for
// concurrent use.
type Server struct {
	orchestratorv1.UnimplementedPrivacyServiceServer
	eraser *Eraser
}

// NewServer makes the service of an eraser. Who may call it is checked before.
func NewServer(e *Eraser) *Server { return &Server{eraser: e} }

// EraseSession implements the service.
func (s *Server) EraseSession(ctx context.Context, in *orchestratorv1.EraseSessionRequest) (*orchestratorv1.EraseSessionResponse, error) {
	p, err := s.eraser.Session(ctx, in.GetAccount(), in.GetSessionId(), in.GetForce())
	if err != nil {
		return nil, err
	}
	return &orchestratorv1.EraseSessionResponse{Erasure: shown(p)}, nil
}

// EraseCustomer implements the service.
func (s *Server) EraseCustomer(ctx context.Context, in *orchestratorv1.EraseCustomerRequest) (*orchestratorv1.EraseCustomerResponse, error) {
	proofs, all, err := s.eraser.Customer(ctx, in.GetAccount(), in.GetSubject(), in.GetForce())
	if err != nil {
		return nil, err
	}
	out := &orchestratorv1.EraseCustomerResponse{Done: all}
	for _, p := range proofs {
		out.Erasures = append(out.Erasures, shown(p))
	}
	return out, nil
}

func shown(p Proof) *orchestratorv1.Erasure {
	r := p.Record
	out := &orchestratorv1.Erasure{
		Account: r.GetAccount(), SessionId: r.GetSessionId(), Done: p.Pending == nil, Erased: r.GetErased(), Left: p.Left,
		EndedInAxp: r.GetEndedInAxp(), OrderTime: r.GetOrderTime(), DoneTime: r.GetDoneTime(),
	}
	if p.Pending != nil {
		out.Pending = errs.Name(errs.From(p.Pending).Reason) + ": " + p.Pending.Error()
	}
	return out
}
