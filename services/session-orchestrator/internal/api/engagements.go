package api

import (
	"context"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// CreateEngagement implements the service.
func (s *Server) CreateEngagement(ctx context.Context, in *orchestratorv1.CreateEngagementRequest) (*orchestratorv1.CreateEngagementResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	engagement, err := s.p.Engagements.Create(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, s.p.Sessions.OrGone(ctx, in.GetCaller(), in.GetRequest().GetSessionId(), err)
	}
	return &orchestratorv1.CreateEngagementResponse{Response: &axpchatv1.CreateEngagementResponse{Engagement: engagement}}, nil
}

// GetEngagement implements the service.
func (s *Server) GetEngagement(ctx context.Context, in *orchestratorv1.GetEngagementRequest) (*orchestratorv1.GetEngagementResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	engagement, err := s.p.Engagements.Get(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	return &orchestratorv1.GetEngagementResponse{Response: &axpchatv1.GetEngagementResponse{Engagement: engagement}}, nil
}

// ListEngagements implements the service.
func (s *Server) ListEngagements(ctx context.Context, in *orchestratorv1.ListEngagementsRequest) (*orchestratorv1.ListEngagementsResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	list, err := s.p.Engagements.List(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	return &orchestratorv1.ListEngagementsResponse{Response: &axpchatv1.ListEngagementsResponse{Engagements: list}}, nil
}

// JoinEngagement implements the service.
func (s *Server) JoinEngagement(ctx context.Context, in *orchestratorv1.JoinEngagementRequest) (*orchestratorv1.JoinEngagementResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	engagement, err := s.p.Engagements.Join(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	s.p.Idle.Touch(ctx, in.GetCaller().GetAccount(), in.GetRequest().GetSessionId())
	s.p.Idle.Touch(ctx, in.GetCaller().GetAccount(), engagement.GetSessionId())
	return &orchestratorv1.JoinEngagementResponse{Response: &axpchatv1.JoinEngagementResponse{Engagement: engagement}}, nil
}

// EndEngagement implements the service.
func (s *Server) EndEngagement(ctx context.Context, in *orchestratorv1.EndEngagementRequest) (*orchestratorv1.EndEngagementResponse, error) {
	if err := check(in.GetCaller(), in.GetRequest()); err != nil {
		return nil, err
	}
	engagement, err := s.p.Engagements.End(ctx, in.GetCaller(), in.GetRequest())
	if err != nil {
		return nil, err
	}
	return &orchestratorv1.EndEngagementResponse{Response: &axpchatv1.EndEngagementResponse{Engagement: engagement}}, nil
}
