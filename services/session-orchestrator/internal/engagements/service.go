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
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// Teller tells AXP of session parameters.
type Teller interface {
	// Now tells AXP what is left to tell. An error that satisfies axp.IsNotFound
	// says that AXP knows the session no more.
	Now(ctx context.Context, account, session string) error
}

// Minter makes providerDialogIds.
type Minter interface {
	MintDialogID(account, session, engagement string) string
}

// Policy has sessions looked at when their idle rules ask for it.
type Policy interface {
	Arm(ctx context.Context, rec *busv1.SessionRecord, chats state.Chats)
}

// Params is what New needs; all of it is required.
type Params struct {
	Bus        *bus.Bus
	Records    *records.Records
	Accounts   *accounts.Registry
	Minter     Minter
	Watch      *records.Watch
	Parameters Teller
	Policy     Policy
	Log        *slog.Logger
	Meter      metric.Meter
	Now        func() time.Time
}

// Service carries out commands on engagements. It is safe for concurrent use.
type Service struct {
	bus      *bus.Bus
	records  *records.Records
	accounts *accounts.Registry
	minter   Minter
	watch    *records.Watch
	teller   Teller
	policy   Policy
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
		bus: p.Bus, records: p.Records, accounts: p.Accounts, minter: p.Minter, watch: p.Watch, teller: p.Parameters, policy: p.Policy,
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

// Chats tells the idle rules how a session's engagements stand. The newest of its
// own is the only one that can be open.
func (s *Service) Chats(ctx context.Context, session *busv1.SessionRecord) (state.Chats, error) {
	var out state.Chats
	for i, ref := range refs(session) {
		rec, _, err := s.records.Get(ctx, ref)
		if errors.Is(err, bus.ErrNotFound) {
			continue
		}
		if err != nil {
			return state.Chats{}, records.Unavailable(err)
		}
		status, ours := rec.GetEngagement().GetStatus(), ref.Session == session.GetSession().GetSessionId()
		switch {
		case state.Over(status) && ours && rec.GetEngagement().GetEndTime().AsTime().After(out.LastEnd):
			out.LastEnd = rec.GetEngagement().GetEndTime().AsTime()
		case state.Over(status):
		case ours && state.TakesMessages(status):
			out.Open = ref.Engagement
		default:
			out.Busy = true
		}
		if i == 0 && out.Open != "" {
			break // the others need not be read
		}
	}
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
