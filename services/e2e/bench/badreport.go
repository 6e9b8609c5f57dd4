package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// compare gives the spreads of both kinds of rounds and that of the ratio, taken
// between rounds that followed each other.
func (res BadResult) compare(of func(BadFigures) float64) (calm, beside, ratio spread) {
	var c, b, r []float64
	for i := range min(len(res.Calm), len(res.Beside)) {
		x, y := of(res.Calm[i]), of(res.Beside[i])
		c, b = append(c, x), append(b, y)
		if x > 0 {
			r = append(r, y/x)
		}
	}
	return spreadOf(c), spreadOf(b), spreadOf(r)
}

// Report writes the tables.
func (res BadResult) Report(out io.Writer) error {
	o := res.Options
	fmt.Fprintf(out, "\n%.0f callbacks/s to %d sessions and %.0f messages/s of %d customers; %d rounds of %s each way, in turns; least / median / most.\n",
		o.Rate, o.Sessions, o.Sends, o.Customers, o.Rounds, o.Round)
	fmt.Fprintf(out, "The flood, the good chat's clients and all services share this machine, and no limit of addresses or connects holds the flood back.\n\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "the good chat\twithout\tbeside the flood\tratio\t")
	row := func(name string, of func(BadFigures) float64) {
		calm, beside, ratio := res.compare(of)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", name, calm, beside, ratio)
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
	for _, f := range slices.Concat(res.Calm, res.Beside) {
		for name := range f.Cores {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
