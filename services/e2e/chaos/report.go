package chaos

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Events counts what came from AXP.
type Events struct {
	Accepted   int // callbacks that AXP got 200 for
	Delivered  int // events shown to clients, also the connector's own
	Lost       int
	Repeated   int // shown twice in spite of the cursor check
	OutOfOrder int
	BackFilled int
	Dropped    int // by the cursor check, as the API says
	IndexOrder int // shown in another order than AXP numbered them, as they were called back
	Resets     int
	Twice      int // callbacks that came again although AXP had got 200
	Refused    int // callbacks that got no 200
	Pause      time.Duration
}

// Messages counts what customers wrote.
type Messages struct {
	Accepted       int
	InAXP          int
	Lost           int
	Twice          int
	OutOfOrder     int
	Told           int // SENT or DELIVERED
	Failed         int // told so
	FailedButThere int // told so, and yet in AXP
	Untold         int
	Wait           time.Duration // longest until accepted
}

// Row is what happened during one fault.
type Row struct {
	Name     string
	Skipped  string // why it was not run
	Events   Events
	Messages Messages
	Streams  int // that clients opened
	Moves    int // clients asked to go elsewhere
	Slow     int // clients dropped for reading too slowly
	Wrong    int // answers that were wrong by the API's own rules, and unclean ends
	Took     time.Duration
	Settled  time.Duration // from healed until everything had arrived
	Notes    []string
}

// OK tells whether the row keeps what is promised.
func (r Row) OK() bool {
	e, m := r.Events, r.Messages
	return e.Lost+e.Repeated+e.OutOfOrder+e.Resets+m.Lost+m.Twice+m.OutOfOrder+m.FailedButThere+m.Untold+r.Wrong == 0
}

// Process is what a process held.
type Process struct {
	Name          string
	Starts        int
	Before, After use
}

// Report is the outcome of a run.
type Report struct {
	Seed      uint64
	Clients   int
	Plan      Plan
	Rows      []Row
	Processes []Process
	Leaks     []string
	Took      time.Duration
	Aborted   string // why the run did not come to its end

	Journal      int      // events in all journals
	JournalTwice int      // event ids that are in one twice
	Unseen       []string // events of a journal that its client never saw
}

// OK tells whether everything keeps what is promised. What was skipped does not
// count, and the table says so.
func (r *Report) OK() bool {
	ran := 0
	for _, row := range r.Rows {
		if row.Skipped != "" {
			continue
		}
		ran++
		if !row.OK() {
			return false
		}
	}
	return r.Aborted == "" && len(r.Leaks)+len(r.Unseen)+r.JournalTwice == 0 && ran > 0
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

func (r Row) verdict() string {
	switch {
	case r.Skipped != "":
		return "NOT RUN"
	case r.OK():
		return "ok"
	}
	return "FAILED"
}

// line is the row in short.
func (r Row) line() string {
	return fmt.Sprintf("%-32s %-7s accepted %d lost %d repeated %d disorder %d | sent %d lost %d twice %d disorder %d failed %d | settled in %s", r.Name, r.verdict(),
		r.Events.Accepted, r.Events.Lost, r.Events.Repeated, r.Events.OutOfOrder,
		r.Messages.Accepted, r.Messages.Lost, r.Messages.Twice, r.Messages.OutOfOrder, r.Messages.Failed, seconds(r.Settled))
}

// String is the tables and all notes.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nseed %d, %d clients over five transports, %s\n", r.Seed, r.Clients, seconds(r.Took))
	r.fromAXP(&b)
	r.toAXP(&b)
	r.held(&b)
	fmt.Fprintf(&b, "\nJournals read again from the beginning: %d events, %d twice, %d that a client never saw.\n", r.Journal, r.JournalTwice, len(r.Unseen))
	for _, what := range append(append([]string{}, r.Leaks...), r.Unseen...) {
		fmt.Fprintf(&b, "  %s\n", what)
	}
	for _, row := range r.Rows {
		if row.Skipped != "" {
			fmt.Fprintf(&b, "\n%s was not run: %s.\n", row.Name, row.Skipped)
		}
		for i, note := range row.Notes {
			if i == 0 {
				fmt.Fprintf(&b, "\n%s:\n", row.Name)
			}
			fmt.Fprintf(&b, "  %s\n", note)
		}
	}
	if r.Aborted != "" {
		fmt.Fprintf(&b, "\nThe run did not come to its end: %s\n", r.Aborted)
	}
	verdict := "OK: nothing lost, nothing repeated, nothing out of order, no leak."
	if !r.OK() {
		verdict = "FAILED"
	}
	fmt.Fprintf(&b, "\n%s Seed %d.\n", verdict, r.Seed)
	return b.String()
}

func (r *Report) table(b *strings.Builder, title string, columns []string, cells func(Row) []any) {
	fmt.Fprintf(b, "\n%s\n\n", title)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, strings.Join(columns, "\t")+"\t")
	for _, row := range r.Rows {
		values := make([]string, len(columns)-2)
		for i := range values {
			values[i] = "-"
		}
		if row.Skipped == "" {
			for i, c := range cells(row) {
				values[i] = fmt.Sprint(c)
			}
		}
		fmt.Fprintln(w, row.Name+"\t"+strings.Join(values, "\t")+"\t"+row.verdict()+"\t")
	}
	_ = w.Flush() // into memory
}

func (r *Report) fromAXP(b *strings.Builder) {
	r.table(b, "From AXP to the clients: callbacks that AXP got 200 for, and what became of them",
		[]string{"fault", "accepted", "delivered", "lost", "repeated", "out of order", "back-filled", "longest pause", "resets", "dropped by cursor", "not by index", "refused", "called back twice", "streams", "moved", "too slow", "settled", ""},
		func(row Row) []any {
			e := row.Events
			return []any{
				e.Accepted, e.Delivered, e.Lost, e.Repeated, e.OutOfOrder, e.BackFilled, seconds(e.Pause), e.Resets,
				e.Dropped, e.IndexOrder, e.Refused, e.Twice, row.Streams, row.Moves, row.Slow, seconds(row.Settled),
			}
		})
}

func (r *Report) toAXP(b *strings.Builder) {
	r.table(b, "From the customers to AXP: messages that the connector accepted, and what became of them",
		[]string{"fault", "accepted", "in AXP", "lost", "twice", "out of order", "told sent or delivered", "told failed", "failed but there", "never told", "longest wait", "wrong answers", ""},
		func(row Row) []any {
			m := row.Messages
			return []any{m.Accepted, m.InAXP, m.Lost, m.Twice, m.OutOfOrder, m.Told, m.Failed, m.FailedButThere, m.Untold, seconds(m.Wait), row.Wrong}
		})
}

// held shows what processes hold at rest.
func (r *Report) held(b *strings.Builder) {
	if len(r.Processes) == 0 {
		return
	}
	fmt.Fprintf(b, "\nAt rest, without clients: before the faults and at the end\n\n")
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "process\tstarts\tgoroutines before\tat the end\tMiB before\tat the end\t")
	number := func(n int) string {
		if n <= 0 {
			return "-"
		}
		return strconv.Itoa(n)
	}
	for _, p := range r.Processes {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t\n", p.Name, p.Starts, number(p.Before.Goroutines), number(p.After.Goroutines),
			number(int(p.Before.Memory>>20)), number(int(p.After.Memory>>20)))
	}
	_ = w.Flush() // into memory
}
