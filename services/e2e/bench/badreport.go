package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// compare gives the spread of a figure in both kinds of rounds and that of the
// ratio, taken between rounds that followed each other.
func compare(base, beside []BadFigures, of func(BadFigures) float64) (b, f, ratio spread) {
	var x, y, r []float64
	for i := range min(len(base), len(beside)) {
		x, y = append(x, of(base[i])), append(y, of(beside[i]))
		if x[i] > 0 {
			r = append(r, y[i]/x[i])
		}
	}
	return spreadOf(x), spreadOf(y), spreadOf(r)
}

// Report writes the tables.
func (res BadResult) Report(out io.Writer) error {
	o := res.Options
	fmt.Fprintf(out, "\n%.0f callbacks/s to %d sessions and %.0f messages/s of %d customers; %d rounds of %s of each kind, in turns; least / median / most.\n",
		o.Rate, o.Sessions, o.Sends, o.Customers, o.Rounds, o.Round)
	fmt.Fprintf(out, "The flood, the good chat's clients and all services share this machine, and no limit of addresses or connects holds the flood back.\n")
	fmt.Fprintf(out, "Elsewhere: it hits another gateway and webhook-ingest on this machine. What the good chat loses there, it loses to the machine's processors.\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "the good chat\twithout\tflood elsewhere\tflood here\telsewhere : without\there : without\there : elsewhere\t")
	row := func(name string, of func(BadFigures) float64) {
		calm, elsewhere, first := compare(res.Calm, res.Elsewhere, of)
		_, here, whole := compare(res.Calm, res.Beside, of)
		_, _, own := compare(res.Elsewhere, res.Beside, of)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", name, calm, elsewhere, here, first, whole, own)
	}
	row("callback to frame p50, ms", func(f BadFigures) float64 { return f.EventP50 })
	row("callback to frame p99, ms", func(f BadFigures) float64 { return f.EventP99 })
	row("message to answer p50, ms", func(f BadFigures) float64 { return f.SendP50 })
	row("message to answer p99, ms", func(f BadFigures) float64 { return f.SendP99 })
	row("(POSTs late p99, ms)", func(f BadFigures) float64 { return f.LateP99 })
	for _, name := range res.processes() {
		row("cores, "+name, func(f BadFigures) float64 { return f.Cores[name] })
	}
	row("bad inputs a second", func(f BadFigures) float64 { return f.Reached })
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%d bad inputs of %.0f/s that were asked for:\n\n", res.Flood.sent(), o.Flood)
	fmt.Fprintln(w, "bad input\tsent\trefused\tanswers\t")
	for _, name := range slices.Sorted(maps.Keys(res.Flood.Kinds)) {
		k := res.Flood.Kinds[name]
		var answers []string
		for _, a := range slices.Sorted(maps.Keys(k.Answers)) {
			answers = append(answers, fmt.Sprintf("%s: %d", a, k.Answers[a]))
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t\n", name, k.Sent, k.Refused, strings.Join(answers, ", "))
	}
	return w.Flush()
}

// processes are those whose CPU time is known of any round.
func (res BadResult) processes() []string {
	all := map[string]bool{}
	for _, f := range slices.Concat(res.Calm, res.Elsewhere, res.Beside) {
		for name := range f.Cores {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
