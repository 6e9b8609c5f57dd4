// Package ident owns how the orchestrator makes ids and fingerprints of
// requests. An id that follows from a request's own id lets a repeat, on
// whatever replica, find what the first time has made. It keeps nothing.
package ident

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
)

// New makes an id that was never used before; ids sort by the time they were
// made.
func New() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	return id.String(), nil
}

// Derived makes the one id that belongs to these parts.
func Derived(kind string, parts ...string) string {
	// The lengths keep ("a", "bc") and ("ab", "c") apart whatever they hold.
	var b strings.Builder
	b.WriteString("axpchat." + kind)
	for _, p := range parts {
		fmt.Fprintf(&b, "|%d:%s", len(p), p)
	}
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(b.String())).String()
}

// ForRequest is Derived where the request has an id, else New.
func ForRequest(kind, requestID string, parts ...string) (string, error) {
	if requestID == "" {
		return New()
	}
	return Derived(kind, append(parts, requestID)...), nil
}

// Hash is the fingerprint of a request: equal for equal content.
func Hash(m proto.Message) ([]byte, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("hash request: %w", err)
	}
	sum := sha256.Sum256(data)
	return sum[:], nil
}
