package bench

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/keyring"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The default HTTP client keeps connections for its next request.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}

func TestBothPathsDeliverEveryEventOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("separate processes")
	}
	var out bytes.Buffer
	o := Defaults()
	o.Sessions, o.Conns, o.Rounds, o.Round = 20, 5, 2, 300*time.Millisecond
	o.Saturate, o.InFlight, o.Idle, o.Settle, o.Out = 200, 8, 10, 50*time.Millisecond, &out
	res, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if len(res.Ours) != o.Rounds || len(res.Thin) != o.Rounds || len(res.Idle) != len(o.Transports) {
		t.Errorf("%d and %d rounds, %d transports", len(res.Ours), len(res.Thin), len(res.Idle))
	}
	for _, f := range append(res.Ours, res.Thin...) {
		if f.P50 <= 0 || f.P99 < f.P50 {
			t.Errorf("p50 %v ms, p99 %v ms", f.P50, f.P99)
		}
	}
	for _, want := range []string{"CPU s per 10k events, all", "POST to frame p99", "grpc-connect", "sse"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
}

func TestIdleClientsCanBeWeighedAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("separate processes")
	}
	var out bytes.Buffer
	o := Defaults()
	o.Rounds, o.Idle, o.Settle, o.Transports, o.Out = 0, 10, 50*time.Millisecond, []string{"websocket"}, &out
	res, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if len(res.Ours) != 0 || len(res.Idle) != 1 || strings.Contains(out.String(), "POST to frame") {
		t.Errorf("%d rounds, %d transports:\n%s", len(res.Ours), len(res.Idle), out.String())
	}
}

func event(calls *callbacks, n int, sequence uint64) *axpchatv1.ConnectResponse {
	return &axpchatv1.ConnectResponse{Payload: &axpchatv1.ConnectResponse_Event{Event: &axpchatv1.Event{
		Sequence: sequence, EventId: calls.id(n),
	}}}
}

func TestARoundTellsWhatIsWrong(t *testing.T) {
	keys, err := keyring.New(keyring.Config{Secret: config.Secret("a secret of this test")})
	if err != nil {
		t.Fatal(err)
	}
	calls := newCallbacks(keys, 2)
	for _, c := range []struct {
		name string
		come [][2]int // session, event; sequences grow
		want string
	}{
		{"all is well", [][2]int{{0, 0}, {1, 1}, {0, 2}}, ""},
		{"one is lost", [][2]int{{0, 0}, {1, 1}}, "1 of 3 events did not come"},
		{"one comes again", [][2]int{{0, 0}, {0, 0}, {1, 1}, {0, 2}}, "came again"},
		{"one comes to somebody else", [][2]int{{0, 0}, {0, 1}, {0, 2}}, "came to session 0"},
		{"one is of another round", [][2]int{{0, 0}, {1, 1}, {0, 2}, {1, 3}}, "not of this round"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRound(0, 3)
			w := []*watcher{{session: 0, sessions: 2, calls: calls}, {session: 1, sessions: 2, calls: calls}}
			for i := range 3 {
				r.posting(i, 0)
			}
			for i, come := range c.come {
				w[come[0]].frame(r, event(calls, come[1], uint64(i+1)), time.Now())
			}
			err := r.verdict()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("verdict %v, want %q", err, c.want)
			}
		})
	}
	t.Run("disorder", func(t *testing.T) {
		r := newRound(0, 3)
		w := &watcher{sessions: 2, calls: calls}
		w.frame(r, event(calls, 2, 7), time.Now())
		w.frame(r, event(calls, 0, 6), time.Now())
		if err := r.verdict(); err == nil || !strings.Contains(err.Error(), "sequence 6 after 7") {
			t.Errorf("verdict %v", err)
		}
	})
}

func TestSpreadIsOfRoundsThatFollowEachOther(t *testing.T) {
	res := Result{Ours: []Figures{{P99: 2}, {P99: 30}, {P99: 3}}, Thin: []Figures{{P99: 1}, {P99: 20}, {P99: 1}}}
	mine, thin, ratio := res.compare(func(f Figures) float64 { return f.P99 })
	if got, want := []spread{mine, thin, ratio}, []spread{{2, 3, 30}, {1, 1, 20}, {1.5, 2, 3}}; got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestUsageIsReadFromTheKernel(t *testing.T) {
	if _, err := os.Stat("/proc/self/statm"); err != nil {
		t.Skip("needs Linux's /proc")
	}
	before, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for n, end := 0, time.Now().Add(50*time.Millisecond); time.Now().Before(end); n++ {
		_ = n
	}
	after, err := cpuOf(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("CPU time from %v to %v: %v", before, after, err)
	}
	if m, err := rss(os.Getpid()); err != nil || m < 1<<20 {
		t.Errorf("RSS %v: %v", m, err)
	}
	if b, err := busy(); err != nil || b < after {
		t.Errorf("the machine's CPU time %v: %v", b, err)
	}
}
