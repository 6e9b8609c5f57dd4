// Package engagements owns the commands on engagements: create, read, join,
// end; and what it takes to keep our record and AXP's dialog the same thing.
//
// A session has one open engagement at most. The engagement's record, with the
// providerDialogId that proves a callback to be ours, is stored before AXP is
// asked, so a callback that overtakes the answer finds it. When the outcome of
// Create Engagement is not known, the dialog is looked for by its
// providerDialogId and adopted; a dialog too many is disconnected.
//
// Ending is an order in the outbox, behind everything that was accepted.
//
// It never sends a message (package outbox does) and never looks at another
// customer's engagement.
package engagements
