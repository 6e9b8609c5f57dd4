package callback

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

const (
	// clockSkew is how far AXP's clock may be from ours.
	clockSkew = 5 * time.Minute
	// searchTime bounds the search for an earlier copy; half of the time stays for
	// storing in any case.
	searchTime = time.Second
	// searchPage is how many events are read at a time; the bus allows no more.
	searchPage = 256
)

// sentBefore tells whether the journal has the event already, where the store no
// longer would: it knows copies for a while only. The event's date says when that
// may be, so the journal is read for old events alone, which are rare. Where it
// can't be read the event counts as new, since a repeat is better than a loss.
func (h *Handler) sentBefore(ctx context.Context, account string, event *axpchatv1.Event) bool {
	window := h.p.Limits.Duplicates
	if time.Since(oldest(event)) < window-min(clockSkew, window/2) {
		return false
	}
	limit := searchTime
	if deadline, has := ctx.Deadline(); has {
		limit = min(limit, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for after, more := uint64(0), true; more; {
		stored, next, err := h.p.Store.ReadEvents(ctx, account, event.GetSessionId(), after, searchPage)
		if err != nil {
			h.p.Log.WarnContext(ctx, "journal can't be searched for an earlier copy", "account", account, "error", err)
			return false
		}
		for _, s := range stored {
			if s.Record.GetEvent().GetEventId() == event.GetEventId() {
				return true
			}
			after = s.Sequence
		}
		more = next && len(stored) > 0
	}
	return false
}

// oldest is the earliest time at which AXP can have sent the event. Whether a
// copy has a date of its own is not documented; a message keeps the one of its
// receipt, and the change that its event tells of has one.
func oldest(event *axpchatv1.Event) time.Time {
	t := event.GetEventTime().AsTime()
	for _, m := range []*axpchatv1.Message{event.GetMessageArrived(), event.GetMessageDelivered()} {
		for _, at := range []*timestamppb.Timestamp{m.GetReceiveTime(), m.GetUpdateTime()} {
			if at != nil && at.AsTime().Before(t) {
				t = at.AsTime()
			}
		}
	}
	return t
}
