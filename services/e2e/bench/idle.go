package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// pioneers come before memory is read for the first time: what they make the
// gateway load and allocate is not any one client's.
const pioneers = 50

// idleResult is what one idle client of a transport costs, in bytes.
type idleResult struct {
	Transport string
	Aim       float64
	Ours      memory
	Thin      memory
}

// idle weighs a gateway that starts anew, before and after the clients have come.
func idle(ctx context.Context, s *side, t transport, o Options, profiles *profiler) (memory, error) {
	if err := s.freshGateway(ctx); err != nil {
		return memory{}, err
	}
	c := &crowd{}
	defer c.leave()
	if err := c.connect(ctx, s, t, 0, pioneers); err != nil {
		return memory{}, err
	}
	if err := pause(ctx, o.Settle); err != nil {
		return memory{}, err
	}
	before, err := weigh(ctx, s.gateway)
	if err != nil {
		return memory{}, err
	}
	// What the first weighing leaves behind belongs to no client.
	before.RSS = before.Settled
	if err := c.connect(ctx, s, t, pioneers, o.Idle); err != nil {
		return memory{}, err
	}
	if err := pause(ctx, o.Settle); err != nil {
		return memory{}, err
	}
	after, err := weigh(ctx, s.gateway)
	if err != nil {
		return memory{}, err
	}
	if err := profiles.idle(ctx, s, t.name); err != nil {
		return memory{}, err
	}
	return after.minus(before, o.Idle), nil
}

// crowd are idle clients.
type crowd struct {
	readers sync.WaitGroup

	mu   sync.Mutex
	gone []func()
}

func (c *crowd) connect(ctx context.Context, s *side, t transport, first, n int) error {
	var group errgroup.Group
	group.SetLimit(connecting)
	for i := range n {
		group.Go(func() error {
			leave, err := t.connect(ctx, s, sessionID(first+i), &c.readers)
			if err != nil {
				return fmt.Errorf("%s: %s: client %d: %w", s.name, t.name, i, err)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.gone = append(c.gone, leave)
			return nil
		})
	}
	return group.Wait()
}

func (c *crowd) leave() {
	for _, f := range c.gone {
		f()
	}
	c.readers.Wait()
}

// pause lets the machine come to rest.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
