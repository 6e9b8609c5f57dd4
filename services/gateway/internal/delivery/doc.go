// Package delivery owns how events come from the journal to clients: the one
// engine that every transport uses.
//
// For each session that somebody on this pod follows there is one plain NATS
// subscription. Its events come through a lane that it shares with many other
// sessions, are decoded once and offered to all of the session's subscriptions.
// A subscription begins at a cursor: it reads the journal from there and then
// goes over to live events. Live events are at most once, so three repairs stand
// behind them: a hole in the chain of predecessors, the regular look at the tail
// of every followed session, and a look soon after each attach and each
// reconnect to NATS. All of them end in the same act: reading the journal after
// the last event that was handed on.
//
// Invariants: a subscription hands on every event of its session after its
// cursor, in the order of the journal, each once, or it ends with a code; a slow
// subscription holds a bounded number of bytes and never slows another one;
// what can't be continued is answered with a reset, never with a silent hole.
//
// The package knows nothing of transports, tokens or who may see a session:
// callers check that before they attach.
package delivery
