// Package limiter owns how many calls one AXP account may have under way at
// once, and who goes first. AXP publishes no limits, so the number is found by
// trying: it grows by one for each round of successes that have used it up, and
// is multiplied by less than one when AXP refuses, does not answer in time, or
// fails several times in a row (AIMD, as TCP does it). It never falls under 1.
//
// Waiting calls are served by class, and first come, first served within one.
// As a session has at most one message on its way, that is fair between
// conversations. A class that was passed over many times gets a turn all the
// same, so that history comes late but comes. What waits is bounded for each
// class by itself: history cannot take the room of messages.
//
// Where AXP says how long to wait, the whole account waits.
//
// A Limiter is of one process: several replicas each find their own share, as
// AXP's refusals reach all of them. It is safe for concurrent use. It knows
// nothing of HTTP, and never repeats a call.
package limiter
