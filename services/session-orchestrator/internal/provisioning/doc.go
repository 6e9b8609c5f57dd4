// Package provisioning keeps the webhook subscription of one account in AXP as
// it should be: exactly one that points to our callback URL and asks for the
// event types that the connector needs.
//
// It owns the decision which subscription to create, change or delete (plan),
// and the upkeep (Reconciler): at start, periodically, and on demand.
//
// Invariants: what is wanted is there before anything of ours is deleted, so
// that no event is missed on the way; only subscriptions under our own callback
// prefix, of this account and channel provider, are ever touched; of several
// replicas only the one that holds the Lease changes anything, the others only
// look, and those whose key is not in force (package rotation) do not even judge;
// the key in the callback URL is never logged.
//
// It never receives callbacks and knows nothing about what they hold. It is
// run by the session-orchestrator, one Reconciler for each account.
package provisioning
