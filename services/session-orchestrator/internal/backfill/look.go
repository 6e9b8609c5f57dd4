package backfill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/normalise"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// page is how many events are read at a time; the bus allows no more.
const page = 256

// question is what a look is for.
type question struct {
	ref     records.Ref
	why     doubt
	looked  time.Time
	last    time.Time // when something last happened, as far as was known
	missing bool
}

// result is what it found.
type result struct {
	ref     records.Ref
	why     doubt
	dialog  *dialog // as the journal and AXP have it
	through uint64  // the last sequence of the journal that is in it
	asked   bool    // AXP was asked
	filled  int
	err     error
}

// noted is a live event.
type noted struct {
	sequence uint64
	event    *axpchatv1.Event
	at       time.Time
}

// look reads the journal and, where the doubt remains, asks AXP.
func (f *Filler) look(ctx context.Context, q question) result {
	r := result{ref: q.ref, why: q.why}
	known, err := f.history(ctx, q.ref)
	if err != nil {
		r.err = err
		return r
	}
	d := known.dialog
	r.dialog, r.through = d, known.through
	now := f.p.Now()
	d.missing = q.missing
	switch {
	case q.why == unsure && now.Sub(d.last) > f.p.Config.QuietAfter:
		d.looked = now // by whoever watched the dialog before it was taken over
	case !d.last.After(q.last):
		d.looked = q.looked // else something has happened since that look
	}
	if d.doubt(f.p.Config, now) == none {
		return r
	}
	rec, _, err := f.p.Records.Get(ctx, q.ref)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		d.over = true
		return r
	case err != nil:
		r.err = err
		return r
	}
	e := rec.GetEngagement()
	if state.Over(e.GetStatus()) || e.GetAxpDialogId() == "" {
		d.over = state.Over(e.GetStatus())
		d.settle(f.p.Config, now)
		return r
	}
	r.asked = true
	if r.filled, err = f.ask(ctx, rec, known); err != nil {
		r.err = err
		return r
	}
	if q.why == quiet || q.why == gone {
		// Somebody may have come or gone, or the chat ended.
		if err := f.p.Engagements.Refresh(ctx, q.ref); err != nil {
			r.err = err
			return r
		}
	}
	d.settle(f.p.Config, now)
	return r
}

// history is what the journal says of a dialog.
type history struct {
	dialog   *dialog
	messages map[string]struct{} // AXP's ids of the messages that are there
	nameless indexes             // of those whose callbacks had no id
	whole    bool                // it begins with the dialog
	through  uint64
}

func (f *Filler) history(ctx context.Context, ref records.Ref) (history, error) {
	h := history{dialog: newDialog(), messages: map[string]struct{}{}}
	for more := true; more; {
		events, left, err := f.p.Bus.ReadEvents(ctx, ref.Account, ref.Session, h.through, page)
		if err != nil {
			return h, err
		}
		for _, e := range events {
			h.through = e.Sequence
			ev := e.Record.GetEvent()
			if ev.GetEngagementId() != ref.Engagement {
				continue
			}
			h.dialog.note(ev, ev.GetReceiveTime().AsTime())
			h.whole = h.whole || ev.GetEngagementCreated() != nil
			for _, m := range []*axpchatv1.Message{ev.GetMessageArrived(), ev.GetMessageDelivered()} {
				if id := m.GetAxpMessageId(); id != "" {
					h.messages[id] = struct{}{}
				} else if m != nil && m.MessageIndex != nil {
					h.nameless.add(m.GetMessageIndex())
				}
			}
		}
		more = left && len(events) > 0
	}
	return h, nil
}

// ask lists the dialog's messages once and stores those that are not in the
// journal, in AXP's order.
func (f *Filler) ask(ctx context.Context, rec *busv1.EngagementRecord, known history) (filled int, err error) {
	client, err := f.p.Accounts.Client(rec.GetAccount())
	if err != nil {
		return 0, err
	}
	e := rec.GetEngagement()
	list, complete, err := client.ListAllMessages(ctx, e.GetAxpEngagementId(), e.GetAxpDialogId(), rec.GetAxpSessionId())
	if axp.IsNotFound(err) {
		return 0, f.p.Engagements.Refresh(ctx, records.RefOf(rec))
	}
	if err != nil {
		return 0, err
	}
	if !complete {
		f.p.Log.WarnContext(ctx, "a dialog has more messages than can be listed; the newest may be missing")
	}
	journal, err := f.p.Bus.Journal(ctx)
	if err != nil {
		return 0, err
	}
	for i := range list {
		if known.has(&list[i]) || known.dropped(&list[i], journal) {
			continue
		}
		fresh, err := f.store(ctx, rec, &list[i])
		if err != nil {
			return filled, err
		}
		if fresh {
			filled++
		}
	}
	return filled, nil
}

// has tells whether the journal has a message that AXP lists.
func (h history) has(m *axp.Message) bool {
	if m.MessageID != "" {
		_, there := h.messages[m.MessageID]
		return there || m.MessageIndex.Known && h.nameless.has(m.MessageIndex.Value)
	}
	return m.MessageIndex.Known && h.dialog.seen.has(m.MessageIndex.Value)
}

// clockSkew is how far AXP's clock may be from NATS's.
const clockSkew = 5 * time.Minute

// dropped tells whether a message is older than all that the journal keeps: clients
// have been told of it long since. AXP's list goes back to the dialog's beginning,
// however long ago that was.
func (h history) dropped(m *axp.Message, journal bus.JournalInfo) bool {
	return !h.whole && journal.First > 1 && !m.ReceivedAt.IsZero() && m.ReceivedAt.Add(clockSkew).Before(journal.FirstTime)
}

// store puts a message into the journal as its callback would have.
func (f *Filler) store(ctx context.Context, rec *busv1.EngagementRecord, m *axp.Message) (fresh bool, err error) {
	body, err := asCallback(m.Raw)
	if err != nil {
		return false, err
	}
	r, err := normalise.Callback(body)
	if err != nil {
		return false, fmt.Errorf("a listed message can't be read: %w", err)
	}
	if r.StaffOnly {
		return false, nil
	}
	e := rec.GetEngagement()
	r.Place(e.GetSessionId(), e.GetEngagementId(), timestamppb.New(f.p.Now()))
	r.Event.Backfilled = true
	ack, err := f.p.Bus.PublishEvent(ctx, &busv1.EventRecord{Account: rec.GetAccount(), Event: r.Event})
	if errors.Is(err, bus.ErrErased) {
		return false, nil
	}
	return err == nil && !ack.Duplicate, err
}

// asCallback makes the body of the callback that should have come of a message
// as AXP lists it.
func asCallback(raw json.RawMessage) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("a listed message can't be read: %w", err)
	}
	fields["eventType"] = json.RawMessage(`"MESSAGES"`)
	if at, ok := fields["receivedAt"]; ok {
		fields["eventDate"] = at
	}
	return json.Marshal(fields)
}

// openDialogs lists the engagements that may have messages to come.
func (f *Filler) openDialogs(ctx context.Context) ([]records.Ref, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var open []records.Ref
	err := f.p.Bus.Engagements.All(ctx, func(rec *busv1.EngagementRecord) {
		if e := rec.GetEngagement(); !state.Over(e.GetStatus()) && e.GetAxpDialogId() != "" {
			open = append(open, records.RefOf(rec))
		}
	})
	return open, err
}
