// Package state owns the rules by which the record of an engagement changes:
// what an event of AXP, an order of the customer or an answer of AXP makes of
// it. Everything here is a pure function of a record and what happened.
//
// Two invariants hold. The status only ever grows in the order CREATING,
// PENDING, ACTIVE, ENDING, TERMINATED, FAILED, so an engagement that is over
// stays over. And AXP's events may come in any order and any number of times:
// the record that results is the same.
//
// It never reads or writes NATS, calls AXP or looks at a clock.
package state
