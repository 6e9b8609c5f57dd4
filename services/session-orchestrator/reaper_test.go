package orchestrator_test

import (
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
	"github.com/axpchat/connector/services/session-orchestrator/internal/engagements"
	"github.com/axpchat/connector/services/session-orchestrator/internal/erase"
	"github.com/axpchat/connector/services/session-orchestrator/internal/ident"
	"github.com/axpchat/connector/services/session-orchestrator/internal/idle"
	"github.com/axpchat/connector/services/session-orchestrator/internal/journal"
	"github.com/axpchat/connector/services/session-orchestrator/internal/parameters"
	"github.com/axpchat/connector/services/session-orchestrator/internal/reaper"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/sessions"
)

// alone is a replica without others.
type alone string

func (a alone) Present() (self string, all []string) { return string(a), []string{string(a)} }

// inAnHour is the clock of the reapers here: everything is an hour old to them.
func inAnHour() time.Time { return time.Now().Add(time.Hour) }

// reaper makes a reaper beside the running orchestrator. Only one whose name is
// in the list has a share.
func (r *rig) reaper(replicas reaper.Replicas) *reaper.Reaper {
	r.t.Helper()
	cfg, err := load(variables(r.axp.URL, map[string]string{"REAPER_RATE": "1000"}))
	check := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
	}
	check(err)
	log, meter := slog.New(slog.DiscardHandler), noop.NewMeterProvider().Meter("test")
	ring, err := keyring.New(cfg.Keyring)
	check(err)
	book := journal.New(r.bus, inAnHour)
	recs := records.New(r.bus, book)
	reg, err := accounts.New(accounts.Params{Accounts: cfg.AccountList(), Config: cfg.Removal, AXP: cfg.AXP, Log: log, Providers: telemetry.Nop(), UserAgent: "test"})
	check(err)
	r.t.Cleanup(func() { _ = reg.Close() })
	watch, err := records.NewWatch(r.bus)
	check(err)
	r.t.Cleanup(func() { _ = watch.Close() })
	policy := idle.NewPolicy(cfg.Idle, r.bus, log, inAnHour)
	teller, err := parameters.New(parameters.Params{Config: cfg.Parameters, Bus: r.bus, Records: recs, Accounts: reg, Log: log, Meter: meter, Now: inAnHour})
	check(err)
	chats, err := engagements.New(engagements.Params{
		Bus: r.bus, Records: recs, Accounts: reg, Minter: ring, Watch: watch, Parameters: teller, Policy: policy, Log: log, Meter: meter, Now: inAnHour,
	})
	check(err)
	service, err := sessions.New(sessions.Params{
		Bus: r.bus, Records: recs, Journal: book, Accounts: reg, Ender: chats, Parameters: teller, Policy: policy, Log: log, Meter: meter, Now: inAnHour,
	})
	check(err)
	eraser, err := erase.New(erase.Params{Bus: r.bus, Sessions: service, Log: log, Meter: meter, Now: inAnHour})
	check(err)
	out, err := reaper.New(reaper.Params{
		Config: cfg.Reaper, Bus: r.bus, Erasures: eraser, Sessions: service, Engagements: chats, Parameters: teller, Policy: policy, Replicas: replicas,
		Log: log, Meter: meter, Now: inAnHour,
	})
	check(err)
	return out
}

// sweep looks for left-overs twice: everything is safe to repeat.
func (r *rig) sweep() {
	r.t.Helper()
	for range 2 {
		if err := r.reaper(alone("a")).Sweep(r.ctx()); err != nil {
			r.t.Fatal(err)
		}
	}
}

// edit changes a session's record as a crash might have left it.
func (r *rig) edit(s *axpchatv1.Session, f func(*busv1.SessionRecord)) {
	r.t.Helper()
	_, err := r.bus.Sessions.Modify(r.ctx(), bus.SessionKeyOf(axptest.AccountID, s.GetSessionId()), func(rec *busv1.SessionRecord) error {
		f(rec)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) sessionRecord(s *axpchatv1.Session) *busv1.SessionRecord {
	r.t.Helper()
	rec, _, err := r.bus.Sessions.Get(r.ctx(), bus.SessionKeyOf(axptest.AccountID, s.GetSessionId()))
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

func TestTheReaperLeavesAloneWhatIsInOrder(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	r.sweep()
	if got := r.record(e).GetEngagement().GetStatus(); got != axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ACTIVE {
		t.Errorf("the chat is %v", got)
	}
	if n := r.axp.Calls(axp.OpDeleteSession) + r.axp.Calls(axp.OpDisconnectEngagement); n != 0 || r.sessionRecord(s).GetSession().GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE {
		t.Errorf("%d calls to end something", n)
	}
}

func TestTheReaperClosesASessionWhoseClientNeverCameBack(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	r.axp.Fail(axp.OpDeleteSession, axptest.Fault{Status: 503})
	_, err := r.remove(s)
	r.refused(err, axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE)
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	if err := r.reaper(another{}).Sweep(r.ctx()); err != nil || r.axp.Sessions() != 1 {
		t.Fatalf("a replica without a share in it: %v, %d sessions", err, r.axp.Sessions())
	}
	r.sweep()
	closed := r.event(s.GetSessionId(), "session.closed").GetSessionChanged().GetSession()
	if closed.GetCloseReason() != axpchatv1.CloseReason_CLOSE_REASON_USER_CLOSED || r.axp.Sessions() != 0 {
		t.Errorf("closed because of %v, AXP has %d sessions", closed.GetCloseReason(), r.axp.Sessions())
	}
	if n := r.axp.Calls(axp.OpDeleteSession); n != 2 {
		t.Errorf("%d calls to delete, want the one that failed and one more", n)
	}
}

// another is a replica that is not there any more, and so has no share.
type another struct{}

func (another) Present() (self string, all []string) { return "", nil }

func TestTheReaperRemovesASessionHalfCreated(t *testing.T) {
	r := newRig(t, nil)
	id := ident.Derived("session", axptest.AccountID, "ada", "r-1")
	key := bus.SessionKeyOf(axptest.AccountID, id)
	_, err := r.bus.Sessions.Create(r.ctx(), key, &busv1.SessionRecord{
		Session: &axpchatv1.Session{SessionId: id, Account: axptest.AccountID, Status: axpchatv1.SessionStatus_SESSION_STATUS_CREATING},
		Subject: "ada", RequestHash: []byte("x"), AttemptTime: timestamppb.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.sweep()
	if _, _, err := r.bus.Sessions.Get(r.ctx(), key); err == nil {
		t.Error("it is still there")
	}
	res, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: ada, Request: &axpchatv1.CreateSessionRequest{RequestId: "r-1"}})
	if err != nil || res.GetResponse().GetSession().GetStatus() != axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE {
		t.Errorf("the same request again: %v, %v", res, err)
	}
}

func TestTheReaperDeletesSpareSessions(t *testing.T) {
	r := newRig(t, nil)
	s, spare := r.session(ada), r.session(ada)
	r.edit(s, func(rec *busv1.SessionRecord) {
		rec.SpareAxpSessionIds = []string{spare.GetAxpSessionId(), s.GetAxpSessionId()}
	})
	r.sweep()
	if _, ok := r.axp.Session(s.GetAxpSessionId()); !ok || r.axp.Sessions() != 1 {
		t.Errorf("AXP has %d sessions; the one in use: %v", r.axp.Sessions(), ok)
	}
	if left := r.sessionRecord(s).GetSpareAxpSessionIds(); len(left) != 0 {
		t.Errorf("still noted: %v", left)
	}
}

func TestTheReaperTellsParametersThatACrashHasLeft(t *testing.T) {
	r := newRig(t, nil)
	s := r.session(ada)
	r.edit(s, func(rec *busv1.SessionRecord) {
		rec.Session.SessionParameters = map[string]string{"page": "last"}
		rec.UnsentParameters, rec.FlushTime, rec.Flushing = []string{"page"}, timestamppb.Now(), true
	})
	r.sweep()
	if got := r.axpValue(s, "page"); got != "last" {
		t.Errorf("AXP has %q", got)
	}
}

func TestTheReaperSetsATimerThatGotLost(t *testing.T) {
	r := newRig(t, map[string]string{"SESSION_TTL": "40m"})
	s := r.session(ada)
	timers, err := r.bus.JS.Stream(t.Context(), bus.TimersStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := timers.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.sweep()
	timer := bus.Timer{Kind: idle.TimerKind, Account: axptest.AccountID, Session: s.GetSessionId()}
	r.await("the orchestrator has set it to the right time", func() bool {
		has, err := r.bus.HasTimer(r.ctx(), timer)
		return err == nil && has
	})
	if got := r.sessionRecord(s).GetSession().GetStatus(); got != axpchatv1.SessionStatus_SESSION_STATUS_ACTIVE {
		t.Errorf("the session is %v", got)
	}
}

func TestTheReaperSettlesAChatHalfCreated(t *testing.T) {
	r := newRig(t, nil)
	s, slow := r.session(ada), make(chan struct{})
	defer close(slow)
	e, _ := r.creating(s, axptest.Fault{Wait: slow, Status: 500})
	made := r.dialogInAXP(s, r.record(e).GetProviderDialogId())
	r.sweep()
	if got := r.record(e).GetEngagement(); got.GetAxpDialogId() != made {
		t.Errorf("the chat is %v, AXP's dialog is %s", got, made)
	}
}

func TestTheReaperEndsAChatWhoseSessionIsClosed(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	r.edit(s, func(rec *busv1.SessionRecord) { rec.Session.Status = axpchatv1.SessionStatus_SESSION_STATUS_CLOSED })
	r.sweep()
	ended := r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	if got := ended.GetEngagementTerminated().GetReason(); got != axpchatv1.CloseReason_CLOSE_REASON_SYSTEM_CLOSED {
		t.Errorf("it ended because of %v", got)
	}
}

// TestTheReaperEndsAChatWhoseEndGotLost: the record says ENDING, but the outbox
// knows nothing of it.
func TestTheReaperEndsAChatWhoseEndGotLost(t *testing.T) {
	r := newRig(t, nil)
	s, e := r.chat()
	_, err := r.bus.Engagements.Modify(r.ctx(), bus.EngagementKey(axptest.AccountID, s.GetSessionId(), e.GetEngagementId()), func(rec *busv1.EngagementRecord) error {
		rec.Engagement.Status = axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ENDING
		rec.Engagement.EndReason = axpchatv1.CloseReason_CLOSE_REASON_USER_CLOSED
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.sweep()
	r.event(s.GetSessionId(), e.GetEngagementId()+".terminated")
	if n := r.axp.Calls(axp.OpDisconnectEngagement); n != 1 {
		t.Errorf("disconnected %d times", n)
	}
}
