// Package gateway is the service that clients talk to: gRPC, REST, WebSocket,
// server-sent events and long polling, all over one delivery engine, with the
// customer's token checked first. It also shows the web chat and the description
// of the API.
//
// It keeps nothing that another pod needs: a client may come back on any pod, by
// any transport, with its cursor. It never talks to AXP; commands go to the
// orchestrator. On the end of a pod its clients are moved, not dropped: see
// [Gateway.Drain].
package gateway
