// Package lifecycle owns how a process of the suite starts, runs and ends: the
// order of its components, signals, the drain before the end, exit codes and the
// subcommands that every main has.
//
// A service is built in two phases. Its New builds every [Component] and binds
// the listeners, undoing with [Closers] what it did when a step fails; [Run]
// serves. Invariants of Run: a component starts when the one before it is ready;
// the first that fails ends all; components drain in reverse order within one
// budget, and each is cancelled only after every drain has ended.
//
// The package knows no protocol and no service, and it reads no configuration of
// its own. It is called by the mains, by the service packages and by the test
// suite, which runs the same components.
package lifecycle
