// Package limits owns how much of the gateway one client may have: streams
// opened, calls and frames, messages, bytes, sessions created, and streams that
// are open at a time; each per connection, session, customer, address and account.
//
// Invariants: whatever a stranger sends, memory has a bound (tables forget whom
// they have not seen for longest, who then begins with a full bucket); what one
// scope refuses costs no wider one anything, so a customer who asks too much does
// not use up his account; a session's budget is that of its customer in it, so
// nobody can use up another one's; metrics name kinds and scopes, never anybody.
//
// An account's buckets hold across gateways: each tells the others every second
// what its clients have taken, and takes what the others tell off its own (see
// share.go). All other limits are those of one gateway.
//
// The package knows nothing of sessions' records and decides nothing but yes or
// how long to wait.
package limits
