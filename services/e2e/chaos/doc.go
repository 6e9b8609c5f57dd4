// Package chaos runs the suite as separate processes, lets many customers and
// agents talk through it, breaks things, and counts what became of every word.
//
// Run starts two of each service, a NATS cluster of three nodes and the
// sandbox, each behind TCP links of its own, so that any connection between two
// parts can be cut, stalled or delayed. Customers use all five transports and
// follow the rules that clients are told: resume from the cursor, drop what was
// passed, begin anew on reset. Faults come one after the other, each a row of
// the report, and then mixed. After each row everything is healed, and the run
// waits, within bounds and for conditions only, until all has arrived; what has
// not then is lost.
//
// The truth is taken from outside the product: AXP's own list of a chat's
// messages, and the callbacks that were answered 200, seen on their way.
//
// The schedule of faults follows from the seed alone. What the machine makes of
// it (which message is under way when a process is killed) does not, so a seed
// repeats the attack and not the wounds.
//
// It uses no package of a service.
package chaos
