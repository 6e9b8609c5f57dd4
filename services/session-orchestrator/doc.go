// Package orchestrator is the session-orchestrator: every call to AXP, AXP's
// credentials, the state of sessions and engagements, the outbox of customers'
// messages, and the webhook subscription.
//
// New builds everything and binds the listener; Components gives the parts in
// the order in which they start; Close ends what New began. It has a gRPC
// service for the gateway and never faces the internet. It keeps nothing in
// the process that another replica needs: state is in NATS, and any number of
// replicas may run. A request is answered by whichever replica gets it; a
// partition of the outbox is worked by one replica at a time.
//
// The parts are under internal/: axp (the client), accounts, sessions,
// engagements, messages (intake), outbox (to AXP), projector (AXP's events to
// our records), attachments, provisioning (webhooks), and what they share:
// state (the rules), records (reading and changing them), journal (our own
// events).
package orchestrator
