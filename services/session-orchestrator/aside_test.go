package orchestrator_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

// keep sets something of a session aside.
func (r *rig) keep(session, data string) {
	r.t.Helper()
	record, err := proto.Marshal(&busv1.AsideRecord{
		Subject: bus.OutboxSubject(0, 4, axptest.AccountID, session), Sequence: 7, Data: []byte(data), Cause: "panic", Version: "v1", AsideTime: timestamppb.Now(),
	})
	if err == nil {
		_, err = r.bus.JS.Publish(r.ctx(), "chat.aside.OUTBOX."+axptest.AccountID+"."+session, record)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// asideCommand runs one of the commands for what was set aside.
func (r *rig) asideCommand(args ...string) (string, error) {
	r.t.Helper()
	var out strings.Builder
	open := func() (*bus.Bus, func() error, error) { return r.bus, func() error { return nil }, nil }
	for _, c := range orchestrator.AsideCommands(r.ctx(), lifecycle.Env{Args: args, Stdout: &out}, open) {
		if c.Name == args[0] {
			err := c.Run()
			return out.String(), err
		}
	}
	r.t.Fatalf("there is no command %s", args[0])
	return "", nil
}

// TestOperatorsFindWhatWasSetAside, without what it says, and erase it by its number.
func TestOperatorsFindWhatWasSetAside(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.keep("one", "what a customer wrote")
	r.keep("two", "what another one wrote")
	listed, err := r.asideCommand("list-aside")
	if err != nil || strings.Count(listed, "\n") != 2 || !strings.Contains(listed, ".one sequence 7 (21 bytes), panic in version v1: kept") || strings.Contains(listed, "wrote") {
		t.Errorf("listed %q: %v", listed, err)
	}
	for _, args := range [][]string{{"drop-aside"}, {"drop-aside", "x"}, {"drop-aside", "0"}} {
		if out, err := r.asideCommand(args...); err == nil || out != "" {
			t.Errorf("%v: %q, %v", args, out, err)
		}
	}
	if out, err := r.asideCommand("drop-aside", "1"); err != nil || !strings.HasPrefix(out, "1 ") || !strings.HasSuffix(out, ": erased\n") {
		t.Errorf("dropped %q: %v", out, err)
	}
	if n, err := r.bus.CountAside(t.Context()); n != 1 || err != nil {
		t.Errorf("%d are left, want 1: %v", n, err)
	}
	if got, err := r.asideCommand("list-aside"); err != nil || !strings.HasPrefix(got, "2 ") {
		t.Errorf("then listed %q: %v", got, err)
	}
}

// TestAnEventThatCannotBeReadIsSetAside: it stops neither the projector nor the
// messages of its session, and an operator finds it.
func TestAnEventThatCannotBeReadIsSetAside(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s, chat := r.chat()
	if _, err := r.bus.JS.Publish(r.ctx(), bus.EventSubject(axptest.AccountID, s.GetSessionId()), []byte("\xff\xff\xff")); err != nil {
		t.Fatal(err)
	}
	r.await("it is set aside", func() bool { n, err := r.bus.CountAside(r.ctx()); return n == 1 && err == nil })
	rec, _, _, err := r.bus.NextAside(r.ctx(), 1)
	if err != nil || string(rec.GetData()) != "\xff\xff\xff" || rec.GetCause() != "unreadable" {
		t.Errorf("set aside is %v: %v", rec, err)
	}
	r.stop() // who takes over looks through the journal
	r.start(nil)
	m := r.mustSend(chat, "c1", "still here")
	r.event(s.GetSessionId(), m.GetMessageId()+".sent")
	r.tell(chat, "joins", &axpchatv1.Event{Payload: &axpchatv1.Event_ParticipantAdded{ParticipantAdded: &axpchatv1.ParticipantChanged{
		Participant: &axpchatv1.Participant{ParticipantId: "late", ConnectionId: "late", Connected: true, ParticipantType: axpchatv1.ParticipantType_PARTICIPANT_TYPE_AGENT},
	}}})
	r.await("the agent is in the record", func() bool {
		rec, _, err := r.bus.Engagements.Get(r.ctx(), bus.EngagementKey(axptest.AccountID, s.GetSessionId(), chat.GetEngagementId()))
		return err == nil && strings.Contains(rec.String(), "late")
	})
}
