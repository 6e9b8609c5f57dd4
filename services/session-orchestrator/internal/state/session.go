package state

import (
	"slices"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// MaxParameters is how many session parameters AXP is trusted to keep: its
// contract does not say whether 20 bounds the call or what is stored.
const MaxParameters = 20

// Limits of AXP on customer identifiers.
const (
	MaxIdentifierNames  = 10
	MaxIdentifierValues = 5
)

// rememberedRequests is how many appendIdentifiers requests a session
// remembers; a repeat comes within seconds, not after this many others.
const rememberedRequests = 32

// Closed tells whether a session takes no more commands.
func Closed(s axpchatv1.SessionStatus) bool {
	return s == axpchatv1.SessionStatus_SESSION_STATUS_CLOSING || s == axpchatv1.SessionStatus_SESSION_STATUS_CLOSED
}

// Applied tells whether a request was applied to the session before.
func Applied(rec *busv1.SessionRecord, requestID string) bool {
	return requestID != "" && slices.Contains(rec.GetAppliedRequestIds(), requestID)
}

// NoteApplied remembers a request.
func NoteApplied(rec *busv1.SessionRecord, requestID string) {
	if requestID == "" || Applied(rec, requestID) {
		return
	}
	rec.AppliedRequestIds = append(rec.AppliedRequestIds, requestID)
	if n := len(rec.GetAppliedRequestIds()); n > rememberedRequests {
		rec.AppliedRequestIds = rec.GetAppliedRequestIds()[n-rememberedRequests:]
	}
}
