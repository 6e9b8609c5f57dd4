package delivery

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
)

// TestClientsOfAPodThatIsCutOffAreSentAway: heartbeats go on where NATS can't be
// reached, so whoever follows a session would take the silence for peace.
func TestClientsOfAPodThatIsCutOffAreSentAway(t *testing.T) {
	server := bustest.Server(t)
	b := bustest.Connect(t, server, bustest.Config())
	cfg := testConfig()
	cfg.GiveUp = 500 * time.Millisecond
	e := startEngine(t, b, cfg)
	alone, merged := attach(t, e, "s1", ""), joined(t, e, "s2", "")
	<-alone.CaughtUp()
	<-merged.CaughtUp()
	server.Shutdown()
	for name, s := range map[string]*Subscription{"alone": alone, "merged": merged} {
		if code := ends(t, s); code != axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE {
			t.Errorf("%s: ended with %v", name, code)
		}
	}
}

// replica stands between a bus and JetStream's API. While it is behind it knows no
// event.
type replica struct {
	behind atomic.Bool
	missed chan struct{} // an answer that it gave for not knowing better
}

// startReplica returns a bus whose reads of the journal are answered by a replica.
func startReplica(t testing.TB, server *natsembed.Server) (*bus.Bus, *replica) {
	t.Helper()
	const prefix = "replica"
	r := &replica{missed: make(chan struct{}, 1)}
	between, err := nats.Connect("", server.InProcess())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(between.Close)
	_, err = between.Subscribe(prefix+".>", func(m *nats.Msg) {
		if r.behind.Load() && m.Subject == prefix+".DIRECT.GET."+bus.EventsStream {
			nothing := nats.NewMsg(m.Reply)
			nothing.Header.Set("Status", "404")
			if err := between.PublishMsg(nothing); err != nil {
				t.Error(err)
			}
			signal(r.missed)
			return
		}
		if err := between.PublishRequest("$JS.API"+strings.TrimPrefix(m.Subject, prefix), m.Reply, m.Data); err != nil {
			t.Error(err)
		}
	})
	if err == nil {
		err = between.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg := bustest.Config()
	cfg.APIPrefix = prefix
	return bustest.Connect(t, server, cfg), r
}

// TestAReplicaThatIsLongBehindHidesNothingForGood: one that comes back serves reads
// while it still follows, for as long as that takes.
func TestAReplicaThatIsLongBehindHidesNothingForGood(t *testing.T) {
	b, replica := startReplica(t, bustest.Server(t))
	e := startEngine(t, b, testConfig())
	s := attach(t, e, "s1", "")
	<-s.CaughtUp()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for looked := false; !looked; <-tick.C { // once more after the attach
		s.feed.mu.Lock()
		looked = s.feed.recheckAt.IsZero()
		s.feed.mu.Unlock()
	}
	// Its live copy is lost, too.
	if err := s.feed.sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	replica.behind.Store(true)
	publish(t, b, "s1", "a", "")
	for range 3 { // as many looks as ask for it soon
		<-replica.missed
	}
	replica.behind.Store(false)
	if ev := next(t, s); ev.GetEventId() != "a" {
		t.Fatalf("event %q, want a", ev.GetEventId())
	}
}
