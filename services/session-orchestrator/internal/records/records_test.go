package records_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/session-orchestrator/internal/journal"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var seed = flag.Uint64("seed", 0, "seed of the random interleavings; 0: a new one")

const account = "ABCDEF"

// rig is records over a real NATS server.
type rig struct {
	t    *testing.T
	bus  *bus.Bus
	recs *records.Records
}

func newRig(t *testing.T) *rig {
	b := bustest.Start(t)
	return &rig{t, b, records.New(b, journal.New(b, time.Now))}
}

// pending stores a new engagement that waits for an agent.
func (r *rig) pending(session string) records.Ref {
	r.t.Helper()
	ref := records.Ref{Account: account, Session: session, Engagement: "e-" + session}
	_, err := r.bus.Engagements.Create(r.t.Context(), ref.Key(), &busv1.EngagementRecord{Account: account, Engagement: &axpchatv1.Engagement{
		EngagementId: ref.Engagement, SessionId: session, Status: axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_PENDING,
		AxpEngagementId: "ae", AxpDialogId: "ad",
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	return ref
}

func activate(rec *busv1.EngagementRecord) error {
	state.Activate(rec, time.Now())
	return nil
}

func terminate(rec *busv1.EngagementRecord) error {
	state.Terminate(rec, axpchatv1.CloseReason_CLOSE_REASON_UNKNOWN, time.Now())
	return nil
}

func (r *rig) change(ref records.Ref, f func(*busv1.EngagementRecord) error) {
	r.t.Helper()
	if _, err := r.recs.Change(r.t.Context(), ref, f); err != nil {
		r.t.Fatal(err)
	}
}

// told are the suffixes of the events that the journal has of an engagement.
func (r *rig) told(ref records.Ref) []string {
	r.t.Helper()
	events, _, err := r.bus.ReadEvents(r.t.Context(), ref.Account, ref.Session, 0, 256)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		out = append(out, e.Record.GetEvent().GetEventId()[len(ref.Engagement):])
	}
	return out
}

func (r *rig) wantTold(ref records.Ref, want ...string) {
	r.t.Helper()
	if got := r.told(ref); !slices.Equal(got, want) {
		r.t.Errorf("the journal has %v, want %v", got, want)
	}
	rec, _, err := r.bus.Engagements.Get(r.t.Context(), ref.Key())
	if err != nil || state.Untold(rec) {
		r.t.Errorf("the record says that something is untold: %v, %v", rec, err)
	}
}

// TestActiveIsNotToldBehindTheEnd: both were decided upon the same record, and
// the end was faster.
func TestActiveIsNotToldBehindTheEnd(t *testing.T) {
	r := newRig(t)
	ref := r.pending("s")
	first := true
	r.change(ref, func(rec *busv1.EngagementRecord) error {
		if first {
			first = false
			r.change(ref, terminate)
		}
		return activate(rec)
	})
	r.wantTold(ref, ".terminated")
}

// TestTheEndIsToldBehindActive: whoever turned the chat active has not come to
// tell of it yet, or has died.
func TestTheEndIsToldBehindActive(t *testing.T) {
	r := newRig(t)
	ref := r.pending("s")
	r.crash(ref, func(rec *busv1.EngagementRecord) {
		_ = activate(rec)
		rec.UntoldActiveTime = timestamppb.Now()
	})
	r.wantNothingTold(ref)
	r.change(ref, terminate)
	r.wantTold(ref, ".active", ".terminated")
}

// crash stores a turn as one does who dies before he has told of it.
func (r *rig) crash(ref records.Ref, f func(*busv1.EngagementRecord)) {
	r.t.Helper()
	_, err := r.bus.Engagements.Modify(r.t.Context(), ref.Key(), func(rec *busv1.EngagementRecord) error {
		f(rec)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) wantNothingTold(ref records.Ref) {
	r.t.Helper()
	if got := r.told(ref); len(got) != 0 {
		r.t.Fatalf("the journal has %v already", got)
	}
}

func TestWhoReadsATurnTellsOfIt(t *testing.T) {
	r := newRig(t)
	ref := r.pending("s")
	r.change(ref, activate)
	r.crash(ref, func(rec *busv1.EngagementRecord) {
		_ = terminate(rec)
		rec.UntoldEndTime = timestamppb.Now()
	})
	for range 2 {
		if _, _, err := r.recs.Get(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		r.wantTold(ref, ".active", ".terminated")
	}
}

// TestATurnOfLongAgoIsToldOnce although NATS has forgotten that it was told: the
// mark alone was not taken away.
func TestATurnOfLongAgoIsToldOnce(t *testing.T) {
	cfg := bustest.Config()
	cfg.DuplicateWindow = time.Second
	b := bustest.Connect(t, bustest.Server(t), cfg)
	r := &rig{t, b, records.New(b, journal.New(b, time.Now))}
	ref := r.pending("s")
	r.change(ref, terminate)
	tick := time.NewTimer(1500 * time.Millisecond)
	defer tick.Stop()
	<-tick.C // NATS keeps its own time
	r.crash(ref, func(rec *busv1.EngagementRecord) { rec.UntoldEndTime = timestamppb.New(time.Now().Add(-time.Minute)) })
	if _, _, err := r.recs.Get(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	r.wantTold(ref, ".terminated")
}

// TestTurnsAreToldInOrder: whatever several replicas do to an engagement at a
// time, dying at any moment, its journal has each turn once, and the end last.
func TestTurnsAreToldInOrder(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d", s)
	r := newRig(t)
	rng := rand.New(rand.NewPCG(s, 1))
	for n := range 40 {
		ref := r.pending(fmt.Sprintf("s-%d", n))
		var group sync.WaitGroup
		for range 2 + rng.IntN(5) {
			f, cut := activate, time.Duration(0)
			if rng.IntN(3) == 0 {
				f = terminate
			}
			if rng.IntN(3) == 0 {
				cut = time.Duration(rng.IntN(900)+1) * time.Microsecond // dies in the middle
			}
			group.Go(func() {
				ctx := t.Context()
				if cut > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, cut)
					defer cancel()
				}
				if _, err := r.recs.Change(ctx, ref, f); err != nil && cut == 0 {
					t.Errorf("seed %d: %v", s, err)
				}
			})
		}
		group.Wait()
		r.change(ref, terminate)
		got := r.told(ref)
		if i := slices.Index(got, ".terminated"); i != len(got)-1 || len(got) > 2 || len(got) == 2 && got[0] != ".active" {
			t.Errorf("seed %d: engagement %d: the journal has %v", s, n, got)
		}
	}
}
