package bench

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/axpchat/connector/services/internal/suitetest"
)

// BadOptions says how a good chat is measured beside a flood of bad input.
type BadOptions struct {
	Sessions  int           // that hear of callbacks
	Customers int           // who write, each in a chat of their own
	Rounds    int           // of each kind: without the flood, with it elsewhere, with it here
	Round     time.Duration // length of a round
	Rate      float64       // callbacks a second
	Sends     float64       // messages of customers a second
	Flood     float64       // bad inputs a second
	Senders   int           // of bad input at a time
	JSON      string        // file for the figures; empty: none
	Profiles  string        // folder for profiles of one more round beside the flood; empty: none
	Out       io.Writer     // gets the report
}

// BadDefaults are the figures of `make badinput`: some three minutes.
func BadDefaults() BadOptions {
	return BadOptions{
		Sessions: 100, Customers: 20, Rounds: 5, Round: 8 * time.Second, Rate: 100, Sends: 20, Flood: 3000, Senders: 64,
	}
}

// Flags lets a command line change the options.
func (o *BadOptions) Flags(f *flag.FlagSet) {
	f.IntVar(&o.Sessions, "sessions", o.Sessions, "sessions that hear of callbacks")
	f.IntVar(&o.Customers, "customers", o.Customers, "customers who write, each in a chat of their own")
	f.IntVar(&o.Rounds, "rounds", o.Rounds, "rounds without the flood, as many with it elsewhere, and as many with it here")
	f.DurationVar(&o.Round, "round", o.Round, "length of a round")
	f.Float64Var(&o.Rate, "rate", o.Rate, "callbacks a second")
	f.Float64Var(&o.Sends, "sends", o.Sends, "messages of customers a second")
	f.Float64Var(&o.Flood, "flood", o.Flood, "bad inputs a second")
	f.IntVar(&o.Senders, "senders", o.Senders, "senders of bad input at a time")
	f.StringVar(&o.JSON, "json", o.JSON, "file for the figures")
	f.StringVar(&o.Profiles, "profile", o.Profiles, "folder for profiles of one more round beside the flood")
}

func (o *BadOptions) check() error {
	if o.Sessions < 1 || o.Customers < 1 || o.Rounds < 1 || o.Round <= 0 || o.Rate <= 0 || o.Sends <= 0 || o.Flood <= 0 || o.Senders < 1 {
		return errors.New("everything must be at least one, and all rates more than none")
	}
	return nil
}

// BadFigures are those of a round of the good chat.
type BadFigures struct {
	EventP50, EventP99 float64            // milliseconds from a callback's POST to its frame
	SendP50, SendP99   float64            // milliseconds from a customer's message to its answer
	LateP99            float64            // milliseconds that POSTs began after their moment
	Cores              map[string]float64 // that a process used
	Reached            float64            // bad inputs a second
}

// BadResult is what a run found out.
type BadResult struct {
	Options BadOptions `json:"-"`
	// Calm are rounds without the flood, Beside those with it. In those of Elsewhere
	// it hits another gateway and webhook-ingest on the same machine, which the good
	// chat does not use: what it loses there, it loses to the machine's processors,
	// and what is more in Beside, to the suite.
	Calm, Elsewhere, Beside []BadFigures
	Flood                   floodResult
}

// proving is what runs while a good chat is measured.
type proving struct {
	o         BadOptions
	rig       *rig
	side      *side
	twin      *side   // the same services once more, which only the flood uses
	parts     []*part // whose CPU time is told
	load      *load
	customers *customers
	desk      suitetest.Desk
}

// RunBadInput measures a good chat without and with a flood of bad input, in
// turns. It fails where bad input was not refused, or a good message was lost.
func RunBadInput(ctx context.Context, o BadOptions) (BadResult, error) {
	res := BadResult{Options: o}
	if err := o.check(); err != nil {
		return res, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &proving{o: o}
	defer func() { p.close() }()
	o.say("building and starting the suite")
	if err := p.start(ctx); err != nil {
		return res, err
	}
	// What is slow only once is nobody's fault.
	for _, at := range []*side{p.twin, p.side} {
		if _, err := p.round(ctx, at, min(o.Round, 2*time.Second)); err != nil {
			return res, err
		}
	}
	o.say(fmt.Sprintf("%d rounds of %s without the flood, as many with it elsewhere, and as many with it here, in turns", o.Rounds, o.Round))
	for range o.Rounds {
		for _, kind := range []struct {
			at   *side
			into *[]BadFigures
		}{{nil, &res.Calm}, {p.twin, &res.Elsewhere}, {p.side, &res.Beside}} {
			m, err := p.round(ctx, kind.at, o.Round)
			if err != nil {
				return res, err
			}
			*kind.into = append(*kind.into, m.BadFigures)
			res.Flood.add(m.flood)
		}
	}
	if err := p.profile(ctx); err != nil {
		return res, err
	}
	err := errors.Join(res.write(), res.Report(o.Out), res.verdict(), p.load.verdict())
	return res, errors.Join(err, p.customers.verdict(ctx, p.desk))
}

// profile profiles the suite's processes while one more round runs.
func (p *proving) profile(ctx context.Context) error {
	profiles, err := newProfiler(p.o.Profiles)
	if err != nil {
		return err
	}
	return profiles.load(ctx, p.side, p.o.Round, func(ctx context.Context) error {
		_, err := p.round(ctx, p.side, p.o.Round)
		return err
	})
}

func (o *BadOptions) say(text string) {
	fmt.Fprintf(o.Out, "%s  %s\n", time.Now().Format("15:04:05"), text)
}

func (p *proving) close() {
	if p.load != nil {
		p.load.close()
	}
	if p.customers != nil {
		p.customers.close()
	}
	if p.rig != nil {
		p.rig.close()
	}
}

// start starts the suite with the sandbox in AXP's place, and both halves of the
// good chat.
func (p *proving) start(ctx context.Context) (err error) {
	p.rig, err = newRig(ctx, "./session-orchestrator/cmd/session-orchestrator", "./axp-sandbox/cmd/axp-sandbox", "./e2e/cmd/badinput")
	if err != nil {
		return err
	}
	a, err := p.rig.addrs(3)
	if err != nil {
		return err
	}
	sandbox, orchestrator, admin := a[0], a[1], a[2]
	axp, err := p.rig.launch(ctx, "sandbox", "axp-sandbox", sandbox, "/control/state", map[string]string{
		"SANDBOX_ADDR": sandbox, "SANDBOX_ACCOUNT_ID": account, "SANDBOX_AUTO_AGENT": "false", "AUTH_HS256_SECRET": suitetest.TokenSecret,
	})
	if err != nil {
		return err
	}
	p.desk = suitetest.Desk{URL: "http://" + sandbox}
	calls := []string{"ORCHESTRATOR_ADDR=" + orchestrator}
	if p.side, err = p.rig.startOurs(ctx, calls); err != nil {
		return err
	}
	p.twin = &side{name: "elsewhere", natsURL: p.side.natsURL}
	if err := p.rig.startServices(ctx, p.twin, " elsewhere", calls); err != nil {
		return err
	}
	// Sessions that are only told of callbacks are not known to AXP.
	if err := p.side.seed(ctx, p.o.Sessions); err != nil {
		return fmt.Errorf("write sessions: %w", err)
	}
	worker, err := p.rig.launch(ctx, "orchestrator", "session-orchestrator", admin, "/healthz/ready", map[string]string{
		"NATS_URL": p.side.natsURL, "WEBHOOK_SECRET": suitetest.WebhookSecret, "WEBHOOK_PUBLIC_URL": "http://" + p.side.hookAddr,
		"AXP_BASE_URL": "http://" + sandbox, "AXP_ACCOUNT_ID": account, "AXP_CLIENT_ID": "sandbox-client",
		"AXP_CLIENT_SECRET": "sandbox-secret", "AXP_APP_KEY": "sandbox-appkey", "AXP_CHANNEL_PROVIDER_ID": suitetest.Provider,
		"ORCHESTRATOR_GRPC_ADDR": orchestrator, "ADMIN_ADDR": admin,
	})
	if err != nil {
		return err
	}
	p.parts = append(p.side.parts(), worker, axp, p.twin.ingest, p.twin.gateway)
	return p.people(ctx)
}

// people are those who are measured.
func (p *proving) people(ctx context.Context) error {
	calls := newCallbacks(p.rig.keys, p.o.Sessions)
	f, err := newFleet(ctx, p.side, Options{Sessions: p.o.Sessions, Conns: p.o.Sessions}, calls)
	if err != nil {
		return err
	}
	p.load = &load{side: p.side, fleet: f, calls: calls}
	p.customers, err = newCustomers(ctx, p.side, p.o.Customers)
	return err
}

// measured is a round with what the flood told.
type measured struct {
	BadFigures
	flood floodResult
}

// round measures the good chat for d, while the flood hits a side, or without it.
func (p *proving) round(ctx context.Context, at *side, d time.Duration) (measured, error) {
	var m measured
	parts := p.parts
	var flood *part
	if at != nil {
		var err error
		if flood, err = p.flood(ctx, at); err != nil {
			return m, err
		}
		defer flood.Kill()
		parts = append(slices.Clip(parts), flood)
	}
	began := time.Now()
	before, err := cores(parts)
	if err != nil {
		return m, err
	}
	var events *round
	var sends []int64
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		events, err = p.load.drive(groupCtx, max(1, int(p.o.Rate*d.Seconds())), p.o.Rate, posters)
		return err
	})
	group.Go(func() (err error) {
		sends, err = p.customers.write(groupCtx, max(1, int(p.o.Sends*d.Seconds())), p.o.Sends)
		return err
	})
	if err := group.Wait(); err != nil {
		return m, err
	}
	after, err := cores(parts)
	if err != nil {
		return m, err
	}
	wall := time.Since(began).Seconds()
	m.Cores = map[string]float64{}
	for name, used := range after {
		m.Cores[name] = (used - before[name]).Seconds() / wall
	}
	m.EventP50, m.EventP99 = quantile(events.took, 0.5), quantile(events.took, 0.99)
	m.SendP50, m.SendP99 = quantile(sends, 0.5), quantile(sends, 0.99)
	m.LateP99 = quantile(events.late, 0.99)
	if at != nil {
		if m.flood, err = told(ctx, flood); err != nil {
			return m, err
		}
		m.Reached = float64(m.flood.sent()) / m.flood.Seconds
	}
	return m, nil
}

// flood starts the flood of a side, as a process of its own: its work must not
// make this one slow, which measures.
func (p *proving) flood(ctx context.Context, at *side) (*part, error) {
	stranger, err := tokenOf("bench-stranger")
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(target{
		Hook: at.hookAddr, HTTP: at.httpAddr, GRPC: at.grpcAddr, HookPath: at.hookPath,
		Token: stranger, Rate: p.o.Flood, Senders: p.o.Senders,
	})
	if err != nil {
		return nil, err
	}
	f, err := p.rig.launch(ctx, "flood", "badinput", "", "", map[string]string{FloodKey: string(text)})
	if err != nil {
		return nil, err
	}
	return f, suitetest.Await(ctx, "the flood", func(context.Context) (bool, error) {
		select {
		case <-f.Done():
			return false, fmt.Errorf("it has ended: %s", f.Log())
		default:
			return strings.HasPrefix(f.Log(), flooding), nil
		}
	})
}

// told ends the flood and reads what it tells.
func told(ctx context.Context, f *part) (floodResult, error) {
	var res floodResult
	ctx, cancel := context.WithTimeout(ctx, 4*answerMax)
	defer cancel()
	if err := f.Terminate(ctx); err != nil {
		return res, fmt.Errorf("%w: %s", err, f.Log())
	}
	text := strings.TrimPrefix(f.Log(), flooding)
	if err := json.Unmarshal([]byte(text), &res); err != nil {
		return res, fmt.Errorf("the flood told %q: %w", text, err)
	}
	return res, nil
}

// elsewhere is what has no part in the measurement.
const elsewhere = "(other work on the machine)"

// cores is the CPU time that each process, this one and all others have used.
func cores(parts []*part) (map[string]time.Duration, error) {
	own, err := cpuOf(os.Getpid())
	out := map[string]time.Duration{"good chat": own}
	for _, p := range parts {
		used, readErr := cpuOf(p.Pid())
		err = errors.Join(err, readErr)
		out[p.name] = used
	}
	all, readErr := busy()
	for _, used := range out {
		all -= used
	}
	out[elsewhere] = all
	return out, errors.Join(err, readErr)
}

// verdict is nil when all bad input was refused, and there was some of each kind.
func (res BadResult) verdict() error {
	var err error
	for _, in := range badInputs() {
		k := res.Flood.Kinds[in.name]
		switch {
		case k == nil || k.Sent == 0:
			err = errors.Join(err, fmt.Errorf("%s: none was sent", in.name))
		case k.Refused != k.Sent:
			err = errors.Join(err, fmt.Errorf("%s: %d of %d were not refused; the first one: %s", in.name, k.Sent-k.Refused, k.Sent, k.Fault))
		}
	}
	return err
}

func (res BadResult) write() error {
	if res.Options.JSON == "" {
		return nil
	}
	data, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(res.Options.JSON, append(data, '\n'), 0o600)
}
