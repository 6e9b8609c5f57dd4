package chaos

import (
	"context"
	"sync"
)

// gate lets people talk, or holds them back; it knows who is through. It is
// safe for concurrent use.
type gate struct {
	mu     sync.Mutex
	open   chan struct{} // closed while the gate is open
	inside int
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

// enter waits for the gate to be open; false when ctx ends first.
func (g *gate) enter(ctx context.Context) bool {
	for {
		g.mu.Lock()
		open := g.open
		select {
		case <-open:
			g.inside++
			g.mu.Unlock()
			return true
		default:
		}
		g.mu.Unlock()
		select {
		case <-open:
		case <-ctx.Done():
			return false
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
}

// let opens or closes the gate.
func (g *gate) let(in bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		if !in {
			g.open = make(chan struct{})
		}
	default:
		if in {
			close(g.open)
		}
	}
}

// empty tells that nobody is inside.
func (g *gate) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside == 0
}
