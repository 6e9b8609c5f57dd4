// Package longpoll owns waiting for events call by call, for networks that let
// no stream through. It uses the same engine and the same cursors as streams, so
// a client may change between them at any event.
package longpoll

import (
	"context"
	"slices"
	"sync"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/delivery"
	"github.com/axpchat/connector/services/gateway/internal/presence"
	"github.com/axpchat/connector/services/gateway/internal/sessions"
	"github.com/axpchat/connector/services/gateway/internal/stream"
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
	resp := &axpchatv1.PollEventsResponse{}
	complete, err := p.poll(ctx, at, req.GetWait().AsDuration(), limit, resp)
	if err != nil {
		return nil, err
	}
	if complete && resp.GetReset_() == nil && (closed || closes(resp.GetEvents(), req.GetSessionId())) {
		resp.Close = stream.SessionClosed(resp.GetCursor())
	}
	return resp, nil
}

// closes tells whether the session's end is among the events.
func closes(events []*axpchatv1.Event, session string) bool {
	return slices.ContainsFunc(events, func(ev *axpchatv1.Event) bool {
		changed := ev.GetSessionChanged().GetSession()
		return changed.GetSessionId() == session && changed.GetStatus() == axpchatv1.SessionStatus_SESSION_STATUS_CLOSED
	})
}

// poll fills resp and tells whether it holds all that there is. It waits for a
// closed session as for an open one: a client that polls on after the end does so
// no faster than it asked.
func (p *Poller) poll(ctx context.Context, at delivery.Request, patience time.Duration, limit int, resp *axpchatv1.PollEventsResponse) (complete bool, err error) {
	if len(at.Joined) > 0 {
		return p.wait(ctx, at, patience, limit, resp)
	}
	page, err := p.engine.Read(ctx, at, limit)
	if err != nil {
		return false, err
	}
	resp.Events, resp.Cursor, resp.Reset_, resp.More = page.Events, page.Cursor, page.Reset, page.More
	if len(page.Events) > 0 || page.Reset != nil || patience <= 0 {
		return !page.More, nil
	}
	at.Cursor = page.Cursor
	return p.wait(ctx, at, patience, limit, resp)
}

// wait adds what comes next to resp. Its patience begins when everything that is
// there already has been looked at; complete tells that it was, and was told.
func (p *Poller) wait(ctx context.Context, at delivery.Request, patience time.Duration, limit int, resp *axpchatv1.PollEventsResponse) (complete bool, err error) {
	sub, err := p.engine.Attach(ctx, at)
	if err != nil {
		return false, err
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
		select {
		case <-caughtUp:
			caughtUp, complete = nil, true
			timer.Reset(patience)
		default:
		}
		for len(resp.GetEvents()) < limit {
			ev, ok := sub.Take()
			if !ok {
				break
			}
			resp.Events, resp.Cursor = append(resp.GetEvents(), ev), ev.GetCursor()
		}
		if _, ended := sub.End(); ended || len(resp.GetEvents()) > 0 {
			resp.More = len(resp.GetEvents()) == limit
			return complete && !ended && !resp.GetMore(), nil
		}
		select {
		case <-sub.Wake():
		case <-caughtUp:
		case <-timer.C:
			return complete, nil
		case <-p.hurry:
			return complete, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
