package callback

import (
	"context"
	"errors"
	"fmt"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/normalise"
	"github.com/axpchat/connector/services/webhook-ingest/internal/route"
)

// Outcome is what came of trying a callback again.
type Outcome struct {
	// EventType is AXP's; NONE where there is no event.
	EventType string
	// Result says what became of it: stored, duplicate (the journal has it), routable
	// (it was only looked at), else why it has to stay.
	Result string
	// Settled is true where it need not be kept any longer.
	Settled bool
}

// resultRoutable is that of a callback that would be stored.
const resultRoutable = "routable"

// Again tries a callback that was set aside, by the same ways and under the same
// id as when it came, so that what was told meanwhile is not told twice. Where look
// is true it is not stored. An error says that it is not known yet, such as where
// NATS can't be reached.
func (h *Handler) Again(ctx context.Context, rec *busv1.UnroutedRecord, look bool) (Outcome, error) {
	c := &call{account: rec.GetAccount(), body: rec.GetRaw(), received: rec.GetReceiveTime(), due: time.Now().Add(h.p.Limits.Answer)}
	event, err := normalise.Callback(c.body)
	if err != nil {
		return Outcome{EventType: noType, Result: causeNoEvent}, nil //nolint:nilerr // it never will be one
	}
	out := Outcome{EventType: event.Type, Result: h.foreign(c, &event)}
	if out.Result != "" {
		return out, nil
	}
	target, err := h.find(ctx, c, &event.Keys)
	switch {
	case errors.Is(err, route.ErrForged):
		out.Result = causeForged
	case errors.Is(err, route.ErrNobody):
		out.Result = causeUnrouted
	case err != nil:
		return out, err
	case event.StaffOnly:
		out.Result = causeStaffOnly
	case look:
		out.Result = resultRoutable
	default:
		result, no := h.journal(ctx, c, &event, target)
		if no != nil {
			return out, fmt.Errorf("not stored: %s", no.detail)
		}
		out.Result, out.Settled = result, true
	}
	return out, nil
}
