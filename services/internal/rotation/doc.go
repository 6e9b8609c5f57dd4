// Package rotation owns the agreement of all replicas on which secret makes
// callback keys and proofs while WEBHOOK_SECRET is being replaced: the callback URL
// in AXP, and the providerDialogIds of new chats.
//
// Every replica reports the fingerprints of its secrets every few seconds: those
// that take callbacks (Receiver), and those that make keys (Agreement). A secret
// is put into force when every receiver that is there honours it, and not before,
// so that in whatever order the replicas are replaced AXP never calls with a key
// that somebody refuses. The agreement is one record, changed by compare-and-set;
// it remembers what was in force before, so that an old replica knows that it is
// one and leaves everything alone. Old replicas take over again only when no new
// one is left, which is a rollback.
//
// It knows nothing of AXP and never stores or sends a secret. It is used by
// session-orchestrator and webhook-ingest.
package rotation
