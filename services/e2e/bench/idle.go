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
	if profiles != nil {
		// Each allocation is in the profile then. It takes memory of its own: figures
		// of profiled gateways say nothing.
		s.gateway.Setenv("GODEBUG", "memprofilerate=1")
	}
	if err := s.freshGateway(ctx); err != nil {
		return memory{}, err
	}
	c := &crowd{}
	defer c.leave()
	if err := c.connect(ctx, s, t, 0, pioneers); err != nil {
		return memory{}, err
	}
	if err := calm(ctx, s.gateway, o.Settle); err != nil {
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
	if err := calm(ctx, s.gateway, o.Settle); err != nil {
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

// leave ends the clients. Nobody connects any more.
func (c *crowd) leave() {
	for _, f := range c.gone {
		f()
	}
	c.readers.Wait()
}

const (
	calmLook = 500 * time.Millisecond
	// calmCPU is what idle clients use in a look: signs of life, some a second.
	calmCPU = 3 * tick
	calmMax = 20 * time.Second
)

// calm waits for at least d, until a process rests: what catches up with the
// journal still, on a busy machine, is not idle.
func calm(ctx context.Context, p *part, d time.Duration) error {
	look := time.NewTicker(min(calmLook, d))
	defer look.Stop()
	began, used := time.Now(), time.Duration(0)
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		cpu, err := cpuOf(p.Pid())
		if err != nil {
			return err
		}
		if since := time.Since(began); since > calmMax || since >= d && cpu-used <= calmCPU {
			return nil
		}
		used = cpu
	}
}
