// Package connector owns the assembly of the whole suite in one process: gateway,
// session-orchestrator and webhook-ingest over an embedded NATS server, enough
// for a small deployment on one machine.
//
// It runs the services by the same constructors as their own commands do. They
// talk gRPC in memory and NATS in process, or over the network where NATS_URL
// names a cluster, so that deadlines, errors and order are the same as between
// separate processes. What starts first ends last: NATS, provisioning,
// orchestrator, ingest, gateway.
//
// It has no behaviour of its own and reaches no service but by what the service
// exports. It never imports the sandbox: package dev beside it does, for
// connector-dev and tests alone.
package connector
