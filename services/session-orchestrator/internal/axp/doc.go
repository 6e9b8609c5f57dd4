// Package axp is the client of the AXP REST interface: Custom Chat,
// Notification, Auth and Signed Media, one Client for each account.
//
// It owns everything that every call has in common: the access token (one for
// the account, renewed ahead of its expiry, one renewal at a time), the
// application key, percent-encoding of ids, tolerant parsing of answers, time
// limits, the retry rule of each operation (Operations), and what is known
// about the effect of a failed call (Error, Outcome).
//
// Invariants: ids are opaque and repeated byte for byte; the token and the key
// go to the configured origin only, never to a signed media address and never
// along a redirect; a call that AXP may have carried out already is repeated
// only where its row in Operations says that this is safe.
//
// It never stores a session or an engagement, never decides what to do about
// an outcome that is unknown (the caller reconciles), and never logs message
// text, identifiers, tokens or secrets. It is called by the packages of the
// session-orchestrator and by nobody else.
//
// A Client is safe for concurrent use.
package axp
