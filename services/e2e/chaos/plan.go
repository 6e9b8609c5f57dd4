package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// mixedRow is the row in which faults come at random.
const mixedRow = "mixed at random"

// Plan is the schedule of faults. It follows from the seed and the options
// alone.
type Plan struct {
	Rows []Step
	Mix  []Step
}

// Step is one fault of the plan.
type Step struct {
	Name string
	At   time.Duration // since the beginning of the mix
	Dice uint64        // decides on all that the fault leaves open

	fault fault
	skip  string // why it is not run
}

// dice are the step's own, so that no step depends on another one's luck.
func (s Step) dice() *rand.Rand {
	return rand.New(rand.NewPCG(s.Dice, s.Dice>>32)) //nolint:gosec // to be repeatable
}

// NewPlan draws the schedule of a run with these options.
func NewPlan(o Options) Plan {
	o = o.withDefaults()
	rng := rand.New(rand.NewPCG(o.Seed, 0x63_68_61_6f_73)) //nolint:gosec // to be repeatable
	var p Plan
	all := faults()
	for range o.Rounds {
		for _, f := range all {
			step := Step{Name: f.name, Dice: rng.Uint64(), fault: f}
			if f.needsBackFill && !o.BackFill {
				step.skip = "the connector does not fetch what AXP never called back about"
			}
			if o.wants(f.name) {
				p.Rows = append(p.Rows, step)
			}
		}
	}
	if o.Mix <= 0 || !o.wants(mixedRow) {
		return p
	}
	for at := time.Duration(0); at < o.Mix; at += time.Second + time.Duration(rng.Int64N(int64(3*time.Second))) {
		f := all[rng.IntN(len(all))]
		if f.rowOnly || f.needsBackFill && !o.BackFill {
			continue
		}
		p.Mix = append(p.Mix, Step{Name: f.name, At: at, Dice: rng.Uint64(), fault: f})
	}
	return p
}

func (o Options) wants(name string) bool {
	for _, part := range o.Only {
		if strings.Contains(name, part) {
			return true
		}
	}
	return len(o.Only) == 0
}

// String lists the steps.
func (p Plan) String() string {
	var b strings.Builder
	for _, s := range p.Rows {
		fmt.Fprintf(&b, "row   %016x  %s\n", s.Dice, s.Name)
	}
	for _, s := range p.Mix {
		fmt.Fprintf(&b, "%5.1fs %016x  %s\n", s.At.Seconds(), s.Dice, s.Name)
	}
	return b.String()
}
