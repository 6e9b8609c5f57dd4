// Package callback owns the HTTP side of AXP's webhooks: it checks that a call
// comes from AXP, has the event stored, and only then answers 200.
//
// Invariants: whatever was answered with 200 is stored, in the session's journal
// or in the stream of what could not be routed; what was refused with another
// status is in no journal; the answer comes within AXP's five seconds, as long as
// the settings allow; a copy of an event is stored once. The store knows a copy
// for EVENTS_DUPLICATE_WINDOW; for an event whose date is older than that the
// journal of its session is searched.
//
// What holds no event, belongs to nobody, or looks forged is kept as it came, for
// an operator to look at and to replay: every fault behind it may be ours.
//
// The path holds a key that proves where the call comes from. It is never
// logged, traced or repeated in an answer, and neither is anything of the body.
//
// It never calls AXP, never looks at a client, and never waits for one. It is
// mounted by the service's root package.
package callback
