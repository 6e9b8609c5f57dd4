package orchestrator_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

// texts are what agents have said, as the journal has it, in its order.
func (r *rig) texts(session string) []string {
	r.t.Helper()
	var out []string
	for _, ev := range r.journal(session) {
		if m := ev.GetMessageArrived(); m != nil {
			out = append(out, m.GetBody().GetElementText().GetText())
		}
	}
	return out
}

// TestWhatTheJournalHasDroppedIsNotToldAgain: a chat may go on for longer than the
// journal keeps what was said in it. AXP still lists all of it.
func TestWhatTheJournalHasDroppedIsNotToldAgain(t *testing.T) {
	r := newRig(t, map[string]string{"BACKFILL_QUIET_AFTER": "300ms"})
	s, e := r.chat()
	first := r.record(e).GetEngagement().GetAxpDialogId()
	r.axp.Say(first, "told a week ago", 1, time.Now().Add(-7*24*time.Hour))
	r.axp.Say(first, "lost just now", 2, time.Now())
	stream, err := r.bus.JS.Stream(r.ctx(), bus.EventsStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(r.ctx(), jetstream.WithPurgeSequence(stream.CachedInfo().State.LastSeq)); err != nil {
		t.Fatal(err)
	}
	r.await("what was lost", func() bool { return slices.Contains(r.texts(s.GetSessionId()), "lost just now") })
	if got := r.texts(s.GetSessionId()); len(got) != 1 {
		t.Errorf("clients were told %q", got)
	}
}

// TestACallbackWithoutTheMessagesIDIsKnownByItsIndex: AXP may list a message with an
// id that its callback did not have.
func TestACallbackWithoutTheMessagesIDIsKnownByItsIndex(t *testing.T) {
	r := newRig(t, map[string]string{"BACKFILL_QUIET_AFTER": "300ms"})
	s, e := r.chat()
	dialog, index := r.record(e).GetEngagement().GetAxpDialogId(), int64(1)
	r.axp.Say(dialog, "told", 1, time.Now())
	r.tell(e, "told", &axpchatv1.Event{Payload: &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{
		MessageId: "derived", MessageIndex: &index, Body: &axpchatv1.MessageBody{ElementText: &axpchatv1.ElementText{Text: "told"}},
	}}})
	r.axp.Say(dialog, "lost", 2, time.Now())
	r.await("what was lost", func() bool { return slices.Contains(r.texts(s.GetSessionId()), "lost") })
	if got := r.texts(s.GetSessionId()); !slices.Equal(got, []string{"told", "lost"}) {
		t.Errorf("clients were told %q", got)
	}
}
