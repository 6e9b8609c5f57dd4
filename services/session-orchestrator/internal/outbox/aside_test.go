package outbox

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/session-orchestrator/internal/journal"
)

// hopeless is a sender that has neither records nor journal: working a message
// panics, and failing it as well.
func hopeless(t *testing.T, b *bus.Bus) *Sender {
	t.Helper()
	s, err := NewSender(SenderParams{
		Config: Config{RetryMin: 5 * time.Millisecond, RetryMax: 10 * time.Millisecond, MaxAge: time.Hour},
		Bus:    b, Log: slog.New(slog.DiscardHandler), Meter: noop.NewMeterProvider().Meter(""), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// entry is a message in the outbox.
func entry(session, id string) *busv1.OutboxEntry {
	return &busv1.OutboxEntry{
		Account: "ABCDEF", SessionId: session, EngagementId: "e", AcceptTime: timestamppb.Now(),
		Command: &busv1.OutboxEntry_Message{Message: &busv1.OutboxMessage{
			MessageId: id, Request: &axpchatv1.SendMessageRequest{ClientMessageId: "c-" + id, Text: "what the customer wrote"},
		}},
	}
}

// store puts bytes into the outbox, as they are.
func store(t *testing.T, b *bus.Bus, session string, data []byte) {
	t.Helper()
	subject := bus.OutboxSubject(bus.Partition(session, b.Config().Partitions), b.Config().Partitions, "ABCDEF", session)
	if _, err := b.JS.Publish(t.Context(), subject, data); err != nil {
		t.Fatal(err)
	}
}

func encode(t *testing.T, e *busv1.OutboxEntry) []byte {
	t.Helper()
	data, err := proto.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// aside is what was set aside.
func aside(t *testing.T, b *bus.Bus) (all []*busv1.AsideRecord) {
	t.Helper()
	for next := uint64(1); ; {
		rec, at, found, err := b.NextAside(t.Context(), next)
		if err != nil {
			t.Fatal(err)
		}
		if !found {
			return all
		}
		all, next = append(all, rec), at+1
	}
}

// ends are the events that tell how a message of the session ended.
func ends(t *testing.T, b *bus.Bus, session string) (out []*axpchatv1.Event) {
	t.Helper()
	events, _, err := b.ReadEvents(t.Context(), "ABCDEF", session, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if statusOf(e) != nil {
			out = append(out, e.Record.GetEvent())
		}
	}
	return out
}

func awaitEmpty(t *testing.T, b *bus.Bus) {
	t.Helper()
	await.Until(t, "the outbox is empty", func() bool { return stored(t, b) == 0 })
}

// TestAMessageThatCannotEvenBeFailedIsFailed: its customer learns it, once and after
// the message itself; an operator finds it as it was; the one behind it has its turn.
func TestAMessageThatCannotEvenBeFailedIsFailed(t *testing.T) {
	b := bustest.Start(t)
	first, second := entry("session", "one"), entry("session", "two")
	store(t, b, "session", encode(t, first))
	store(t, b, "session", encode(t, second))
	startOn(t, b, hopeless(t, b))
	awaitEmpty(t, b)
	got := ends(t, b, "session")
	if len(got) != 2 {
		t.Fatalf("told are %v", got)
	}
	for i, id := range []string{"one", "two"} {
		s := got[i].GetMessageStatusChanged()
		if s.GetMessageId() != id || s.GetClientMessageId() != "c-"+id || s.GetStatus() != axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED ||
			s.GetFailure().GetReason() != "INTERNAL" || got[i].GetEngagementId() != "e" || got[i].GetEventId() != journal.FailedID(id) {
			t.Errorf("%s is told as %v", id, got[i])
		}
	}
	events, _, err := b.ReadEvents(t.Context(), "ABCDEF", "session", 0, 100)
	if err != nil || len(events) != 4 || events[0].Record.GetEvent().GetMessageAccepted().GetMessageId() != "one" {
		t.Errorf("the journal has %v, %v", events, err)
	}
	kept := aside(t, b)
	if len(kept) != 2 || !proto.Equal(mustRead(t, kept[0]), first) || !proto.Equal(mustRead(t, kept[1]), second) {
		t.Fatalf("set aside are %v", kept)
	}
	if k := kept[0]; k.GetCause() != "panic" || k.GetSequence() != 1 || k.GetStoreTime() == nil || k.GetSubject() == "" {
		t.Errorf("set aside is %v", k)
	}
}

func mustRead(t *testing.T, rec *busv1.AsideRecord) *busv1.OutboxEntry {
	t.Helper()
	e := &busv1.OutboxEntry{}
	if err := proto.Unmarshal(rec.GetData(), e); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestAnEntryThatCannotBeReadIsKept, and its customer told as far as it can be read.
func TestAnEntryThatCannotBeReadIsKept(t *testing.T) {
	b := bustest.Start(t)
	lost := entry("session", "lost")
	lost.SessionId = "no session"
	broken := append(encode(t, entry("session", "broken")), 0xff)
	store(t, b, "session", []byte("\xff\xff"))
	store(t, b, "session", broken)
	store(t, b, "session", encode(t, lost))
	startOn(t, b, newUpstream())
	awaitEmpty(t, b)
	kept := aside(t, b)
	if len(kept) != 3 || string(kept[1].GetData()) != string(broken) || kept[1].GetCause() != "unreadable" {
		t.Fatalf("set aside are %v", kept)
	}
	got := ends(t, b, "session")
	if len(got) != 2 || got[0].GetEventId() != journal.FailedID("broken") || got[1].GetEventId() != journal.FailedID("lost") {
		t.Errorf("told are %v", got)
	}
}

// TestTheEndOfAChatThatCannotBeWorkedIsKept.
func TestTheEndOfAChatThatCannotBeWorkedIsKept(t *testing.T) {
	b := bustest.Start(t)
	store(t, b, "session", encode(t, &busv1.OutboxEntry{Account: "ABCDEF", SessionId: "session", EngagementId: "e", Command: &busv1.OutboxEntry_End{End: &busv1.OutboxEnd{}}}))
	startOn(t, b, hopeless(t, b))
	awaitEmpty(t, b)
	if kept := aside(t, b); len(kept) != 1 || kept[0].GetCause() != "given up" {
		t.Errorf("set aside are %v", kept)
	}
}

// panicking panics for everything.
type panicking struct{}

func (panicking) Work(context.Context, *Item) error { panic("poison") }

// TestWhatCannotBeSetAsideStays in the outbox, and nobody is told anything yet. It is
// set aside when that works.
func TestWhatCannotBeSetAsideStays(t *testing.T) {
	b := bustest.Start(t)
	if err := b.JS.DeleteStream(t.Context(), bus.AsideStream); err != nil {
		t.Fatal(err)
	}
	store(t, b, "session", encode(t, entry("session", "one")))
	a := startOn(t, b, panicking{})
	store(t, b, "other", encode(t, entry("other", "two")))
	await.Until(t, "both are being worked", func() bool { return a.all()[bus.Partition("session", b.Config().Partitions)].busy() > 0 })
	if got := ends(t, b, "session"); len(got) > 0 || stored(t, b) != 2 {
		t.Errorf("%d in the outbox, told are %v", stored(t, b), got)
	}
	if err := b.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitEmpty(t, b)
	if got, kept := ends(t, b, "session"), aside(t, b); len(got) != 1 || len(kept) != 2 {
		t.Errorf("told are %v, set aside %v", got, kept)
	}
}

// TestAMessageThatWasSentIsNotToldToHaveFailed, whatever panics after that.
func TestAMessageThatWasSentIsNotToldToHaveFailed(t *testing.T) {
	b := bustest.Start(t)
	e := entry("session", "one")
	if err := journal.New(b, time.Now).Sent(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	store(t, b, "session", encode(t, e))
	startOn(t, b, panicking{})
	awaitEmpty(t, b)
	if got := ends(t, b, "session"); len(got) != 1 || got[0].GetMessageStatusChanged().GetStatus() != axpchatv1.MessageStatus_MESSAGE_STATUS_SENT {
		t.Errorf("told are %v", got)
	}
	if len(aside(t, b)) != 1 {
		t.Error("an operator does not find it")
	}
}

// TestNothingOfAnErasedSessionIsSetAside.
func TestNothingOfAnErasedSessionIsSetAside(t *testing.T) {
	b := bustest.Start(t)
	_, err := b.Erasures.Create(t.Context(), bus.ErasedKey("ABCDEF", "session"), &busv1.ErasureRecord{State: busv1.ErasureState_ERASURE_STATE_ERASING})
	if err == nil {
		err = b.FollowErased(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	store(t, b, "session", encode(t, entry("session", "one")))
	startOn(t, b, panicking{})
	awaitEmpty(t, b)
	if kept := aside(t, b); len(kept) != 0 {
		t.Errorf("set aside are %v", kept)
	}
}
