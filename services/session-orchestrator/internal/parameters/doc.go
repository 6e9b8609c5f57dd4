// Package parameters owns how AXP learns of session parameters, the context that
// agents and routing see.
//
// The record of the session holds the newest values at once, and notes which of
// them AXP has not been told. AXP is told at most once per session and interval:
// the first change at once, what follows together when the interval is over, by
// a timer in NATS. A crash loses neither: the note is in the record, and package
// reaper looks for notes that nobody works on. Before a chat is started AXP is
// told all the same, so that the agent sees the newest context.
//
// Of one session one replica tells at a time, so that an older value never
// overtakes a newer one.
//
// A session holds 20 parameters, as many as AXP takes; the rule for what goes is
// state.SetParameters's. AXP can remove no key. Where it counts the keys that it
// has been told over the session's whole life, and refuses further ones, it is
// told the new values of those that it knows, and the others are counted and
// given up.
package parameters
