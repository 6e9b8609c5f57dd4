// Package ingest owns the service that takes AXP's callbacks: it checks where
// they come from, turns each into one event, stores it in the journal of its
// session and answers 200 only then.
//
// It is built by New, which binds its address, and run as a component. One
// process or many may run it: it keeps no state, and a callback that arrives
// twice, at one or at two of them, is stored once.
//
// It never holds credentials of AXP, never calls AXP, and looks nothing up on
// the usual path, since the providerDialogId that AXP repeats says where an
// event belongs. It is assembled by cmd/webhook-ingest and by the all-in-one
// connector.
package ingest
