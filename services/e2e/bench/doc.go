// Package bench measures the delivery path, from a callback of AXP to the frame
// at a client, beside the thinnest path that keeps the same promise (package
// thin), both as separate processes with a NATS server of their own, in turns
// within one run: what the machine does to one it does to the other.
//
// Every event is counted: a run in which one is lost, repeated or out of order
// fails. Figures are of the processes that are measured, as the kernel accounts
// for them; load and clients are this process's and count for neither side.
// Latency is from the moment at which a POST begins to the moment at which its
// event's frame was decoded, by one clock.
//
// [RunBadInput] asks another question: what a flood of bad input, thousands a
// second, does to a good chat. It runs the whole suite with the sandbox in AXP's
// place and measures rounds without the flood, with it elsewhere on the machine
// (at a gateway and webhook-ingest that nobody else uses), and with it here, in
// turns: what the good chat loses only here, it loses to the suite.
//
// The suite's side is what production runs, with default settings: gateway,
// webhook-ingest and NATS. The orchestrator has no part in the path; sessions
// are written to the buckets as it writes them.
package bench
