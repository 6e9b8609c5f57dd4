// Package natsrights proves deploy/nats/permissions.conf: that each service can do
// its work with the rights that it is given there, that it is given none that it
// does not need, and what somebody can do who has stolen its credential. It runs
// the NATS server of the shipped files, with TLS and certificates of its own.
package natsrights
