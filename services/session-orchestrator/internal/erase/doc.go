// Package erase owns the removal of what the connector keeps of a session or a
// customer, on an operator's order, with proof.
//
// A tombstone comes first and stays: from the moment on at which it says ERASING,
// nothing of the session is stored by this service any more (kit/bus), and what
// webhook-ingest still stores of AXP's late callbacks is overwritten by the
// projector as soon as it is read, which counts it. So what is in work anywhere
// (an answer of AXP, a callback, a message in a worker's hands) can't bring
// anything back, and a crash in the middle leaves an order that the reaper carries
// out. A while after the end the reaper looks once more.
//
// What is open is ended in AXP first, so that no agent is left with nobody; the
// end is told to clients, whose streams close by it.
//
// What stays is the tombstone and, until their time is over, the entries of the
// index that lead late callbacks to it: the connector's own random ids, and hashes
// of AXP's. It never erases anything in AXP itself, nor in the journal of another
// session that this one has joined.
package erase
