// Package journal owns the events that the orchestrator itself adds to a
// session's journal: what became of a customer's message, and the turns in the
// life of engagements and sessions.
//
// Every event has an id that follows from what it tells, so that several
// writers, and repeats after a crash, come out as one event: the bus drops
// copies. What is not told again after the bus's memory has ended is looked up
// in the journal first (Find).
//
// It never changes a record and never calls AXP. It is safe for concurrent use.
package journal
