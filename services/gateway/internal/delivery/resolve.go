package delivery

import (
	"context"
	"errors"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// resolve turns a client's cursor into a place in the journal, with a reset
// where what came after the cursor is not all there.
func (e *Engine) resolve(ctx context.Context, r Request) (cursor, *axpchatv1.Reset, error) {
	if !bus.ValidToken(r.Session.Account) || !bus.ValidToken(r.Session.Session) {
		return cursor{}, nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, "there is no such session")
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	info, err := e.bus.Journal(ctx)
	if err != nil {
		return cursor{}, nil, unavailable(err)
	}
	begin := beginning(info, r.Session)
	if r.Cursor == "" {
		return begin, nil, nil
	}
	c, err := parseCursor(r.Cursor)
	if err != nil {
		return cursor{}, nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_CURSOR_INVALID, "the cursor is not one of this service; begin without a cursor").
			WithViolation("cursor", "is not a cursor of this service", "cursor")
	}
	reason := axpchatv1.ResetReason_RESET_REASON_UNSPECIFIED
	switch {
	case c.tag != begin.tag:
		reason = axpchatv1.ResetReason_RESET_REASON_OTHER_SESSION
	case c.epoch != begin.epoch:
		reason = axpchatv1.ResetReason_RESET_REASON_OTHER_EPOCH
	case c.sequence > info.Last || c.sequence+1 < info.First:
		if reason, err = e.judge(ctx, c, r.Created); err != nil {
			return cursor{}, nil, unavailable(err)
		}
		if reason == axpchatv1.ResetReason_RESET_REASON_CURSOR_TOO_OLD {
			if begin, err = e.restart(ctx, r); err != nil {
				return cursor{}, nil, unavailable(err)
			}
		}
	}
	if reason != axpchatv1.ResetReason_RESET_REASON_UNSPECIFIED {
		e.metrics.reset(ctx, reason)
		return begin, &axpchatv1.Reset{Reason: reason, Cursor: begin.String()}, nil
	}
	return c, nil, nil
}

// beginning is before the first event that the journal holds. It is no lower: who
// comes back with it has been told that what was before is gone.
func beginning(info bus.JournalInfo, key bus.SessionKey) cursor {
	return cursor{epoch: info.Epoch, tag: sessionTag(key), sequence: max(info.First, 1) - 1}
}

// restart is where a client begins whose cursor is too old. Where nothing is left
// that concerns it, that is the journal's end: the beginning moves on with every
// event that the journal drops, so that each return would be answered by a reset.
func (e *Engine) restart(ctx context.Context, r Request) (cursor, error) {
	info, err := e.bus.JournalSince(ctx, time.Now())
	if err != nil {
		return cursor{}, err
	}
	begin := beginning(info, r.Session)
	journals := []bus.SessionKey{r.Session}
	for _, j := range r.Joined {
		journals = append(journals, j.Session)
	}
	end, nothing, err := e.bus.JournalWithout(ctx, journals)
	if err == nil && nothing {
		begin.sequence = max(begin.sequence, end)
	}
	return begin, err
}

const (
	// clockSkew is how far the clocks of those may be apart who say when a session was
	// created and when an event was stored.
	clockSkew = 2 * time.Minute
	// leaderLag is how long the journal's leader may be behind an event that a
	// client has: other replicas serve what is committed while the leader, slow or
	// just come back, has still to apply it.
	leaderLag  = 3 * time.Second
	leaderPoll = 100 * time.Millisecond
)

// judge looks closer at a cursor that is outside of what the journal held a
// moment ago.
func (e *Engine) judge(ctx context.Context, c cursor, created time.Time) (axpchatv1.ResetReason, error) {
	var info bus.JournalInfo
	for began := time.Now(); ; {
		var err error
		if info, err = e.bus.JournalSince(ctx, time.Now()); err != nil {
			return 0, err
		}
		if c.sequence <= info.Last || time.Since(began) > leaderLag {
			break
		}
		select {
		case <-time.After(leaderPoll):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	switch {
	case c.sequence > info.Last || c.epoch != info.Epoch:
		// A journal that was restored from a copy continues its old numbers.
		return axpchatv1.ResetReason_RESET_REASON_OTHER_EPOCH, nil
	case keeps(info, c.sequence, created):
		return axpchatv1.ResetReason_RESET_REASON_UNSPECIFIED, nil
	default:
		return axpchatv1.ResetReason_RESET_REASON_CURSOR_TOO_OLD, nil
	}
}

// keeps tells whether the journal is certain to hold whatever a session has had
// after a place.
func keeps(info bus.JournalInfo, after uint64, created time.Time) bool {
	// A session that is younger than the oldest event that is there has lost nothing:
	// whatever the journal has dropped was not of this session.
	return after+1 >= info.First || !info.FirstTime.IsZero() && created.After(info.FirstTime.Add(clockSkew))
}

func unavailable(err error) error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "the journal can't be read at the moment").WithCause(err)
}

// Page is what one read without a subscription gives.
type Page struct {
	Events []*axpchatv1.Event
	Cursor string // after the last event; where it began when there is none
	Reset  *axpchatv1.Reset
	More   bool
}

// Read reads at most limit events (1 to 500) after the request's cursor,
// without waiting for any. It fails like Attach.
func (e *Engine) Read(ctx context.Context, r Request, limit int) (Page, error) {
	page, err := e.readPage(ctx, r, limit)
	if errors.Is(err, errDropped) { // it is known by now: the cursor is judged anew
		page, err = e.readPage(ctx, r, limit)
	}
	if errors.Is(err, errDropped) {
		err = unavailable(err)
	}
	return page, err
}

func (e *Engine) readPage(ctx context.Context, r Request, limit int) (Page, error) {
	at, reset, err := e.resolve(ctx, r)
	if err != nil {
		return Page{}, err
	}
	place := place{key: r.Session, start: at, created: r.Created, begins: r.Cursor == "" || reset != nil}
	page := Page{Cursor: r.Cursor, Reset: reset, More: true}
	if place.begins {
		page.Cursor = at.String()
	}
	for page.More && len(page.Events) < limit {
		var items []item
		items, page.More, err = e.readOn(ctx, place, at.sequence, min(limit-len(page.Events), readBatch))
		switch {
		case errors.Is(err, errDropped) && len(page.Events) > 0:
			return page, nil // the next read is told
		case errors.Is(err, errDropped):
			return Page{}, err
		case err != nil:
			return Page{}, unavailable(err)
		}
		for _, it := range items {
			page.Events = append(page.Events, it.event)
			at.sequence, page.Cursor = it.sequence, it.event.GetCursor()
		}
		if len(items) == 0 {
			page.More = false
		}
	}
	return page, nil
}

// Walk calls f with every event of a session that the journal holds, oldest
// first, until f returns false. It fails with UNAVAILABLE.
func (e *Engine) Walk(ctx context.Context, key bus.SessionKey, f func(*axpchatv1.Event) bool) error {
	at, _, err := e.resolve(ctx, Request{Session: key})
	if err != nil {
		return err
	}
	for more := true; more; {
		var items []item
		if items, more, err = e.read(ctx, key, at, at.sequence, readBatch); err != nil {
			return unavailable(err)
		}
		for _, it := range items {
			at.sequence = it.sequence
			if !f(it.event) {
				return nil
			}
		}
		more = more && len(items) > 0
	}
	return nil
}
