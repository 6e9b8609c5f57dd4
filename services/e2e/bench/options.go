package bench

import (
	"errors"
	"flag"
	"io"
	"strings"
	"time"
)

// Options says what is measured.
type Options struct {
	Sessions int           // that are served while events flow
	Conns    int           // gRPC connections that share them
	Rounds   int           // of each side; 0: no events flow, idle clients alone are weighed
	Round    time.Duration // length of a round
	Rate     float64       // events a second; 0: half of what the slower side can do
	Saturate int           // events of the run that finds out
	InFlight int           // callbacks at a time in that run
	Idle     int           // idle clients of each transport; 0: none
	// Settle is how long after the last idle client memory is read at the earliest.
	// The look at the journal that the gateway takes a second after an attach is
	// over then.
	Settle     time.Duration
	Transports []string  // of the idle clients
	Profiles   string    // folder for profiles; empty: none
	JSON       string    // file for the figures; empty: none
	Env        []string  // KEY=VALUE for the suite's services
	Out        io.Writer // gets the report
}

// Defaults are the figures of `make bench`: some three minutes on two cores.
//
// Each session has a connection of its own: that is how customers come. Shared
// ones would let both sides send several frames at once, which hides their own
// work.
func Defaults() Options {
	return Options{
		Sessions: 1000, Conns: 1000, Rounds: 5, Round: 7 * time.Second, Saturate: 10000, InFlight: 64, Idle: 2000,
		Settle: 2500 * time.Millisecond, Transports: transportNames(),
	}
}

// Flags lets a command line change the options.
func (o *Options) Flags(f *flag.FlagSet) {
	f.IntVar(&o.Sessions, "sessions", o.Sessions, "sessions that are served while events flow")
	f.IntVar(&o.Conns, "conns", o.Conns, "gRPC connections that share them")
	f.IntVar(&o.Rounds, "rounds", o.Rounds, "rounds of each side; 0: no events flow, idle clients alone are weighed")
	f.DurationVar(&o.Round, "round", o.Round, "length of a round")
	f.Float64Var(&o.Rate, "rate", o.Rate, "events a second; 0: half of what the slower side can do")
	f.IntVar(&o.Saturate, "saturate", o.Saturate, "events of the run that finds out what a side can do")
	f.IntVar(&o.InFlight, "in-flight", o.InFlight, "callbacks at a time in that run")
	f.IntVar(&o.Idle, "idle", o.Idle, "idle clients of each transport; 0: none")
	f.DurationVar(&o.Settle, "settle", o.Settle, "how long after the last idle client memory is read at the earliest")
	f.Func("transports", "transports of idle clients, with commas between them", func(s string) error {
		o.Transports = strings.Split(s, ",")
		return nil
	})
	f.StringVar(&o.Profiles, "profile", o.Profiles, "folder for profiles of one more round and of idle gateways, whose figures say nothing then")
	f.StringVar(&o.JSON, "json", o.JSON, "file for the figures")
	f.Func("env", "KEY=VALUE for the suite's services; may be repeated", func(s string) error {
		if !strings.Contains(s, "=") {
			return errors.New("must be KEY=VALUE")
		}
		o.Env = append(o.Env, s)
		return nil
	})
}

func (o *Options) check() error {
	if o.Sessions < 1 || o.Conns < 1 || o.Conns > o.Sessions || o.Rounds < 0 || o.Round <= 0 || o.Rate < 0 || o.InFlight < 1 || o.Idle < 0 {
		return errors.New("there must be at least one session, connection and callback at a time, and no more connections than sessions")
	}
	if o.Rounds > 0 && o.Rate == 0 && o.Saturate < 1 {
		return errors.New("without a rate there must be events to find one")
	}
	for _, name := range o.Transports {
		if _, ok := transportOf(name); !ok {
			return errors.New("there is no transport " + name)
		}
	}
	return nil
}
