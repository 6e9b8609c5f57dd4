package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/keyring"
)

// Config says how often replicas tell each other which secrets they have.
type Config struct {
	Interval time.Duration `env:"WEBHOOK_AGREE_INTERVAL" default:"5s" doc:"How often replicas tell each other which WEBHOOK_SECRET they have. A new one comes into force when all have honoured it for three intervals; who is silent for four is not there."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	if c.Interval < 10*time.Millisecond || c.Interval > time.Minute {
		return []config.Mistake{{Key: "WEBHOOK_AGREE_INTERVAL", Problem: "must be 10ms to 1m"}}
	}
	return nil
}

// steady is how many intervals a reason has to hold, and silence how many make a
// replica count as gone.
const (
	steady  = 3
	silence = 4
)

// lookTimeout bounds one look at the agreement.
const lookTimeout = 5 * time.Second

// refreshAfter keeps the record from growing so old that NATS drops it.
const refreshAfter = 24 * time.Hour

// Params is what New and NewReceiver need; all of it is required, but Meter for
// New alone.
type Params struct {
	Config Config
	Bus    *bus.Bus
	Keys   *keyring.Keyring
	Log    *slog.Logger
	Meter  metric.Meter
}

func (p Params) own() secrets { return secrets{p.Keys.Fingerprint(), p.Keys.PreviousFingerprint()} }

// seen is when a replica was last heard.
type seen struct {
	secrets
	receives bool
	at       time.Time
}

// Agreement takes part in the agreement for one that makes keys and proofs. It is
// a component of the process and safe for concurrent use.
type Agreement struct {
	p       Params
	id      string
	swapped *keyring.Keyring // nil where there is one secret alone
	choice  atomic.Int32
	ready   chan struct{} // closed when it was looked for the first time
	once    sync.Once

	mu     sync.Mutex
	others map[string]seen

	// What follows belongs to the goroutine of Run.
	reason    reason
	since     time.Time // since when the reason holds
	refreshed time.Time
	told      string // what was logged last
}

var errNotYet = errors.New("which WEBHOOK_SECRET is in force has not been looked up yet")

// New makes an agreement; it looks at nothing before Run.
func New(p Params) (*Agreement, error) {
	a := &Agreement{p: p, id: uuid.NewString(), ready: make(chan struct{}), others: map[string]seen{}}
	a.swapped, _ = p.Keys.Swapped()
	_, err := p.Meter.Int64ObservableGauge("axpchat_webhook_secret_in_force",
		metric.WithDescription("1 for which of this replica's secrets is in force: current, previous or neither."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			for _, c := range []Choice{Current, Previous, Neither} {
				value := int64(0)
				if c == a.Choice() {
					value = 1
				}
				o.Observe(value, metric.WithAttributes(attribute.String("secret", c.String())))
			}
			return nil
		}))
	if err != nil {
		return nil, fmt.Errorf("metric of the secret in force: %w", err)
	}
	return a, nil
}

// Choice is which secret is in force, as far as this replica knows.
func (a *Agreement) Choice() Choice { return Choice(a.choice.Load()) }

// confirmations bounds how often Confirm loses against others.
const confirmations = 5

// Confirm is Choice by what the agreement is at this moment, not a few seconds
// ago, for one who is about to act upon it. It writes the agreement as it was read,
// for only a write can't be answered by a replica of NATS that is behind.
func (a *Agreement) Confirm(ctx context.Context) (Choice, error) {
	for range confirmations {
		agreed, rev, err := a.p.Bus.Secrets.Get(ctx, bus.SecretsKey)
		if err != nil {
			return Neither, fmt.Errorf("confirm which secret is in force: %w", err)
		}
		_, err = a.p.Bus.Secrets.Update(ctx, bus.SecretsKey, agreed, rev)
		if errors.Is(err, bus.ErrConflict) {
			continue
		}
		if err != nil {
			return Neither, fmt.Errorf("confirm which secret is in force: %w", err)
		}
		choice, _ := judge(a.p.own(), agreed, view{})
		return choice, nil
	}
	return Neither, fmt.Errorf("confirm which secret is in force: %w", bus.ErrConflict)
}

// MintDialogID makes a providerDialogId with the secret in force, where this
// replica has it. Else it makes one with its own: receivers honour that for as
// long as the rotation is under way.
func (a *Agreement) MintDialogID(account, session, engagement string) string {
	if a.Choice() == Previous {
		return a.swapped.MintDialogID(account, session, engagement)
	}
	return a.p.Keys.MintDialogID(account, session, engagement)
}

// Name is "webhook-secret".
func (a *Agreement) Name() string { return "webhook-secret" }

// Ready fails until the agreement was looked up: what is made before might be
// made with the wrong secret.
func (a *Agreement) Ready(context.Context) error {
	select {
	case <-a.ready:
		return nil
	default:
		return errNotYet
	}
}

// Drain has nothing to finish.
func (a *Agreement) Drain(context.Context) error { return nil }

// Run takes part until ctx ends.
func (a *Agreement) Run(ctx context.Context) error {
	stop, err := a.p.Bus.SubscribeSecrets(a.hear)
	if err != nil {
		return err
	}
	defer stop()
	tick := time.NewTicker(a.p.Config.Interval)
	defer tick.Stop()
	for {
		a.report(ctx, false)
		if err := a.look(ctx, time.Now()); err == nil {
			a.once.Do(func() { close(a.ready) })
		} else if ctx.Err() == nil {
			a.reason = stay // nothing holds while nobody can look
			a.p.Log.WarnContext(ctx, "which WEBHOOK_SECRET is in force can't be looked up; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			a.report(ctx, true)
			return nil
		case <-tick.C:
		}
	}
}

func (a *Agreement) report(ctx context.Context, leaving bool) {
	tell(ctx, a.p, a.id, false, leaving)
}

func tell(ctx context.Context, p Params, id string, receives, leaving bool) {
	own := p.own()
	err := p.Bus.ReportSecrets(&busv1.SecretReport{Replica: id, Receives: receives, Current: own.current, Previous: own.previous, Leaving: leaving})
	if err != nil {
		p.Log.DebugContext(ctx, "secrets could not be reported", "error", err)
	}
}

// hear takes in what a replica reports.
func (a *Agreement) hear(r *busv1.SecretReport) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.GetLeaving() {
		delete(a.others, r.GetReplica())
		return
	}
	a.others[r.GetReplica()] = seen{secrets{r.GetCurrent(), r.GetPrevious()}, r.GetReceives(), time.Now()}
}

// view is who is there.
func (a *Agreement) view(now time.Time) view {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := view{makers: []secrets{a.p.own()}}
	for id, s := range a.others {
		switch {
		case now.Sub(s.at) > silence*a.p.Config.Interval:
			delete(a.others, id)
		case s.receives:
			v.receivers = append(v.receivers, s.secrets)
		case id != a.id:
			v.makers = append(v.makers, s.secrets)
		}
	}
	return v
}

// look reads the agreement, and changes it where it is time to.
func (a *Agreement) look(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	own := a.p.own()
	agreed, rev, err := a.p.Bus.Secrets.Get(ctx, bus.SecretsKey)
	if errors.Is(err, bus.ErrNotFound) {
		return a.store(ctx, &busv1.SecretAgreement{Current: own.current}, 0)
	}
	if err != nil {
		return err
	}
	choice, why := judge(own, agreed, a.view(now))
	a.choice.Store(int32(choice))
	if why != a.reason {
		a.reason, a.since = why, now
	}
	held := now.Sub(a.since)
	switch {
	case why == newer && held >= steady*a.p.Config.Interval, why == alone && held >= silence*a.p.Config.Interval:
		return a.store(ctx, next(own, agreed), rev)
	case choice == Current && now.Sub(a.refreshed) > refreshAfter:
		return a.store(ctx, agreed, rev)
	}
	a.log(ctx, choice, why)
	return nil
}

// store writes an agreement that puts this replica's own secret into force. Who
// loses against another replica looks again at the next tick.
func (a *Agreement) store(ctx context.Context, to *busv1.SecretAgreement, rev uint64) error {
	var err error
	if rev == 0 {
		_, err = a.p.Bus.Secrets.Create(ctx, bus.SecretsKey, to)
	} else {
		_, err = a.p.Bus.Secrets.Update(ctx, bus.SecretsKey, to, rev)
	}
	switch {
	case errors.Is(err, bus.ErrExists), errors.Is(err, bus.ErrConflict):
		return nil
	case err != nil:
		return err
	}
	a.choice.Store(int32(Current))
	a.reason, a.refreshed = stay, time.Now()
	a.log(ctx, Current, stay)
	return nil
}

// log tells of a change of what is in force here.
func (a *Agreement) log(ctx context.Context, choice Choice, why reason) {
	text := ""
	switch {
	case choice == Current:
	case why != stay:
		text = "WEBHOOK_SECRET will be in force in a moment: all replicas of webhook-ingest honour it"
	case choice == Previous:
		text = "WEBHOOK_SECRET waits for replicas of webhook-ingest that do not honour it, or was replaced by WEBHOOK_SECRET_PREVIOUS"
	default:
		text = "this replica leaves the webhook subscription to those that have the secret"
	}
	if line := choice.String() + text; line != a.told {
		a.told = line
		a.p.Log.InfoContext(ctx, "webhook secret in force", "secret", choice.String(), "why", text)
	}
}
