package history

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// TestTheLaterChangeOfAMessageHolds in whatever order the updates come: callbacks
// overtake each other, and one whose message was fetched from AXP may come after all.
func TestTheLaterChangeOfAMessageHolds(t *testing.T) {
	now := time.Now()
	copyOf := func(text string, status axpchatv1.MessageStatus, changed time.Time) *axpchatv1.Event {
		return &axpchatv1.Event{EngagementId: "e1", Payload: &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{
			MessageId: "m1", AxpMessageId: "m1", Status: status, UpdateTime: timestamppb.New(changed),
			Body: &axpchatv1.MessageBody{ElementText: &axpchatv1.ElementText{Text: text}},
		}}}
	}
	first := copyOf("a slip of the pen", axpchatv1.MessageStatus_MESSAGE_STATUS_DELIVERED, now)
	second := copyOf("what was meant", axpchatv1.MessageStatus_MESSAGE_STATUS_READ, now.Add(time.Second))
	for name, events := range map[string][]*axpchatv1.Event{"in order": {first, second}, "overtaken": {second, first}} {
		f := newFold("e1")
		for _, ev := range events {
			f.add(ev)
		}
		if len(f.entries) != 1 {
			t.Fatalf("%s: %d messages", name, len(f.entries))
		}
		m := f.entries[0].message
		if got := m.GetBody().GetElementText().GetText(); got != "what was meant" || m.GetStatus() != axpchatv1.MessageStatus_MESSAGE_STATUS_READ {
			t.Errorf("%s: %q, %v", name, got, m.GetStatus())
		}
		if !m.GetUpdateTime().AsTime().Equal(now.Add(time.Second)) {
			t.Errorf("%s: changed at %v", name, m.GetUpdateTime().AsTime())
		}
	}
}

// TestOnlyAxpSaysWhichCopyIsNewer: what was accepted here has the time of another
// clock.
func TestOnlyAxpSaysWhichCopyIsNewer(t *testing.T) {
	now := time.Now()
	f := newFold("e1")
	f.add(&axpchatv1.Event{EngagementId: "e1", Payload: &axpchatv1.Event_MessageAccepted{MessageAccepted: &axpchatv1.Message{
		MessageId: "m1", ClientMessageId: "c1", UpdateTime: timestamppb.New(now),
	}}})
	index := int64(7)
	f.add(&axpchatv1.Event{EngagementId: "e1", Payload: &axpchatv1.Event_MessageDelivered{MessageDelivered: &axpchatv1.Message{
		MessageId: "m1", AxpMessageId: "a1", MessageIndex: &index, UpdateTime: timestamppb.New(now.Add(-time.Minute)),
	}}})
	if m := f.entries[0].message; m.GetMessageIndex() != 7 || m.GetClientMessageId() != "c1" {
		t.Errorf("message %v", m)
	}
}
