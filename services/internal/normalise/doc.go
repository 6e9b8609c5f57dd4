// Package normalise owns the translation of one callback of AXP into one Event.
//
// It is tolerant by design, for what it refuses is lost to the customer: null
// counts as absent, a field of a wrong type, an unknown field and an unknown
// word of an enum are kept in the event's extra_json under their own path, an
// unknown type of event keeps its whole body. Only what is no JSON object, or is
// larger than [MaxDepth] and [MaxValues] allow, is an error. Nothing that AXP sent is dropped
// except null, the connector's own proof inside a providerDialogId, and the way
// a time or a number was written.
//
// The event's id depends on nothing but what identifies the event for AXP, so
// that a copy sent again gets the same id however it is formatted.
//
// It never does I/O, never looks anything up and never decides whose event it
// is: session and engagement are filled in by [Result.Place]. It is called by
// webhook-ingest for each callback, and by the session-orchestrator for what AXP
// lists of a message whose callback never came.
package normalise
