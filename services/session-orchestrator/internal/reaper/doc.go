// Package reaper owns the search for what a crash has left behind, in AXP and
// here: it goes through all records now and then and puts right what nobody
// works on any more.
//
//   - A session half-created: AXP can't be asked for it; the record goes, so that
//     a repeat of the request starts afresh.
//   - A session being closed whose client never repeated the command: it is
//     closed, with the reason it was given.
//   - AXP sessions that were made for nothing and could not be deleted.
//   - Session parameters that AXP was not told.
//   - Sessions whose timer got lost: it is set, and package idle does the rest.
//   - An engagement half-created: the dialog is adopted or the record goes.
//   - An engagement that should have ended, or is open in a session that is closed
//     or gone: its end is ordered (again), behind what the customer has sent.
//   - A dialog that should have ended and that AXP could not be made to end: a
//     surplus one, or one whose end the outbox has given up.
//   - A turn of an engagement that was stored but that the journal was not told of.
//
// And it has the orders to erase sessions and customers gone on with that were left
// undone.
//
// Every step is safe to repeat and to be done by two at a time. The replicas
// share the sessions, and each does so many steps per second at most: AXP's limits
// are for customers.
package reaper
