// Package longpoll owns waiting for events call by call, for networks that let
// no stream through. It uses the same engine and the same cursors as streams, so
// a client may change between them at any event.
package longpoll

import (
	"context"
	"sync"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/delivery"
	"github.com/axpchat/connector/services/gateway/internal/presence"
	"github.com/axpchat/connector/services/gateway/internal/sessions"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

// defaultEvents is how many events an answer holds at most, where the client
// does not say.
const defaultEvents = 100

// Poller answers polls. It is safe for concurrent use.
type Poller struct {
	engine   *delivery.Engine
	sessions *sessions.Reader
	presence *presence.Registry
	hurry    chan struct{}
	once     sync.Once
}

// New returns a poller that notes in p, which may be nil, who polls.
func New(e *delivery.Engine, s *sessions.Reader, p *presence.Registry) *Poller {
	return &Poller{engine: e, sessions: s, presence: p, hurry: make(chan struct{})}
}

// Drain answers everybody who waits: their next poll goes to another pod. From
// then on no poll waits.
func (p *Poller) Drain() { p.once.Do(func() { close(p.hurry) }) }

// Poll returns what came after the cursor, and waits where nothing has come. It
// fails with SESSION_NOT_FOUND, CURSOR_INVALID or UNAVAILABLE.
func (p *Poller) Poll(ctx context.Context, who *auth.Principal, req *axpchatv1.PollEventsRequest) (*axpchatv1.PollEventsResponse, error) {
	rec, err := p.sessions.Owned(ctx, who, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	key := bus.SessionKey{Account: who.Account, Session: req.GetSessionId()}
	p.presence.Enter(key)
	defer p.presence.Leave(key)
	limit := int(req.GetMaxEvents())
	if limit <= 0 {
		limit = defaultEvents
	}
	at := delivery.Request{
		Session: key,
		Cursor:  req.GetCursor(), Created: rec.GetSession().GetCreateTime().AsTime(), Joined: sessions.Joined(who.Account, rec),
	}
	closed := rec.GetSession().GetStatus() == axpchatv1.SessionStatus_SESSION_STATUS_CLOSED
	patience := req.GetWait().AsDuration()
	if closed {
		patience = 0 // nothing will come any more
	}
	if len(at.Joined) > 0 {
		resp := &axpchatv1.PollEventsResponse{}
		return resp, p.wait(ctx, at, patience, limit, resp)
	}
	page, err := p.engine.Read(ctx, at, limit)
	if err != nil {
		return nil, err
	}
	resp := &axpchatv1.PollEventsResponse{Events: page.Events, Cursor: page.Cursor, Reset_: page.Reset, More: page.More}
	if len(page.Events) > 0 || page.Reset != nil || patience <= 0 {
		return resp, nil
	}
	at.Cursor = page.Cursor
	return resp, p.wait(ctx, at, patience, limit, resp)
}

// wait adds what comes next to resp. Its patience begins when everything that is
// there already has been looked at.
func (p *Poller) wait(ctx context.Context, at delivery.Request, patience time.Duration, limit int, resp *axpchatv1.PollEventsResponse) error {
	sub, err := p.engine.Attach(ctx, at)
	if err != nil {
		return err
	}
	defer sub.Close()
	// A cursor can be too old now that was not a moment ago. What is still there is
	// told at once: the next poll might be reset again before it reads anything.
	if resp.Reset_ = sub.Reset(); resp.GetReset_() != nil {
		patience = 0
	}
	resp.Cursor = sub.Cursor()
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	caughtUp := sub.CaughtUp()
	for {
		for len(resp.GetEvents()) < limit {
			ev, ok := sub.Take()
			if !ok {
				break
			}
			resp.Events, resp.Cursor = append(resp.GetEvents(), ev), ev.GetCursor()
		}
		if _, ended := sub.End(); ended || len(resp.GetEvents()) > 0 {
			resp.More = len(resp.GetEvents()) == limit
			return nil
		}
		select {
		case <-sub.Wake():
		case <-caughtUp:
			caughtUp = nil
			timer.Reset(patience)
		case <-timer.C:
			return nil
		case <-p.hurry:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
