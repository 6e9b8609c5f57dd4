package backfill

import (
	"testing"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

func arrived(index int64) *axpchatv1.Event {
	return &axpchatv1.Event{Payload: &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{MessageIndex: new(index)}}}
}

func delivered(id string, index int64) *axpchatv1.Event {
	return &axpchatv1.Event{Payload: &axpchatv1.Event_MessageDelivered{MessageDelivered: &axpchatv1.Message{MessageId: id, MessageIndex: new(index)}}}
}

func status(id string, s axpchatv1.MessageStatus) *axpchatv1.Event {
	return &axpchatv1.Event{Payload: &axpchatv1.Event_MessageStatusChanged{MessageStatusChanged: &axpchatv1.MessageStatusChanged{MessageId: id, Status: s}}}
}

func terminated() *axpchatv1.Event {
	return &axpchatv1.Event{Payload: &axpchatv1.Event_EngagementTerminated{EngagementTerminated: &axpchatv1.EngagementTerminated{}}}
}

const sent = axpchatv1.MessageStatus_MESSAGE_STATUS_SENT

func TestWhenADialogIsDoubted(t *testing.T) {
	cfg := Config{HoleWait: 6 * time.Second, EchoWait: 15 * time.Second, QuietAfter: time.Minute}
	type step struct {
		after time.Duration
		event *axpchatv1.Event
	}
	for _, c := range []struct {
		name  string
		steps []step
		after time.Duration
		want  doubt
	}{
		{"messages in a row", []step{{0, arrived(1)}, {0, arrived(2)}}, 59 * time.Second, none},
		{"a hole that is still young", []step{{0, arrived(1)}, {0, arrived(3)}}, 5 * time.Second, none},
		{"a hole that stays", []step{{0, arrived(1)}, {0, arrived(3)}}, 6 * time.Second, hole},
		{"a hole that later messages do not make younger", []step{{0, arrived(1)}, {0, arrived(3)}, {5 * time.Second, arrived(4)}}, time.Second, hole},
		{"a hole that closes", []step{{0, arrived(1)}, {0, arrived(3)}, {time.Second, arrived(2)}}, 30 * time.Second, none},
		{"an echo that does not come", []step{{0, status("m", sent)}}, 15 * time.Second, echo},
		{"an echo that comes", []step{{0, status("m", sent)}, {time.Second, delivered("m", 1)}}, 30 * time.Second, none},
		{"an echo that overtakes", []step{{0, delivered("m", 1)}, {0, status("m", sent)}}, 30 * time.Second, none},
		{"a message that failed", []step{{0, status("m", axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED)}}, 30 * time.Second, none},
		{"a dialog gone quiet", []step{{0, arrived(1)}}, time.Minute, quiet},
		{"a dialog that is over", []step{{0, arrived(1)}, {0, arrived(3)}, {0, terminated()}}, time.Hour, none},
	} {
		d, now := newDialog(), time.Unix(1000, 0)
		for _, s := range c.steps {
			now = now.Add(s.after)
			d.note(s.event, now)
		}
		if got := d.doubt(cfg, now.Add(c.after)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestADoubtIsAnsweredOnce(t *testing.T) {
	cfg := Config{HoleWait: time.Second, EchoWait: time.Second, QuietAfter: time.Minute}
	d, now := newDialog(), time.Unix(1000, 0)
	d.note(arrived(1), now)
	d.note(arrived(3), now)
	d.note(status("m", sent), now)
	d.missing = true
	now = now.Add(2 * time.Minute)
	d.settle(cfg, now)
	if got := d.doubt(cfg, now.Add(time.Minute+59*time.Second)); got != none {
		t.Errorf("after a look there is the doubt %q", got)
	}
	if got := d.doubt(cfg, now.Add(2*time.Minute)); got != quiet {
		t.Errorf("when the silence has doubled there is the doubt %q", got)
	}
	d.note(arrived(5), now)
	if got := d.doubt(cfg, now.Add(time.Second)); got != hole {
		t.Errorf("a new hole is not noticed: %q", got)
	}
}
