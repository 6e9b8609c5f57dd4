package rotation_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
	"github.com/axpchat/connector/services/internal/rotation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secretA = "the secret of before 0123456789"
	secretB = "the secret from now on 01234567"
	account = "ABCDEF"
	every   = 50 * time.Millisecond
)

// stage is replicas over one NATS server.
type stage struct {
	t    *testing.T
	nats *natsembed.Server
}

func newStage(t *testing.T) *stage { return &stage{t, bustest.Server(t)} }

func (s *stage) params(current, previous string) rotation.Params {
	s.t.Helper()
	keys, err := keyring.New(keyring.Config{Secret: config.Secret(current), Previous: config.Secret(previous)})
	if err != nil {
		s.t.Fatal(err)
	}
	return rotation.Params{
		Config: rotation.Config{Interval: every}, Bus: bustest.Connect(s.t, s.nats, bustest.Config()), Keys: keys,
		Log: slog.New(slog.DiscardHandler), Meter: noop.NewMeterProvider().Meter("test"),
	}
}

// maker starts a replica that makes keys; the function ends it.
func (s *stage) maker(current, previous string) (*rotation.Agreement, func()) {
	s.t.Helper()
	a, err := rotation.New(s.params(current, previous))
	if err != nil {
		s.t.Fatal(err)
	}
	stop := s.run(func(ctx context.Context) { _ = a.Run(ctx) })
	s.await("the first look", func() bool { return a.Ready(s.t.Context()) == nil })
	return a, stop
}

// receiver starts a replica that takes callbacks; the function ends it.
func (s *stage) receiver(current, previous string) (*rotation.Receiver, func()) {
	s.t.Helper()
	r := rotation.NewReceiver(s.t.Context(), s.params(current, previous))
	return r, s.run(r.Run)
}

func (s *stage) run(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	var group sync.WaitGroup
	group.Go(func() { f(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		group.Wait()
	})
	s.t.Cleanup(stop)
	return stop
}

func (s *stage) await(what string, cond func() bool) {
	s.t.Helper()
	await.Until(s.t, what, cond)
}

func (s *stage) choice(a *rotation.Agreement, want rotation.Choice) {
	s.t.Helper()
	s.await("the secret in force: "+want.String(), func() bool { return a.Choice() == want })
}

// stays checks that for a while nothing changes.
func (s *stage) stays(what string, cond func() bool) {
	s.t.Helper()
	over := time.NewTimer(10 * every)
	defer over.Stop()
	tick := time.NewTicker(every / 5)
	defer tick.Stop()
	for {
		if !cond() {
			s.t.Fatalf("%s: not any more", what)
		}
		select {
		case <-over.C:
			return
		case <-tick.C:
		}
	}
}

// made checks which secret a providerDialogId is made with.
func (s *stage) made(a *rotation.Agreement, secret string) {
	s.t.Helper()
	keys, err := keyring.New(keyring.Config{Secret: config.Secret(secret)})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, verdict := keys.ParseDialogID(account, a.MintDialogID(account, "s", "e")); verdict != keyring.Ours {
		s.t.Error("a providerDialogId is made with the other secret")
	}
}

// TestANewSecretWaitsForEveryReceiver, whoever makes keys with it already.
func TestANewSecretWaitsForEveryReceiver(t *testing.T) {
	s := newStage(t)
	before, _ := s.maker(secretA, "")
	late, stopLate := s.receiver(secretA, "")
	s.choice(before, rotation.Current)
	after, _ := s.maker(secretB, secretA)
	early, _ := s.receiver(secretB, secretA)
	s.stays("the old secret is in force", func() bool {
		return before.Choice() == rotation.Current && after.Choice() == rotation.Previous && !early.Behind() && !late.Behind()
	})
	s.made(before, secretA)
	s.made(after, secretA)
	stopLate()
	s.choice(after, rotation.Current)
	s.choice(before, rotation.Neither)
	s.made(after, secretB)
	s.made(before, secretA)
	s.stays("the new secret is in force", func() bool { return after.Choice() == rotation.Current && before.Choice() == rotation.Neither })
}

// TestAReceiverThatComesBackWithTheOldSecret must not tell AXP that the new key
// is wrong.
func TestAReceiverThatComesBackWithTheOldSecret(t *testing.T) {
	s := newStage(t)
	a, _ := s.maker(secretB, "")
	s.choice(a, rotation.Current)
	old, _ := s.receiver(secretA, "")
	if !old.Behind() {
		t.Error("it does not know that it is behind")
	}
	if r, _ := s.receiver(secretA, secretB); r.Behind() {
		t.Error("one that honours the secret in force is not behind")
	}
}

// TestARollback: the old replicas take over when the last new one is gone.
func TestARollback(t *testing.T) {
	s := newStage(t)
	s.receiver(secretA, secretB)
	a, _ := s.maker(secretA, secretB)
	b, stopB := s.maker(secretB, secretA)
	s.choice(b, rotation.Current)
	s.choice(a, rotation.Previous)
	s.made(a, secretB)
	s.stays("the new secret is in force", func() bool { return b.Choice() == rotation.Current && a.Choice() == rotation.Previous })
	stopB()
	s.choice(a, rotation.Current)
	s.made(a, secretA)
}

// TestOneSecretAlone is replaced in one step by a deployment of one process.
func TestOneSecretAlone(t *testing.T) {
	s := newStage(t)
	_, stopReceiver := s.receiver(secretA, "")
	a, stop := s.maker(secretA, "")
	s.choice(a, rotation.Current)
	stop()
	stopReceiver()
	next, _ := s.receiver(secretB, "")
	b, _ := s.maker(secretB, "")
	s.choice(b, rotation.Current)
	s.await("the receiver notices", func() bool { return !next.Behind() })
}

func TestManyReplicasAgree(t *testing.T) {
	s := newStage(t)
	s.receiver(secretB, secretA)
	var old, young []*rotation.Agreement
	for range 4 {
		a, _ := s.maker(secretA, "")
		old = append(old, a)
	}
	for range 4 {
		b, _ := s.maker(secretB, secretA)
		young = append(young, b)
	}
	for i := range old {
		s.choice(young[i], rotation.Current)
		s.choice(old[i], rotation.Neither)
	}
	rec, rev, err := bustest.Connect(t, s.nats, bustest.Config()).Secrets.Get(t.Context(), bus.SecretsKey)
	if err != nil || len(rec.GetSuperseded()) != 1 {
		t.Fatalf("agreed is %v, revision %d, %v", rec, rev, err)
	}
}
