// Package sessions owns the commands on sessions: create, read, change, close.
// It calls AXP and keeps our record in step with it by compare-and-set.
//
// A session is CREATING until AXP has answered. Of two attempts at the same
// request one wins; the other deletes the AXP session that it has made for
// nothing. An attempt that a crash has left over is taken over after
// patience.Leftover. AXP cannot be asked which session an unanswered Create
// Session has made, so that one stays in AXP unused and is counted. One that is
// known, but could not be deleted, is noted in the record for the reaper.
//
// Session parameters are durable before AXP is told of them; package parameters
// sees to that.
//
// It never looks at another customer's session: every command goes through
// records.Session.
package sessions
