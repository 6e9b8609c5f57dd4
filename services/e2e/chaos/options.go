package chaos

import (
	"io"
	"time"
)

// Options says how to run. The zero value of each field but Seed means its
// default.
type Options struct {
	// Seed decides on the schedule of faults.
	Seed uint64
	// Clients is how many customers there are; default 200.
	Clients int
	// Rounds is how often the rows are gone through; default 1.
	Rounds int
	// Mix is how long faults are mixed at random at the end; default 60 s,
	// negative: not at all.
	Mix time.Duration
	// Only runs the rows alone whose names contain one of these, and no mix
	// unless one of them is "mixed".
	Only []string
	// Every is how long a customer, and an agent in a chat, takes for a message
	// on average; default 12 s.
	Every time.Duration
	// Settle is how long everything may take to arrive after a row; default 90 s.
	Settle time.Duration
	// BackFill says that the product fetches callbacks that never came.
	BackFill bool
	// Artifacts is where the processes' logs go; empty: they are dropped.
	Artifacts string
	// Binaries is where the commands stand; empty: they are built.
	Binaries string
	// Out is told how the run goes; may be nil.
	Out io.Writer
}

func (o Options) withDefaults() Options {
	if o.Clients <= 0 {
		o.Clients = 200
	}
	if o.Rounds <= 0 {
		o.Rounds = 1
	}
	if o.Mix == 0 {
		o.Mix = time.Minute
	}
	if o.Every <= 0 {
		o.Every = 12 * time.Second
	}
	if o.Settle <= 0 {
		o.Settle = 90 * time.Second
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	return o
}
