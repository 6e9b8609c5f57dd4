// Package presence owns which sessions have a client at this pod, and tells the
// orchestrator when it asks: a session that a client follows is not deleted,
// although its customer does nothing.
//
// A client that has just left counts for a minute more: a long-polling client is
// between two polls, and any other may be about to come back. What is known is in
// memory; a pod that ends takes it along, and its clients are at another pod then.
package presence

import (
	"sync"
	"time"

	"github.com/axpchat/connector/services/internal/kit/bus"
)

// linger is how long a client that has left still counts.
const linger = time.Minute

// prune is how many sessions without a client are remembered before those whose
// time is over are looked for.
const prune = 1024

// Registry knows the sessions with a client. It is safe for concurrent use. A nil
// Registry knows nobody and notes nothing.
type Registry struct {
	mu    sync.Mutex
	here  map[bus.SessionKey]int
	left  map[bus.SessionKey]time.Time
	limit int // of left, at which it is pruned
}

// New returns a registry without clients.
func New() *Registry {
	return &Registry{here: map[bus.SessionKey]int{}, left: map[bus.SessionKey]time.Time{}, limit: prune}
}

// Enter notes a client of a session; Leave must follow when it has gone.
func (r *Registry) Enter(k bus.SessionKey) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.here[k]++
	delete(r.left, k)
}

// Leave notes that a client that has entered has gone.
func (r *Registry) Leave(k bus.SessionKey) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.here[k]--; r.here[k] > 0 {
		return
	}
	delete(r.here, k)
	now := time.Now()
	r.left[k] = now
	if len(r.left) < r.limit {
		return
	}
	for k, at := range r.left {
		if now.Sub(at) >= linger {
			delete(r.left, k)
		}
	}
	r.limit = max(prune, 2*len(r.left)) // so that pruning costs little for each who leaves
}

// Here tells whether the session has a client at this pod, or had a moment ago.
func (r *Registry) Here(k bus.SessionKey) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.here[k] > 0 {
		return true
	}
	at, ok := r.left[k]
	return ok && time.Since(at) < linger
}
