package bench

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Aims of the requirement.
const (
	aimCPU = 1.3 // times the thin path's, of all processes
	aimP99 = 2.0
)

// Result is what a run found out.
type Result struct {
	Options                        Options `json:"-"`
	SaturationOurs, SaturationThin float64 // events a second; 0: not measured
	Rate                           float64 // of the rounds
	Ours, Thin                     []Figures
	Idle                           []idleResult
}

// Figures are those of a round.
type Figures struct {
	P50, P99                   float64 // milliseconds
	NATS, Ingest, Gateway, All float64 // CPU seconds per 10,000 events
	LateP99                    float64 // milliseconds that POSTs began after their moment
	Others                     float64 // cores that foreign processes took
}

// spread is least, median and greatest of a figure.
type spread struct{ least, median, most float64 }

func spreadOf(all []float64) spread {
	if len(all) == 0 {
		return spread{}
	}
	s := slices.Sorted(slices.Values(all))
	return spread{s[0], (s[(len(s)-1)/2] + s[len(s)/2]) / 2, s[len(s)-1]}
}

func (s spread) String() string { return fmt.Sprintf("%.2f / %.2f / %.2f", s.least, s.median, s.most) }

// compare gives the spreads of both sides and that of the ratio, taken between
// rounds that followed each other: what slows the machine for a while slows both.
func (res Result) compare(of func(Figures) float64) (mine, thin, ratio spread) {
	var m, t, r []float64
	for i := range min(len(res.Ours), len(res.Thin)) {
		a, b := of(res.Ours[i]), of(res.Thin[i])
		m, t = append(m, a), append(t, b)
		if b > 0 {
			r = append(r, a/b)
		}
	}
	return spreadOf(m), spreadOf(t), spreadOf(r)
}

// Report writes the tables.
func (res Result) Report(out io.Writer) error {
	fmt.Fprintln(out)
	if res.Options.Rounds > 0 {
		if err := res.reportFlow(out); err != nil {
			return err
		}
	}
	if len(res.Idle) == 0 {
		return nil
	}
	return res.reportIdle(out)
}

func (res Result) reportFlow(out io.Writer) error {
	o := res.Options
	if res.SaturationOurs > 0 {
		fmt.Fprintf(out, "Saturation of the whole rig, load and clients included: ours %.0f, thin %.0f events/s (ratio %.2f).\n",
			res.SaturationOurs, res.SaturationThin, res.SaturationOurs/res.SaturationThin)
	}
	fmt.Fprintf(out, "%d sessions on %d connections, %.0f events/s, %d rounds of %s of each side in turns; least / median / most.\n\n",
		o.Sessions, o.Conns, res.Rate, o.Rounds, o.Round)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "webhook in, gRPC frame out\tours\tthin\tratio\taim\t")
	row := func(name string, aim float64, of func(Figures) float64) {
		mine, thin, ratio := res.compare(of)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", name, mine, thin, ratio, verdict(ratio.median, aim))
	}
	row("CPU s per 10k events, nats", 0, func(f Figures) float64 { return f.NATS })
	row("CPU s per 10k events, ingest", 0, func(f Figures) float64 { return f.Ingest })
	row("CPU s per 10k events, gateway", 0, func(f Figures) float64 { return f.Gateway })
	row("CPU s per 10k events, all", aimCPU, func(f Figures) float64 { return f.All })
	row("POST to frame p50, ms", 0, func(f Figures) float64 { return f.P50 })
	row("POST to frame p99, ms", aimP99, func(f Figures) float64 { return f.P99 })
	for _, noise := range []struct {
		name string
		of   func(Figures) float64
	}{
		{"(POSTs late p99, ms)", func(f Figures) float64 { return f.LateP99 }},
		{"(other work on the machine, cores)", func(f Figures) float64 { return f.Others }},
	} {
		mine, thin, _ := res.compare(noise.of)
		fmt.Fprintf(w, "%s\t%s\t%s\t\t\t\n", noise.name, mine, thin)
	}
	return w.Flush()
}

func (res Result) reportIdle(out io.Writer) error {
	fmt.Fprintf(out, "\n%d idle clients, each with a connection of its own and without TLS; KiB of the gateway a client:\n", res.Options.Idle)
	fmt.Fprintf(out, "RSS as it grew (after a collection; heap in use and stacks then). GOGC=100: garbage that a gateway may have however many clients it has is none of theirs.\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "transport\tours\tthin\tratio\taim\t")
	show := func(m memory) string {
		return fmt.Sprintf("%.1f (%.1f; %.1f + %.1f)", m.RSS/1024, m.Settled/1024, m.Heap/1024, m.Stacks/1024)
	}
	for _, r := range res.Idle {
		aim := ""
		if r.Aim > 0 {
			aim = verdict(r.Ours.RSS/1024, r.Aim/1024)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f (%.2f; %.2f)\t%s\t\n", r.Transport, show(r.Ours), show(r.Thin),
			r.Ours.RSS/r.Thin.RSS, r.Ours.Settled/r.Thin.Settled, (r.Ours.Heap+r.Ours.Stacks)/(r.Thin.Heap+r.Thin.Stacks), aim)
	}
	return w.Flush()
}

func verdict(got, aim float64) string {
	switch {
	case aim == 0:
		return ""
	case got <= aim:
		return fmt.Sprintf("<= %.3g: met", aim)
	default:
		return fmt.Sprintf("<= %.3g: missed", aim)
	}
}
