package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/axpchat/connector/services/internal/suitetest"
)

// run is a run under way.
type run struct {
	o       Options
	stage   *stage
	desk    suitetest.Desk
	clients []*client
	gate    *gate
	began   time.Time

	life  context.Context //nolint:containedctx // of the people
	group sync.WaitGroup

	mu     sync.Mutex
	report *Report
	notes  []string // of the row under way
	wrong  int
	seen   totals // at the end of the row before
	blamed map[string]bool
}

// Run runs the whole of it. An error says that the run itself could not be done,
// never that the product failed: that is what the report is for. Everything it
// has started has ended when it returns.
func Run(ctx context.Context, o Options) (*Report, error) {
	o = o.withDefaults()
	life, end := context.WithCancel(ctx)
	r := &run{
		o: o, gate: newGate(), began: time.Now(), life: life, blamed: map[string]bool{},
		report: &Report{Seed: o.Seed, Clients: o.Clients, Plan: NewPlan(o)},
	}
	r.say("seed %d: %d clients, %d faults planned", o.Seed, o.Clients, len(r.report.Plan.Rows))
	var err error
	r.stage, err = newStage(ctx, o)
	defer r.stage.close()
	defer r.group.Wait()
	defer end()
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	r.desk = suitetest.Desk{URL: r.stage.sandboxURL, Name: "Tomas"}
	r.say("everything runs")
	if err := r.gather(ctx); err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	r.say("%d customers are in their chats", len(r.clients))
	r.talkers()
	err = r.perform(ctx)
	r.report.Took = time.Since(r.began)
	if err != nil {
		r.report.Aborted = err.Error()
		return r.report, err
	}
	return r.report, nil
}

// say tells how the run goes.
func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.o.Out, "%6.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// complain notes what is odd, for the row under way.
func (r *run) complain(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.notes) < 40 {
		r.notes = append(r.notes, fmt.Sprintf(format, args...))
	}
}

// accuse notes what the product does wrong beside the counts.
func (r *run) accuse(format string, args ...any) {
	r.complain(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong++
}

// perform goes through the plan.
func (r *run) perform(ctx context.Context) error {
	if err := r.row(ctx, "no fault", func(ctx context.Context) error { pause(ctx, 3*time.Second); return nil }); err != nil {
		return err
	}
	if err := r.rest(ctx, "before", ""); err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	for _, step := range r.report.Plan.Rows {
		if step.skip != "" {
			r.report.Rows = append(r.report.Rows, Row{Name: step.Name, Skipped: step.skip})
			continue
		}
		if err := r.row(ctx, step.Name, func(ctx context.Context) error { return step.fault.strike(ctx, r, step.dice()) }); err != nil {
			return err
		}
	}
	if len(r.report.Plan.Mix) > 0 {
		if err := r.rest(ctx, "after the rows", "before"); err != nil {
			return fmt.Errorf("measure: %w", err)
		}
		if err := r.row(ctx, mixedRow, func(ctx context.Context) error { return r.mix(ctx, r.report.Plan) }); err != nil {
			return err
		}
	}
	if err := r.lastLook(ctx); err != nil {
		return err
	}
	if err := r.rest(ctx, "at the end", "before"); err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	r.report.Processes = r.processes()
	return nil
}

// row lets everybody talk while a fault strikes, heals, waits for everything to
// arrive, and counts.
func (r *run) row(ctx context.Context, name string, strike func(context.Context) error) error {
	if err := r.spread(ctx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	began := time.Now()
	r.gate.let(true)
	pause(ctx, 700*time.Millisecond)
	err := strike(ctx)
	if err == nil {
		pause(ctx, 500*time.Millisecond)
	}
	r.gate.let(false)
	r.stage.heal()
	if err := errors.Join(err, r.control(ctx, http.MethodDelete, "/control/faults", nil)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	healed := time.Now()
	late := r.settle(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	row := r.count(ctx, name)
	row.Took, row.Settled = time.Since(began), time.Since(healed)
	if late != "" {
		row.Notes = append(row.Notes, "not settled: "+late)
	}
	r.report.Rows = append(r.report.Rows, row)
	r.say("%s", strings.TrimSpace(row.line()))
	return nil
}

// spread brings clients and gateways back to where they began: after a fault
// all of them are at the pods that were left, and the next fault may hit one that
// nobody uses, which proves nothing.
func (r *run) spread(ctx context.Context) error {
	for _, l := range r.stage.toOrch {
		l.home()
	}
	within, cancel := context.WithTimeout(ctx, r.o.Settle)
	defer cancel()
	err := suitetest.Await(within, "clients at their pods", func(context.Context) (bool, error) {
		there := true
		for _, c := range r.clients {
			there = c.home() && there
		}
		return there, nil
	})
	r.seen.Streams, r.seen.Breaks = 0, 0
	for _, c := range r.clients {
		c.mu.Lock()
		r.seen.Streams += c.tally.Streams
		r.seen.Breaks += c.tally.Breaks
		c.mu.Unlock()
	}
	return err
}

// control asks the sandbox for something.
func (r *run) control(ctx context.Context, method, path string, in any) error {
	return suitetest.CallJSON(ctx, method, r.stage.sandboxURL+path, "", in, nil)
}

// processes lists what every process holds.
func (r *run) processes() []Process {
	var out []Process
	for _, s := range r.stage.services() {
		out = append(out, Process{Name: s.Name, Starts: s.Starts(), Before: s.usage["before"], After: s.usage["at the end"]})
	}
	others := []*suitetest.Process{r.stage.sandbox}
	for _, n := range r.stage.cluster.nodes {
		others = append(others, n.Process)
	}
	for _, p := range others {
		out = append(out, Process{Name: p.Name, Starts: p.Starts(), After: use{Goroutines: -1, Memory: resident(p.Pid())}})
	}
	return out
}
