package callback

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

// Causes in the stream of what could not be routed.
const (
	causeUnrouted  = "no-session"
	causeStaffOnly = "staff-only"
	causeProvider  = "other-provider"
	causeNoEvent   = "no-event"
	causeForged    = "forged"
	causeAccount   = "wrong-account"
)

// resultOf is what became of a call that was set aside for a cause.
func resultOf(cause string) string {
	if cause == causeUnrouted {
		return resultUnrouted
	}
	return cause
}

// setAside stores a body that no client may or can be told of, for operators, as
// it came. A copy is known by its bytes: what identifies an event does so only
// within one session.
func (h *Handler) setAside(ctx context.Context, c *call, cause, eventType string) (string, *refusal) {
	ctx, cancel := context.WithTimeout(ctx, h.storeTime(c))
	defer cancel()
	sum := sha256.Sum256(c.body)
	rec := &busv1.UnroutedRecord{Account: c.account, Raw: c.body, ReceiveTime: c.received, Cause: cause}
	ack, err := h.p.Store.PublishUnrouted(ctx, rec, c.account+"."+cause+"."+hex.EncodeToString(sum[:]))
	if err != nil {
		return "", h.notStored(ctx, c.account, eventType, err)
	}
	if ack.Duplicate {
		return resultDuplicate, nil
	}
	h.p.Log.WarnContext(ctx, "callback set aside", "account", c.account, "type", eventType, "cause", cause, "sequence", ack.Sequence)
	return resultOf(cause), nil
}

// suspect refuses a body that nobody but an intruder should send. It is kept all
// the same: were the fault ours, such as a secret that was replaced twice in the
// life of a chat, it could be replayed.
func (h *Handler) suspect(ctx context.Context, c *call, cause, eventType string, no *refusal) (string, *refusal) {
	if _, notKept := h.setAside(ctx, c, cause, eventType); notKept != nil {
		return "", notKept
	}
	return "", no
}
