// Package backfill owns the search for callbacks that never came: it notices
// that something is missing from a dialog, fetches it from AXP once, and puts it
// into the journal, marked as back-filled.
//
// Four things make it look: a hole in AXP's messageIndex that does not close, an
// echo of a customer's message that is overdue, a dialog that has gone quiet
// (what was lost at its end shows in no hole), and a webhook subscription that
// was gone for a while. Each look first reads the journal, which is the truth
// about what clients were told, and asks AXP only where the doubt remains. One
// look answers a doubt for good: AXP's lists are not for polling.
//
// What it stores has the same id as the callback would have had, so that one
// that comes late after all is a copy and not a second event.
//
// The replicas share the dialogs by rendezvous hashing, so that two of them rarely
// look for the same thing; where they do, nothing is stored twice. What a replica
// knows is in memory and made anew from the journal.
package backfill
