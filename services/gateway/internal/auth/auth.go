// Package auth owns who a client is: it checks tokens and keeps the principal
// of a call in its context.
//
// Invariants: an algorithm is only accepted with the kind of key that it
// belongs to, so that a public key can't be used as a shared secret; a token
// without an expiry is refused; of a refused token nothing is logged. The
// package decides nothing about sessions: whose session it is is checked by
// whoever opens one.
package auth

import (
	"context"
	"time"
)

// Principal is the customer that a client speaks for.
type Principal struct {
	// Account is AXP's account (tenant).
	Account string
	// Subject says who the customer is, within the account.
	Subject string
	// Name is the customer's name, where the token has one.
	Name string
	// Identifiers are those of the token, as AXP's customerIdentifiers.
	Identifiers map[string][]string
	// Verified tells that the company has verified who the customer is.
	Verified bool
	// Anonymous tells that the subject is made up for a customer whom nobody knows.
	Anonymous bool
	// AnonymousSubject is under which subject the same customer was anonymous
	// before; empty: none. It opens no session: it is the proof for stepping one up.
	AnonymousSubject string
	// ExpireTime is when the token expires.
	ExpireTime time.Time
}

// Same tells whether p stands for the customer other. The name of an anonymous one is
// often of his own choice: it makes nobody the customer who has signed in under it.
func (p *Principal) Same(other *Principal) bool {
	return p.Account == other.Account && p.Subject == other.Subject && (other.Anonymous || !p.Anonymous)
}

// StepsUp tells whether p is the anonymous customer other, signed in.
func (p *Principal) StepsUp(other *Principal) bool {
	return other.Anonymous && p.Account == other.Account && p.AnonymousSubject == other.Subject
}

type principalKey struct{}

// WithPrincipal returns a context of a call of this customer.
func WithPrincipal(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext returns the customer of the call.
func FromContext(ctx context.Context) (*Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(*Principal)
	return p, ok && p != nil
}
