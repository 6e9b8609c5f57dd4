package outbox

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/session-orchestrator/internal/journal"
)

// poisoned panics for some messages.
type poisoned struct{ *upstream }

func (p poisoned) Work(ctx context.Context, it *Item) error {
	if strings.HasPrefix(it.Entry.GetMessage().GetMessageId(), "poison") {
		panic("poison")
	}
	return p.upstream.Work(ctx, it)
}

// TestAnEntryThatPanicsStopsNobody: what is behind it goes on, of its session and of
// others, and nothing stays in the outbox.
func TestAnEntryThatPanicsStopsNobody(t *testing.T) {
	s, up := bustest.Server(t), newUpstream()
	a := start(t, s, poisoned{up})
	want := publish(t, a.bus, 5, 20, "before")
	for session := range want {
		put(t, a.bus, session, "poison-"+session)
	}
	want = join(want, publish(t, a.bus, 5, 20, "after"))
	await.Until(t, "all others arrive", func() bool { return up.count() == 40 })
	up.check(t, want)
	await.Until(t, "the outbox is empty", func() bool { return stored(t, a.bus) == 0 })
}

// TestAMessageThatPanicsFails: its customer is told so, once, and the one behind it
// has its turn.
func TestAMessageThatPanicsFails(t *testing.T) {
	b := bustest.Start(t)
	// Without records every message panics.
	sender, err := NewSender(SenderParams{
		Config:  Config{RetryMin: 10 * time.Millisecond, RetryMax: 20 * time.Millisecond, MaxAge: time.Hour},
		Bus:     b,
		Journal: journal.New(b, time.Now), Log: slog.New(slog.DiscardHandler), Meter: noop.NewMeterProvider().Meter(""), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	startOn(t, b, sender)
	put(t, b, "session", "one")
	put(t, b, "session", "two")
	await.Until(t, "the outbox is empty", func() bool { return stored(t, b) == 0 })
	events, _, err := b.ReadEvents(t.Context(), "ABCDEF", "session", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var failed []string
	for _, ev := range events {
		if s := statusOf(ev); s.GetStatus() == axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED {
			if s.GetFailure().GetReason() != "INTERNAL" {
				t.Errorf("%s failed with %v", s.GetMessageId(), s.GetFailure())
			}
			failed = append(failed, s.GetMessageId())
		}
	}
	if len(failed) != 2 || failed[0] != "one" || failed[1] != "two" {
		t.Errorf("failed are %v", failed)
	}
}

func statusOf(e bus.StoredEvent) *axpchatv1.MessageStatusChanged {
	return e.Record.GetEvent().GetMessageStatusChanged()
}
