package accounts_test

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const grace = 5 * time.Minute

// account is one whose AXP nobody answers for: what is tested here needs no calls.
func account(id string, change ...func(*axp.Account)) axp.Account {
	a := axp.Account{
		AccountID: id, ClientID: "client", ClientSecret: "secret", AppKey: "key", ChannelProviderID: "provider-" + id, BaseURL: "http://127.0.0.1:1",
	}
	for _, c := range change {
		c(&a)
	}
	return a
}

func registry(t *testing.T, list ...axp.Account) *accounts.Registry {
	t.Helper()
	r, err := accounts.New(accounts.Params{
		Accounts: list, Config: accounts.Config{Grace: grace}, AXP: axp.Config{MaxAttempts: 1}, Log: slog.New(slog.DiscardHandler), Providers: telemetry.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func set(t *testing.T, r *accounts.Registry, list ...axp.Account) {
	t.Helper()
	if err := r.Set(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func isUnknown(err error) bool {
	return err != nil && errs.From(err).Reason == axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN
}

func client(t *testing.T, r *accounts.Registry, id string) *axp.Client {
	t.Helper()
	c, err := r.Client(id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// closed tells whether calls of a client fail because it is closed.
func closed(t *testing.T, c *axp.Client) bool {
	t.Helper()
	return errors.Is(c.CheckCredentials(t.Context()), axp.ErrClosed)
}

func served(r *accounts.Registry) string {
	out := ""
	for _, s := range r.All() {
		out += s.Account.AccountID + " "
	}
	return out
}

// TestAnAccountComesAndGoes follows an account from its first day to the last,
// beside one that stays.
func TestAnAccountComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := registry(t, account("STAYSX"))
		stays := client(t, r, "STAYSX")
		if !isUnknown(r.Accepts("COMESX")) {
			t.Error("an account that is not there is accepted")
		}
		set(t, r, account("STAYSX"), account("COMESX"))
		comes := client(t, r, "COMESX")
		if err := r.Accepts("COMESX"); err != nil || served(r) != "COMESX STAYSX " {
			t.Fatalf("added: %v, %s", err, served(r))
		}
		<-r.Changed()

		set(t, r, account("STAYSX"))
		left := time.Now()
		if !isUnknown(r.Accepts("COMESX")) || client(t, r, "COMESX") != comes || served(r) != "COMESX STAYSX " {
			t.Fatal("an account that leaves takes nothing new, but what is open goes on")
		}
		time.Sleep(grace - time.Second) //nolint:forbidigo // the bubble's time
		if client(t, r, "COMESX") != comes {
			t.Fatal("gone before the grace is over")
		}
		time.Sleep(2 * time.Second) //nolint:forbidigo // as above
		if _, err := r.Client("COMESX"); !isUnknown(err) || served(r) != "STAYSX " {
			t.Fatalf("after the grace: %v, %s", err, served(r))
		}
		<-r.Changed()

		time.Sleep(time.Hour) //nolint:forbidigo // as above
		if closed(t, comes) {
			t.Error("closed although its subscription may not be deleted yet")
		}
		r.Release(comes)
		r.Release(comes)             // twice is once
		time.Sleep(20 * time.Second) //nolint:forbidigo // as above
		if closed(t, comes) {
			t.Error("closed although a command may still use it")
		}
		time.Sleep(time.Minute) //nolint:forbidigo // as above
		if !closed(t, comes) {
			t.Error("never closed")
		}
		if client(t, r, "STAYSX") != stays || closed(t, stays) {
			t.Error("the other account has noticed")
		}
		if r.Outlived("STAYSX", left.Add(-time.Hour), time.Now()) || !r.Outlived("COMESX", left, time.Now()) || r.Outlived("COMESX", time.Now().Add(-time.Minute), time.Now()) {
			t.Error("only what has waited for the grace, for an account that is not served, is given up")
		}
	})
}

func TestAnAccountThatComesBackInTimeHasNotLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := registry(t, account("STAYSX"), account("COMESX"))
		before := client(t, r, "COMESX")
		set(t, r, account("STAYSX"))
		time.Sleep(grace / 2) //nolint:forbidigo // the bubble's time
		set(t, r, account("STAYSX"), account("COMESX"))
		time.Sleep(2 * grace) //nolint:forbidigo // as above
		if err := r.Accepts("COMESX"); err != nil || client(t, r, "COMESX") != before {
			t.Errorf("got %v", err)
		}
	})
}

func TestOnlyWhatMustChangesTheClient(t *testing.T) {
	r := registry(t, account("ABCDEF"))
	first := client(t, r, "ABCDEF")
	set(t, r, account("ABCDEF", func(a *axp.Account) { a.ClientSecret, a.AppKey = "new", "new" }))
	if client(t, r, "ABCDEF") != first {
		t.Error("a new secret needs no other client")
	}
	other := account("ABCDEF", func(a *axp.Account) { a.BaseURL = "http://127.0.0.1:2" })
	set(t, r, other)
	if client(t, r, "ABCDEF") == first || closed(t, first) {
		t.Error("another origin needs another client, while calls over the first go on")
	}
	if r.Kept(accounts.Served{Account: account("ABCDEF"), Client: first}) {
		t.Error("the subscription at the old origin serves nobody any more")
	}
	limited := other
	limited.ConcurrencyMax = 2
	set(t, r, limited)
	if !r.Kept(accounts.Served{Account: other}) {
		t.Error("the subscription at the same origin goes on to serve")
	}
}

func TestAListWithAMistakeChangesNothing(t *testing.T) {
	r := registry(t, account("ABCDEF"))
	first := client(t, r, "ABCDEF")
	for name, list := range map[string][]axp.Account{
		"a mistake": {account("GHIJKL"), account("MNOPQR", func(a *axp.Account) { a.AppKey = "" })},
		"twice":     {account("GHIJKL"), account("GHIJKL")},
	} {
		if err := r.Set(t.Context(), list); err == nil {
			t.Errorf("%s: no error", name)
		}
		if served(r) != "ABCDEF " || client(t, r, "ABCDEF") != first {
			t.Errorf("%s: %s", name, served(r))
		}
	}
}

// TestReadersNeverMissAnAccountThatStays changes the list under readers.
func TestReadersNeverMissAnAccountThatStays(t *testing.T) {
	r := registry(t, account("STAYSX"))
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := r.Accepts("STAYSX"); err != nil {
					t.Error(err)
				}
				if _, err := r.Client("COMESX"); err != nil && !isUnknown(err) {
					t.Error(err)
				}
				r.All()
			}
		})
	}
	for range 100 {
		set(t, r, account("STAYSX"), account("COMESX"))
		set(t, r, account("STAYSX", func(a *axp.Account) { a.ClientSecret = "other" }))
	}
	close(stop)
	group.Wait()
}

// TestAnAccountThatHasGoneIsInNoGauge: a dashboard must not show it for ever.
func TestAnAccountThatHasGoneIsInNoGauge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdkmetric.NewManualReader()
		providers := telemetry.Nop()
		providers.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		r, err := accounts.New(accounts.Params{
			Accounts: []axp.Account{account("STAYSX"), account("LEAVES")}, AXP: axp.Config{MaxAttempts: 1}, Log: slog.New(slog.DiscardHandler), Providers: providers,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		if got := labels(t, reader); !got["STAYSX"] || !got["LEAVES"] {
			t.Fatalf("gauges of %v", got)
		}
		gone := client(t, r, "LEAVES")
		set(t, r, account("STAYSX"))
		synctest.Wait() // there is no grace
		r.Release(gone)
		if got := labels(t, reader); !got["STAYSX"] || got["LEAVES"] {
			t.Errorf("gauges of %v", got)
		}
	})
}

func labels(t *testing.T, reader sdkmetric.Reader) map[string]bool {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if gauge, ok := m.Data.(metricdata.Gauge[int64]); ok {
				for _, p := range gauge.DataPoints {
					if v, ok := p.Attributes.Value(attribute.Key("account")); ok {
						out[v.AsString()] = true
					}
				}
			}
		}
	}
	return out
}
