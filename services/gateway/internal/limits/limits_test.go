package limits

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// loaded is a configuration of the defaults, with changes.
func loaded(t testing.TB, env map[string]string) Config {
	t.Helper()
	var cfg Config
	if err := config.Load(&cfg, config.Map(env)); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func limiter(t testing.TB, env map[string]string) *Limiter {
	t.Helper()
	l, err := New(Params{Config: loaded(t, env), Log: slog.New(slog.DiscardHandler), Meter: noop.NewMeterProvider()})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func wantLimited(t testing.TB, err error) time.Duration {
	t.Helper()
	if !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED) || errs.From(err).RetryAfter <= 0 {
		t.Fatalf("got %v, want RATE_LIMITED with a time to wait", err)
	}
	return errs.From(err).RetryAfter
}

var message = Cost{Frames: 1, Messages: 1, Bytes: 100}

func TestEachScopeHasItsOwnBudget(t *testing.T) {
	who := Who{Account: "ABCDEF", Subject: "ada", Session: "s1"}
	change := map[Scope]func(*Who, *Limiter){
		Connection:   func(w *Who, l *Limiter) { w.Origin.connection = l.From("203.0.113.1:2", nil).connection },
		Session:      func(w *Who, _ *Limiter) { w.Session = "s2" },
		Customer:     func(w *Who, _ *Limiter) { w.Subject = "grace" },
		Address:      func(w *Who, l *Limiter) { w.Origin = l.From("203.0.113.2:1", nil) },
		AccountScope: func(w *Who, _ *Limiter) { w.Account = "ZZZZZZ" },
	}
	for scope := Connection; scope <= AccountScope; scope++ {
		t.Run(scope.String(), func(t *testing.T) {
			l := limiter(t, map[string]string{fmt.Sprintf("LIMIT_%s_MESSAGES", upper(scope)): "3/1m"})
			w := who
			w.Origin = l.From("203.0.113.1:1", nil)
			for range 3 {
				if err := l.Call(t.Context(), w, message); err != nil {
					t.Fatal(err)
				}
			}
			if wait := wantLimited(t, l.Call(t.Context(), w, message)); wait > 20*time.Second || wait < 19*time.Second {
				t.Errorf("one of three a minute is back in %s", wait)
			}
			if err := l.Call(t.Context(), w, Cost{Frames: 1}); err != nil {
				t.Errorf("what is no message was refused: %v", err)
			}
			change[scope](&w, l)
			if err := l.Call(t.Context(), w, message); err != nil {
				t.Errorf("another %s was refused: %v", scope, err)
			}
		})
	}
}

func upper(s Scope) string {
	return [...]string{"CONNECTION", "SESSION", "CUSTOMER", "ADDRESS", "ACCOUNT"}[s]
}

// TestWhoAsksTooMuchCostsNobodyElse: the account's budget is not used up by what
// the customer's own one refuses.
func TestWhoAsksTooMuchCostsNobodyElse(t *testing.T) {
	l := limiter(t, map[string]string{"LIMIT_CUSTOMER_MESSAGES": "5/1h", "LIMIT_ACCOUNT_MESSAGES": "10/1h", "LIMIT_ADDRESS_MESSAGES": "10/1h"})
	ada := Who{Account: "ABCDEF", Subject: "ada", Session: "s", Origin: l.From("203.0.113.1:1", nil)}
	refused := 0
	for range 1000 {
		if l.Call(t.Context(), ada, message) != nil {
			refused++
		}
	}
	if refused != 995 {
		t.Errorf("%d were refused, want 995", refused)
	}
	grace := Who{Account: "ABCDEF", Subject: "grace", Session: "s", Origin: l.From("203.0.113.1:2", nil)}
	for range 5 {
		if err := l.Call(t.Context(), grace, message); err != nil {
			t.Fatalf("her account's and address's budget is gone: %v", err)
		}
	}
	// What a wide scope refuses costs the narrow ones nothing either.
	edsger := Who{Account: "ABCDEF", Subject: "edsger"}
	wantLimited(t, l.Call(t.Context(), edsger, message))
	edsger.Account = "ZZZZZZ"
	for range 5 {
		if err := l.Call(t.Context(), edsger, message); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStrangersCantMakeMemoryGrow, by however many names, nor forget those who are
// seen all the time.
func TestStrangersCantMakeMemoryGrow(t *testing.T) {
	const size = 1000
	l := limiter(t, map[string]string{"LIMIT_TABLE_SIZE": fmt.Sprint(size), "LIMIT_CUSTOMER_MESSAGES": "3/1h", "LIMIT_ACCOUNT_MESSAGES": "off"})
	ada := Who{Account: "ABCDEF", Subject: "ada"}
	for range 3 {
		if err := l.Call(t.Context(), ada, message); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 * size {
		w := Who{Account: fmt.Sprint("A", i), Subject: "x", Session: "y", Origin: l.From(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), nil)}
		if err := l.Call(t.Context(), w, Cost{Frames: 1}); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			wantLimited(t, l.Call(t.Context(), ada, message))
		}
	}
	for scope, table := range l.tables {
		if n := len(table.young) + len(table.old); n > size || len(table.open) > 0 {
			t.Errorf("%s: %d entries, of %d that are allowed", Scope(scope), n, size)
		}
	}
	if n := len(l.shared.all); n > maxAccounts {
		t.Errorf("%d accounts are known", n)
	}
}

func TestOpenStreamsAreCountedAndGivenBack(t *testing.T) {
	for scope := Session; scope <= AccountScope; scope++ {
		t.Run(scope.String(), func(t *testing.T) {
			l := limiter(t, map[string]string{fmt.Sprintf("LIMIT_%s_STREAMS", upper(scope)): "2"})
			w := Who{Account: "ABCDEF", Subject: "ada", Session: "s", Origin: l.From("203.0.113.1:1", nil)}
			var open []*Stream
			for range 2 {
				s, err := l.Open(t.Context(), w)
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, s)
			}
			for range 3 { // refusals take no place
				_, err := l.Open(t.Context(), w)
				wantLimited(t, err)
				_, err = l.Hold(t.Context(), w)
				wantLimited(t, err)
			}
			open[0].Close()
			s, err := l.Open(t.Context(), w)
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			open[1].Close()
			for scope, table := range l.tables {
				if len(table.open) > 0 {
					t.Errorf("%s: %v are left", Scope(scope), table.open)
				}
			}
			if n := l.shared.all["ABCDEF"].open; n != 0 {
				t.Errorf("the account has %d left", n)
			}
		})
	}
}

// TestAClientThatDoesNotListenIsSentAway, one that does is not.
func TestAClientThatDoesNotListenIsSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, map[string]string{"LIMIT_CONNECTION_FRAMES": "10/10s"})
		s, err := l.Open(t.Context(), Who{Account: "ABCDEF", Subject: "ada", Session: "s"})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for range 500 {
			enough, err := s.Frame(t.Context(), false, 10)
			if enough {
				t.Fatal("a client that waits as told is sent away")
			}
			if err != nil {
				time.Sleep(wantLimited(t, err)) //nolint:forbidigo // the bubble's clock
			}
		}
		for range 10 + maxRefusals {
			enough, err := s.Frame(t.Context(), false, 10)
			if enough {
				wantLimited(t, err)
				return
			}
		}
		t.Fatal("a client that does not listen may go on for ever")
	})
}

// TestMetricsNameNobody: scopes and kinds alone.
func TestMetricsNameNobody(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	l, err := New(Params{Config: loaded(t, map[string]string{"LIMIT_CUSTOMER_MESSAGES": "1/1h", "LIMIT_SESSION_STREAMS": "1"}), Log: slog.New(slog.DiscardHandler), Meter: provider})
	if err != nil {
		t.Fatal(err)
	}
	w := Who{Account: "ABCDEF", Subject: "ada", Session: "s"}
	for range 3 {
		_ = l.Call(t.Context(), w, message)
	}
	for range 2 {
		if s, err := l.Open(t.Context(), w); err == nil {
			defer s.Close()
		}
	}
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	sum, ok := got.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64])
	if !ok || len(sum.DataPoints) != 2 {
		t.Fatalf("metrics %v", got)
	}
	seen := map[string]int64{}
	for _, p := range sum.DataPoints {
		scope, _ := p.Attributes.Value(attribute.Key("scope"))
		kind, _ := p.Attributes.Value(attribute.Key("kind"))
		if p.Attributes.Len() != 2 {
			t.Errorf("labels %v", p.Attributes)
		}
		seen[scope.AsString()+" "+kind.AsString()] = p.Value
	}
	if seen["customer messages"] != 2 || seen["session streams"] != 1 {
		t.Errorf("counted %v", seen)
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	for key, value := range map[string]string{
		"GATEWAY_TRUSTED_PROXIES": "10.0.0.0/40", "LIMIT_TABLE_SIZE": "5", "LIMIT_SESSION_STREAMS": "-1", "LIMIT_ACCOUNT_BYTES": "much",
	} {
		var cfg Config
		err := config.Load(&cfg, config.Map(map[string]string{key: value}))
		if err == nil {
			if ms := cfg.Validate(); len(ms) != 1 || ms[0].Key != key {
				t.Errorf("%s=%s: %v", key, value, ms)
			}
		}
	}
}

func BenchmarkCall(b *testing.B) {
	l := limiter(b, nil)
	l.shared.rates = rates{}
	w := Who{Account: "ABCDEF", Subject: "customer-1", Session: "6f0b8a9c-0001-4000-8000-000000000001", Origin: l.From("203.0.113.1:1", nil)}
	for scope := range l.tables {
		l.tables[scope].rates = rates{Frames: Rate{1 << 40, time.Second}, Bytes: Rate{1 << 50, time.Second}, Messages: Rate{1 << 40, time.Second}}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Call(b.Context(), w, message); err != nil {
			b.Fatal(err)
		}
	}
}
