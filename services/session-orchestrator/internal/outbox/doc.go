// Package outbox owns the way of customers' messages from the stream OUTBOX to
// AXP: in order and one at a time within a session, side by side across
// sessions, and each ending in SENT or FAILED.
//
// It has two layers. A Partition turns NATS deliveries into an ordered queue
// for each session. NATS gives one replica at a time the pin of a partition's
// consumer, but a pin alone does not keep order across a take-over: whenever
// this process cannot be sure that it saw every delivery since it got the pin
// (a new pin, a hole in the consumer's sequence, a pause of the process, a
// server that does not hear it, a reconnect) it forgets what it holds and has
// the server start over from the oldest message in the stream. A message stays
// there until it is removed by name: what a consumer in a cluster knows of what
// is acknowledged may be wrong after a change of leader, so nothing is deleted
// for its word. The time between two such events is a tenure; without one
// nothing is sent. Messages are retried in place and never given back, for a
// message that is given back is overtaken. A replica that holds more than its
// share, or drains, leaves a partition: it ends what is under way, then gives
// the pin back.
//
// A Sender decides what to do with one entry: wait, send, ask AXP what became
// of an earlier try, give up. An entry is removed (Work returns nil) only
// after the outcome is in the journal. What was under way at a take-over is
// looked for, in the journal and then in AXP, before it is sent again; what
// remains possible is that AXP applies the earlier call after that look, which
// is counted (axpchat_outbox_uncertain).
//
// An entry that nobody can work, not even to fail it, is set aside for an operator,
// and its customer is told FAILED by a way of its own (setAside). It stays in the
// outbox until both are done.
//
// It never accepts messages (package messages) and never decides that an
// engagement may be written to.
package outbox
