package erase

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/normalise"
)

// Kinds of what is kept of a session.
const (
	kindTimers      = "timers"
	kindOutbox      = "outbox"
	kindTickets     = "tickets"
	kindUnrouted    = "unrouted"
	kindAside       = "aside"
	kindSent        = "sent"
	kindMedia       = "media"
	kindEngagements = "engagements"
	kindSessions    = "sessions"
	kindEvents      = "events"
)

// purge erases what there is of a session and counts it by kind, also where it
// fails in the middle. What could lead to more comes first, the journal last.
func (e *Eraser) purge(ctx context.Context, account, session string) (map[string]int64, error) {
	gone := map[string]int64{}
	for _, step := range []struct {
		kind string
		do   func() (int, error)
	}{
		{kindTimers, func() (int, error) {
			return e.p.Bus.EraseSubject(ctx, bus.TimersStream, bus.TimersOf(account, session))
		}},
		{kindOutbox, func() (int, error) {
			return e.p.Bus.EraseSubject(ctx, bus.OutboxStream, bus.OutboxOf(account, session))
		}},
		{kindTickets, func() (int, error) { return e.tickets(ctx, account, session, true) }},
		{kindUnrouted, func() (int, error) { return e.unrouted(ctx, account, session, true) }},
		{kindAside, func() (int, error) {
			return e.p.Bus.EraseSubject(ctx, bus.AsideStream, bus.AsideOf(account, session))
		}},
		{kindSent, func() (int, error) { return eraseKeys(ctx, e.p.Bus.Index, bus.SentKeys(account, session)) }},
		{kindMedia, func() (int, error) { return eraseKeys(ctx, e.p.Bus.Index, bus.MediaKeys(account, session)) }},
		{kindEngagements, func() (int, error) {
			return eraseKeys(ctx, e.p.Bus.Engagements, bus.EngagementKey(account, session, "*"))
		}},
		{kindSessions, func() (int, error) {
			found, err := e.p.Bus.Sessions.Erase(ctx, bus.SessionKeyOf(account, session))
			return count(found), err
		}},
		{kindEvents, func() (int, error) {
			return e.p.Bus.EraseSubject(ctx, bus.EventsStream, bus.EventSubject(account, session))
		}},
	} {
		n, err := step.do()
		gone[step.kind] += int64(n)
		if err != nil {
			return sum(gone), err
		}
	}
	return sum(gone), nil
}

// left counts what there is of a session, by kind.
func (e *Eraser) left(ctx context.Context, account, session string) (map[string]int64, error) {
	found := map[string]int64{}
	var faults []error
	add := func(kind string, n int, err error) {
		found[kind] += int64(n)
		faults = append(faults, err)
	}
	subject := func(kind, stream, filter string) {
		n, err := e.p.Bus.CountSubject(ctx, stream, filter)
		add(kind, n, err)
	}
	subject(kindTimers, bus.TimersStream, bus.TimersOf(account, session))
	subject(kindOutbox, bus.OutboxStream, bus.OutboxOf(account, session))
	subject(kindAside, bus.AsideStream, bus.AsideOf(account, session))
	subject(kindEvents, bus.EventsStream, bus.EventSubject(account, session))
	n, err := e.tickets(ctx, account, session, false)
	add(kindTickets, n, err)
	n, err = e.unrouted(ctx, account, session, false)
	add(kindUnrouted, n, err)
	traces := func(kind string, b bucket, filter string) {
		keys, err := b.Traces(ctx, filter)
		add(kind, len(keys), err)
	}
	traces(kindSent, e.p.Bus.Index, bus.SentKeys(account, session))
	traces(kindMedia, e.p.Bus.Index, bus.MediaKeys(account, session))
	traces(kindEngagements, e.p.Bus.Engagements, bus.EngagementKey(account, session, "*"))
	traces(kindSessions, e.p.Bus.Sessions, bus.SessionKeyOf(account, session))
	return sum(found), errors.Join(faults...)
}

// bucket is what eraseKeys needs of a store.
type bucket interface {
	Traces(ctx context.Context, filter string) ([]string, error)
	Erase(ctx context.Context, key string) (bool, error)
}

// eraseKeys erases the keys that match, and the marks of those that were deleted.
func eraseKeys(ctx context.Context, b bucket, filter string) (int, error) {
	keys, err := b.Traces(ctx, filter)
	n := 0
	for _, key := range keys {
		found, err := b.Erase(ctx, key)
		if err != nil {
			return n, err
		}
		n += count(found)
	}
	return n, err
}

func count(found bool) int {
	if found {
		return 1
	}
	return 0
}

// tickets finds the tickets of a session. All are looked at; none lives longer
// than two minutes.
func (e *Eraser) tickets(ctx context.Context, account, session string, erase bool) (int, error) {
	var keys []string
	err := e.p.Bus.Tickets.Scan(ctx, func(key string, rec *busv1.TicketRecord, _ time.Time) {
		if rec.GetAccount() == account && rec.GetSessionId() == session {
			keys = append(keys, key)
		}
	})
	if err != nil || !erase {
		return len(keys), err
	}
	for _, key := range keys {
		if _, err := e.p.Bus.Tickets.Erase(ctx, key); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

// unrouted finds the callbacks of a session that were set aside: those that name
// it, and those that name something of AXP's which the index knows to be its own.
func (e *Eraser) unrouted(ctx context.Context, account, session string, erase bool) (int, error) {
	var found []uint64
	err := e.p.Bus.ScanUnrouted(ctx, account, 0, func(sequence uint64, rec *busv1.UnroutedRecord) error {
		its := bytes.Contains(rec.GetRaw(), []byte(session))
		if !its {
			whose, err := e.whose(ctx, account, rec.GetRaw())
			if err != nil {
				return err
			}
			its = slices.Contains(whose, session)
		}
		if its {
			found = append(found, sequence)
		}
		return nil
	})
	if err != nil || !erase {
		return len(found), err
	}
	for _, sequence := range found {
		if err := e.p.Bus.EraseMessage(ctx, bus.UnroutedStream, sequence); err != nil {
			return 0, err
		}
	}
	return len(found), nil
}

// whose lists the sessions that a callback tells of: that of our own key in it, and
// those that the index knows AXP's ids to belong to.
func (e *Eraser) whose(ctx context.Context, account string, raw []byte) ([]string, error) {
	event, err := normalise.Callback(raw)
	if err != nil {
		return nil, nil //nolint:nilerr // JSON, but no event: it names nothing
	}
	k := event.Keys
	var sessions []string
	if session, _, ours := strings.Cut(k.ProviderDialogID, "."); ours {
		sessions = append(sessions, session)
	}
	for id, key := range map[string]string{
		k.DialogID: bus.IndexDialog(account, k.DialogID), k.EngagementID: bus.IndexEngagement(account, k.EngagementID),
		k.SessionID: bus.IndexSession(account, k.SessionID), k.CorrelationID: bus.IndexCorrelation(account, k.CorrelationID),
	} {
		if id == "" {
			continue
		}
		rec, _, err := e.p.Bus.Index.Get(ctx, key)
		switch {
		case errors.Is(err, bus.ErrNotFound):
		case err != nil:
			return nil, err
		default:
			sessions = append(sessions, rec.GetSessionId())
		}
	}
	return sessions, nil
}

// setAside erases what was set aside of erased sessions since it was looked last:
// webhook-ingest keeps some callbacks for operators, whosever they are.
func (e *Eraser) setAside(ctx context.Context, account string) error {
	var late []uint64
	last := e.seen[account]
	err := e.p.Bus.ScanUnrouted(ctx, account, last, func(sequence uint64, rec *busv1.UnroutedRecord) error {
		whose, err := e.whose(ctx, account, rec.GetRaw())
		if err != nil {
			return err
		}
		if slices.ContainsFunc(whose, func(session string) bool { return e.p.Bus.WasErased(account, session) }) {
			late = append(late, sequence)
		}
		last = sequence
		return nil
	})
	if err != nil {
		return err
	}
	for _, sequence := range late {
		if err := e.p.Bus.EraseMessage(ctx, bus.UnroutedStream, sequence); err != nil {
			return err
		}
	}
	e.late.Add(ctx, int64(len(late)))
	e.seen[account] = last
	return nil
}
