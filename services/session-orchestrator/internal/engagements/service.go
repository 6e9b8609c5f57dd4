package engagements

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sort"
	"time"

	"go.opentelemetry.io/otel/metric"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
)

// Params is what New needs; all of it is required.
type Params struct {
	Bus      *bus.Bus
	Records  *records.Records
	Accounts *accounts.Registry
	Keyring  *keyring.Keyring
	Watch    *records.Watch
	Log      *slog.Logger
	Meter    metric.Meter
	Now      func() time.Time
}

// Service carries out commands on engagements. It is safe for concurrent use.
type Service struct {
	bus      *bus.Bus
	records  *records.Records
	accounts *accounts.Registry
	keyring  *keyring.Keyring
	watch    *records.Watch
	log      *slog.Logger
	now      func() time.Time
	surplus  metric.Int64Counter
}

// New makes the service.
func New(p Params) (*Service, error) {
	surplus, err := p.Meter.Int64Counter("axpchat_surplus_dialogs",
		metric.WithDescription("Dialogs that an unclear Create Engagement left over and that were disconnected."))
	if err != nil {
		return nil, err
	}
	return &Service{
		bus: p.Bus, records: p.Records, accounts: p.Accounts, keyring: p.Keyring, watch: p.Watch,
		log: p.Log, now: p.Now, surplus: surplus,
	}, nil
}

// Get reads an engagement that the session started or joined.
func (s *Service) Get(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.GetEngagementRequest) (*axpchatv1.Engagement, error) {
	session, _, err := s.records.Session(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	rec, err := s.records.Engagement(ctx, session, req.GetEngagementId())
	if err != nil {
		return nil, err
	}
	return rec.GetEngagement(), nil
}

// List reads the engagements that the session started or joined, oldest first.
func (s *Service) List(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.ListEngagementsRequest) ([]*axpchatv1.Engagement, error) {
	session, _, err := s.records.Session(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	all := refs(session)
	out := make([]*axpchatv1.Engagement, 0, len(all))
	for _, ref := range all {
		rec, _, err := s.records.Get(ctx, ref)
		if errors.Is(err, bus.ErrNotFound) {
			continue // its retention has ended
		}
		if err != nil {
			return nil, records.Unavailable(err)
		}
		out = append(out, rec.GetEngagement())
	}
	sort.SliceStable(out, func(i, j int) bool {
		return out[i].GetCreateTime().AsTime().Before(out[j].GetCreateTime().AsTime())
	})
	return out, nil
}

// own names the engagements that the session started, newest first.
func own(session *busv1.SessionRecord) []records.Ref {
	ids := session.GetEngagementIds()
	out := make([]records.Ref, 0, len(ids))
	for _, id := range slices.Backward(ids) {
		out = append(out, records.Ref{
			Account: session.GetSession().GetAccount(), Session: session.GetSession().GetSessionId(), Engagement: id,
		})
	}
	return out
}

// refs names what the session started and what it joined.
func refs(session *busv1.SessionRecord) []records.Ref {
	out := own(session)
	for _, joined := range session.GetJoined() {
		if ref, ok := records.ParseJoined(session.GetSession().GetAccount(), joined); ok {
			out = append(out, ref)
		}
	}
	return out
}
