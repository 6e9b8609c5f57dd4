// Package records owns how the orchestrator reads and changes the records of
// sessions and engagements: who may see them, and how a change and the event
// that tells of it stay together.
//
// A turn in an engagement's life is written to the journal before the record
// shows it. A crash in between is repaired by whoever does the same change
// again, under the same event id; the other way round the event could be lost.
// Every change is a compare-and-set.
//
// It never calls AXP and decides nothing that package state does not say.
package records
