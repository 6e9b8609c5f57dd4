package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// fault is something that goes wrong. It strikes, lasts for some seconds, and
// has healed when strike returns; several may strike at the same time.
type fault struct {
	name          string
	needsBackFill bool
	rowOnly       bool // too coarse for the mix
	strike        func(ctx context.Context, r *run, dice *rand.Rand) error
}

type (
	pick  = func(*stage) []*service
	wires = func(*stage) []*Link
)

func gateways(s *stage) []*service      { return s.gateways }
func orchestrators(s *stage) []*service { return s.orchestrators }
func ingests(s *stage) []*service       { return s.ingest }

// faults are all there are, in the order of the report.
func faults() []fault {
	all := []fault{
		{name: "kill -9 gateway", strike: killing(gateways)},
		{name: "kill -9 orchestrator", strike: killing(orchestrators)},
		{name: "kill -9 ingest", strike: killing(ingests)},
		{name: "kill -9 NATS leader", strike: killLeader},
		{name: "kill -9 all pods at once", strike: killAll, rowOnly: true},
		{name: "SIGTERM gateway", strike: draining(gateways)},
		{name: "SIGTERM orchestrator", strike: draining(orchestrators)},
		{name: "SIGTERM ingest", strike: draining(ingests)},
		{name: "SIGTERM NATS leader", strike: stopLeader},
		{name: "freeze gateway", strike: freezing(gateways)},
		{name: "freeze orchestrator", strike: freezing(orchestrators)},
		{name: "freeze ingest", strike: freezing(ingests)},
		{name: "freeze NATS leader", strike: freezeLeader},
		{name: "cut NATS leader from NATS", strike: partLeader},
	}
	for _, c := range []struct {
		name  string
		wires wires
	}{
		{"gateway - NATS", toNATS(gateways)},
		{"orchestrator - NATS", toNATS(orchestrators)},
		{"ingest - NATS", toNATS(ingests)},
		{"gateway - orchestrator", func(s *stage) []*Link { return s.toOrch }},
		{"AXP - ingest", func(s *stage) []*Link { return append([]*Link{s.toHooks}, s.toIngest...) }},
		{"orchestrator - AXP", func(s *stage) []*Link { return s.toAXP }},
		{"clients - gateway", func(s *stage) []*Link { return append(append([]*Link{}, s.toGateGRPC...), s.toGateHTTP...) }},
	} {
		all = append(all, fault{name: "cut " + c.name, strike: cutting(c.wires)}, fault{name: "delay " + c.name, strike: delaying(c.wires)})
	}
	return append(all,
		fault{name: "delay everywhere", strike: delaying((*stage).links)},
		fault{name: "clients vanish and come back", strike: vanishing},
		fault{name: "slow readers", strike: slowReading},
		fault{name: "callbacks duplicated", strike: callbacks("duplicate")},
		fault{name: "callbacks delayed", strike: callbacks("delay")},
		fault{name: "callbacks reordered", strike: callbacks("reorder")},
		fault{name: "callbacks swallowed", strike: callbacks("swallow"), needsBackFill: true},
		fault{name: "AXP answers late", strike: axpLate},
		fault{name: "AXP answers with errors", strike: axpErrors},
		fault{name: "AXP is away", strike: axpAway},
	)
}

// between draws a duration.
func between(dice *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(dice.Int64N(int64(to-from)))
}

// killing kills one pod, starts it again, and in a row of its own does the same
// to the other.
func killing(of pick) func(context.Context, *run, *rand.Rand) error {
	return func(ctx context.Context, r *run, dice *rand.Rand) error {
		s := of(r.stage)[dice.IntN(pods)]
		s.life.Lock()
		defer s.life.Unlock()
		s.Kill()
		pause(ctx, between(dice, time.Second, 3*time.Second))
		return r.again(ctx, s)
	}
}

// starts is how often a pod is started that ends before it is ready, as a
// supervisor does; other faults may strike at that very moment.
const starts = 10

// again starts a pod that has ended.
func (r *run) again(ctx context.Context, s *service) error {
	var err error
	for range starts {
		if err = s.Start(); err != nil {
			return err
		}
		if err = s.WaitReady(ctx, s.ready()); err == nil {
			return nil
		}
		r.complain("started again: %v", err)
		s.Kill()
		pause(ctx, time.Second)
	}
	return err
}

func killAll(ctx context.Context, r *run, dice *rand.Rand) error {
	all := r.stage.services()
	dice.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, s := range all {
		s.life.Lock()
		defer s.life.Unlock()
		s.Kill()
	}
	pause(ctx, between(dice, time.Second, 2*time.Second))
	var group errgroup.Group
	for _, s := range all {
		group.Go(func() error { return r.again(ctx, s) })
	}
	return group.Wait()
}

// leaveLimit is how long a pod may take to leave: its grace, and some more.
const leaveLimit = 25 * time.Second

// draining asks one pod to leave, as an upgrade does, and starts it again.
func draining(of pick) func(context.Context, *run, *rand.Rand) error {
	return func(ctx context.Context, r *run, dice *rand.Rand) error {
		s := of(r.stage)[dice.IntN(pods)]
		s.life.Lock()
		defer s.life.Unlock()
		within, cancel := context.WithTimeout(ctx, leaveLimit)
		defer cancel()
		if err := s.Terminate(within); err != nil {
			r.accuse("no clean end: %v", err)
			s.Kill()
		}
		return r.again(ctx, s)
	}
}

// freezing stops one pod for longer than others wait for it.
func freezing(of pick) func(context.Context, *run, *rand.Rand) error {
	return func(ctx context.Context, r *run, dice *rand.Rand) error {
		s := of(r.stage)[dice.IntN(pods)]
		s.life.Lock()
		defer s.life.Unlock()
		if err := s.Freeze(); err != nil {
			return err
		}
		pause(ctx, between(dice, 4*time.Second, 7*time.Second))
		return s.Thaw()
	}
}

// onLeader does something to the node that leads the journal, or the outbox,
// and waits until the cluster is whole again.
func onLeader(ctx context.Context, r *run, dice *rand.Rand, do func(i int, n *node) error) error {
	c := r.stage.cluster
	c.life.Lock()
	defer c.life.Unlock()
	stream := []string{"EVENTS", "EVENTS", "OUTBOX"}[dice.IntN(3)]
	i, err := c.leader(ctx, stream)
	if err != nil {
		return err
	}
	if err := do(i, c.nodes[i]); err != nil {
		return err
	}
	return c.whole(ctx)
}

func killLeader(ctx context.Context, r *run, dice *rand.Rand) error {
	return onLeader(ctx, r, dice, func(_ int, n *node) error {
		n.Kill()
		// Longer than an election takes, so that somebody else must lead.
		pause(ctx, between(dice, 6*time.Second, 9*time.Second))
		return n.Start()
	})
}

func stopLeader(ctx context.Context, r *run, dice *rand.Rand) error {
	return onLeader(ctx, r, dice, func(_ int, n *node) error {
		within, cancel := context.WithTimeout(ctx, leaveLimit)
		defer cancel()
		_ = n.Terminate(within) // its exit code is NATS's own business
		pause(ctx, between(dice, time.Second, 3*time.Second))
		return n.Start()
	})
}

func freezeLeader(ctx context.Context, r *run, dice *rand.Rand) error {
	return onLeader(ctx, r, dice, func(_ int, n *node) error {
		if err := n.Freeze(); err != nil {
			return err
		}
		pause(ctx, between(dice, 6*time.Second, 9*time.Second))
		return n.Thaw()
	})
}

func partLeader(ctx context.Context, r *run, dice *rand.Rand) error {
	return onLeader(ctx, r, dice, func(i int, _ *node) error {
		r.stage.cluster.part(i)
		pause(ctx, between(dice, 6*time.Second, 9*time.Second))
		r.stage.cluster.rejoin()
		return nil
	})
}

func toNATS(of pick) wires {
	return func(s *stage) []*Link {
		var all []*Link
		for _, p := range of(s) {
			all = append(all, p.nats...)
		}
		return all
	}
}

// cutting first lets nothing pass, as a network that loses everything, then
// breaks connections, as one that says so.
func cutting(w wires) func(context.Context, *run, *rand.Rand) error {
	return func(ctx context.Context, r *run, dice *rand.Rand) error {
		links := w(r.stage)
		for _, m := range []struct {
			mode mode
			for_ time.Duration
		}{{stalled, between(dice, 2*time.Second, 5*time.Second)}, {cut, between(dice, time.Second, 2*time.Second)}, {passing, 0}} {
			for _, l := range links {
				l.set(m.mode, 0)
			}
			pause(ctx, m.for_)
		}
		return nil
	}
}

func delaying(w wires) func(context.Context, *run, *rand.Rand) error {
	return func(ctx context.Context, r *run, dice *rand.Rand) error {
		links := w(r.stage)
		for _, l := range links {
			l.set(passing, between(dice, 20*time.Millisecond, 400*time.Millisecond))
		}
		pause(ctx, between(dice, 3*time.Second, 5*time.Second))
		for _, l := range links {
			l.heal()
		}
		return nil
	}
}

// vanishing takes a third of the clients away, and again another third.
func vanishing(ctx context.Context, r *run, dice *rand.Rand) error {
	var group sync.WaitGroup
	for _, i := range dice.Perm(len(r.clients))[:2*len(r.clients)/3] {
		c, away := r.clients[i], between(dice, 100*time.Millisecond, 4*time.Second)
		later := time.Duration(0)
		if dice.IntN(2) == 0 {
			later = between(dice, time.Second, 3*time.Second)
		}
		step := transport(1 + dice.IntN(int(transports)-1))
		if !c.busy.TryLock() {
			continue
		}
		group.Go(func() {
			defer c.busy.Unlock()
			pause(ctx, later)
			c.vanish(ctx, away, step)
		})
	}
	group.Wait()
	return nil
}

const (
	slowOnes   = 10
	bigText    = 4000
	bigTexts   = 150 // to each slow reader: more than what the system and the gateway keep
	slowFor    = 6 * time.Second
	fasterThan = 4 // who says them at the same time
)

// slowReading lets some clients read nothing while agents tell them a lot.
func slowReading(ctx context.Context, r *run, dice *rand.Rand) error {
	text := make([]byte, bigText)
	for i := range text {
		text[i] = byte('a' + dice.IntN(26))
	}
	end := time.Now().Add(slowFor)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(fasterThan)
	var slow []*client
	for _, i := range dice.Perm(len(r.clients)) {
		if c := r.clients[i]; len(slow) < min(slowOnes, 1+len(r.clients)/5) && c.busy.TryLock() {
			slow = append(slow, c)
			c.read(false)
		}
	}
	defer func() {
		for _, c := range slow {
			c.read(true)
			c.busy.Unlock()
		}
	}()
	for n := range bigTexts {
		for _, c := range slow {
			group.Go(func() error { return r.desk.Say(groupCtx, c.dialog, fmt.Sprintf("%d %s", n, text)) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	pause(ctx, time.Until(end))
	return nil
}

type injected map[string]any

// inject asks the sandbox for faults that last for some seconds.
func (r *run) inject(ctx context.Context, path string, last time.Duration, all ...injected) error {
	for _, f := range all {
		f["durationMs"] = last.Milliseconds()
		if err := r.control(ctx, http.MethodPost, path, f); err != nil {
			return err
		}
	}
	pause(ctx, last)
	return nil
}

func callbacks(kind string) func(context.Context, *run, *rand.Rand) error {
	return func(ctx context.Context, r *run, dice *rand.Rand) error {
		f := injected{"kind": kind, "probability": 0.3 + 0.5*dice.Float64()}
		switch kind {
		case "delay":
			f["delayMs"] = 500 + dice.IntN(2500)
		case "swallow":
			f["probability"] = 0.2 // AXP loses some, not most
		}
		return r.inject(ctx, "/control/webhook-faults", between(dice, 4*time.Second, 6*time.Second), f)
	}
}

func axpLate(ctx context.Context, r *run, dice *rand.Rand) error {
	return r.inject(ctx, "/control/faults", between(dice, 4*time.Second, 6*time.Second),
		injected{"operation": "*", "kind": "latency", "delayMs": 6000, "afterEffect": true, "probability": 0.1}, // longer than the call may take
		injected{"operation": "*", "kind": "latency", "delayMs": 500 + dice.IntN(1500), "probability": 0.7})
}

func axpErrors(ctx context.Context, r *run, dice *rand.Rand) error {
	return r.inject(ctx, "/control/faults", between(dice, 4*time.Second, 6*time.Second),
		injected{"operation": "*", "kind": "status", "status": 500, "probability": 0.12},
		injected{"operation": "*", "kind": "status", "status": 503, "retryAfterSeconds": 1, "probability": 0.12},
		injected{"operation": "*", "kind": "status", "status": 429, "retryAfterSeconds": 1, "probability": 0.12},
		injected{"operation": "*", "kind": "status", "status": 500, "afterEffect": true, "probability": 0.12},
		injected{"operation": "*", "kind": "answerLost", "probability": 0.12},
		injected{"operation": "*", "kind": "resetBefore", "probability": 0.12},
		injected{"operation": "*", "kind": "resetAfter", "probability": 0.12},
		injected{"operation": "*", "kind": "revokeToken", "probability": 0.05})
}

func axpAway(ctx context.Context, r *run, dice *rand.Rand) error {
	return r.inject(ctx, "/control/outage", between(dice, 3*time.Second, 6*time.Second), injected{"status": []int{0, 503}[dice.IntN(2)]})
}

// mix lets the faults of the plan strike at their times.
func (r *run) mix(ctx context.Context, p Plan) error {
	began := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	for _, step := range p.Mix {
		group.Go(func() error {
			pause(groupCtx, time.Until(began.Add(step.At)))
			if err := groupCtx.Err(); err != nil {
				return err
			}
			r.say("  %s", step.Name)
			if err := step.fault.strike(groupCtx, r, step.dice()); err != nil {
				return fmt.Errorf("%s: %w", step.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}
