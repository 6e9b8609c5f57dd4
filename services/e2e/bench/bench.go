package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// warmUp is how many events go through a side before anything is measured.
const warmUp = 2000

// Run runs the benchmark and reports. It fails when an event was lost, repeated
// or out of order, whatever the figures are; figures that miss their aim are only
// reported, since a machine that is busy otherwise spoils them.
func Run(ctx context.Context, o Options) (Result, error) {
	if err := o.check(); err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	profiles, err := newProfiler(o.Profiles)
	if err != nil {
		return Result{}, err
	}
	say(o, "building and starting both paths")
	rig, err := newRig(ctx, "./e2e/cmd/bench/thin")
	if rig != nil {
		defer rig.close()
	}
	if err != nil {
		return Result{}, err
	}
	suite, err := rig.startOurs(ctx, o.Env)
	if err != nil {
		return Result{}, err
	}
	yardstick, err := rig.startThin(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := suite.seed(ctx, max(o.Sessions, o.Idle+pioneers)); err != nil {
		return Result{}, fmt.Errorf("write sessions: %w", err)
	}
	res := Result{Options: o}
	if o.Rounds > 0 {
		if err := res.flow(ctx, rig, suite, yardstick, profiles); err != nil {
			return res, err
		}
	}
	for _, name := range o.Transports {
		if o.Idle == 0 {
			break
		}
		t, _ := transportOf(name)
		say(o, fmt.Sprintf("%d idle clients: %s", o.Idle, name))
		r := idleResult{Transport: name, Aim: t.aim}
		if r.Ours, err = idle(ctx, suite, t, o, profiles); err != nil {
			return res, err
		}
		if r.Thin, err = idle(ctx, yardstick, t, o, profiles); err != nil {
			return res, err
		}
		res.Idle = append(res.Idle, r)
	}
	if o.JSON != "" {
		data, err := json.MarshalIndent(res, "", "  ")
		if err != nil {
			return res, err
		}
		if err := os.WriteFile(o.JSON, append(data, '\n'), 0o600); err != nil {
			return res, err
		}
	}
	return res, res.Report(o.Out)
}

// flow measures both sides in turns while events flow.
func (res *Result) flow(ctx context.Context, rig *rig, suite, yardstick *side, profiles *profiler) error {
	o := res.Options
	calls := newCallbacks(rig.keys, o.Sessions)
	var loads []*load
	for _, s := range []*side{suite, yardstick} {
		f, err := newFleet(ctx, s, o, calls)
		if err != nil {
			return err
		}
		l := &load{side: s, fleet: f, calls: calls}
		defer l.close()
		loads = append(loads, l)
		if _, err := l.drive(ctx, max(1, min(warmUp, o.Saturate)), 0, o.InFlight); err != nil {
			return err
		}
	}
	res.Rate = o.Rate
	if res.Rate == 0 {
		if err := res.saturate(ctx, loads); err != nil {
			return err
		}
	}
	n := max(1, int(res.Rate*o.Round.Seconds()))
	say(o, fmt.Sprintf("%d rounds of each side, %d events each at %.0f a second", o.Rounds, n, res.Rate))
	for range o.Rounds {
		for i, l := range loads {
			figures, err := l.measure(ctx, loads[1-i].side, n, res.Rate)
			if err != nil {
				return err
			}
			if l.side == suite {
				res.Ours = append(res.Ours, figures)
			} else {
				res.Thin = append(res.Thin, figures)
			}
		}
	}
	for _, l := range loads {
		err := profiles.load(ctx, l.side, o.Round, func(ctx context.Context) error {
			_, err := l.drive(ctx, n, res.Rate, posters)
			return err
		})
		if err != nil {
			return err
		}
		if err := l.verdict(); err != nil {
			return err
		}
	}
	return nil
}

// saturate finds out what each side can do, twice in turns; the better one counts.
func (res *Result) saturate(ctx context.Context, loads []*load) error {
	o := res.Options
	say(o, fmt.Sprintf("saturation: %d events of each side, %d callbacks at a time, twice", o.Saturate, o.InFlight))
	best := map[string]float64{}
	for range 2 {
		for _, l := range loads {
			r, err := l.drive(ctx, o.Saturate, 0, o.InFlight)
			if err != nil {
				return err
			}
			best[l.side.name] = max(best[l.side.name], float64(o.Saturate)/time.Duration(r.last.Load()).Seconds())
		}
	}
	res.SaturationOurs, res.SaturationThin = best[ours], best[bare]
	res.Rate = min(res.SaturationOurs, res.SaturationThin) / 2
	return nil
}

// measure is one round.
func (l *load) measure(ctx context.Context, other *side, n int, rate float64) (Figures, error) {
	m, err := newMeter(l.side, other)
	if err != nil {
		return Figures{}, err
	}
	r, err := l.drive(ctx, n, rate, posters)
	if err != nil {
		return Figures{}, err
	}
	u, err := m.stop()
	if err != nil {
		return Figures{}, err
	}
	per10k := func(d time.Duration) float64 { return d.Seconds() / float64(n) * 1e4 }
	f := Figures{
		P50: quantile(r.took, 0.5), P99: quantile(r.took, 0.99), LateP99: quantile(r.late, 0.99),
		NATS: per10k(u.parts["nats"]), Ingest: per10k(u.parts["ingest"]), Gateway: per10k(u.parts["gateway"]),
		Others: u.others.Seconds() / u.wall.Seconds(),
	}
	f.All = f.NATS + f.Ingest + f.Gateway
	return f, nil
}

func say(o Options, text string) {
	fmt.Fprintf(o.Out, "%s  %s\n", time.Now().Format("15:04:05"), text)
}
