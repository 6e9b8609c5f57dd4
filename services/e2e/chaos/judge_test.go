package chaos

import (
	"testing"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// arrived is an event with a message of an agent.
func arrived(sequence uint64, event, message string) *axpchatv1.Event {
	return &axpchatv1.Event{
		Sequence: sequence, EventId: event, Cursor: event,
		Payload: &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{AxpMessageId: message, AxpStatus: "DELIVERED"}},
	}
}

func TestClientCountsWhatBreaksThePromise(t *testing.T) {
	for _, tt := range []struct {
		name   string
		events []*axpchatv1.Event
		want   tally
	}{
		{"all in order", []*axpchatv1.Event{arrived(1, "a", "1"), arrived(4, "b", "2")}, tally{Delivered: 2}},
		{"one twice on a stream", []*axpchatv1.Event{arrived(1, "a", "1"), arrived(1, "a", "1")}, tally{Delivered: 1, Dropped: 1, OutOfOrder: 1}},
		{"an event again under a new sequence", []*axpchatv1.Event{arrived(1, "a", "1"), arrived(2, "a", "1")}, tally{Delivered: 2, Repeated: 1}},
		{"a message again as another event", []*axpchatv1.Event{arrived(1, "a", "1"), arrived(2, "b", "1")}, tally{Delivered: 2, Repeated: 1}},
		{"a new event too late", []*axpchatv1.Event{arrived(5, "a", "1"), arrived(3, "b", "2")}, tally{Delivered: 1, Dropped: 1, OutOfOrder: 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(0, nil, 1)
			c.since = time.Now().Add(time.Hour) // pauses are not looked at here
			a := &attachment{client: c}
			for _, e := range tt.events {
				c.event(a, e)
			}
			got := c.tally
			got.Pause = 0
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestAnEventSeenBeforeIsNoRepeatOnANewStream(t *testing.T) {
	c := newClient(0, nil, 1)
	c.event(&attachment{client: c}, arrived(1, "a", "1"))
	c.event(&attachment{client: c}, arrived(1, "a", "1"))
	if c.tally.Dropped != 1 || c.tally.Repeated+c.tally.OutOfOrder != 0 {
		t.Errorf("%+v", c.tally)
	}
}

func TestComparisonWithAXP(t *testing.T) {
	c := newClient(0, nil, 1)
	accept := func(id string, final axpchatv1.MessageStatus) {
		c.accepted(&outgoing{clientID: id}, id, 0)
		c.told(id, final)
	}
	accept("kept", axpchatv1.MessageStatus_MESSAGE_STATUS_SENT)
	accept("overtaken", axpchatv1.MessageStatus_MESSAGE_STATUS_SENT)
	accept("early", axpchatv1.MessageStatus_MESSAGE_STATUS_DELIVERED)
	accept("gone", axpchatv1.MessageStatus_MESSAGE_STATUS_SENT)
	accept("failed", axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED)
	accept("failed there", axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED)
	accept("silent", axpchatv1.MessageStatus_MESSAGE_STATUS_UNSPECIFIED)
	chat := suitetest.DeskChat{}
	for _, id := range []string{"kept", "kept", "early", "overtaken", "failed there", "silent"} {
		chat.Messages = append(chat.Messages, suitetest.DeskMessage{SenderType: "CUSTOMER", ProviderMessageID: id})
	}
	r := &run{blamed: map[string]bool{}}
	row := Row{}
	r.compare(&row, c, chat)
	want := Messages{InAXP: 5, Lost: 1, Twice: 1, OutOfOrder: 1, Told: 4, Failed: 2, FailedButThere: 1, Untold: 1}
	if row.Messages != want {
		t.Errorf("got %+v\nwant %+v", row.Messages, want)
	}
	if row.OK() {
		t.Error("the row must have failed")
	}
	again := Row{}
	r.compare(&again, c, chat)
	if !again.OK() {
		t.Errorf("blamed again: %+v", again.Messages)
	}
}

func TestAcceptedCallbacksThatNeverCameAreLost(t *testing.T) {
	h := &hooks{accepted: map[string]map[string]time.Time{}, order: map[string][]string{}}
	h.accept([]byte(`{"eventType":"MESSAGES","messageId":"1","status":"DELIVERED","providerDialogId":"s.e.x"}`))
	h.accept([]byte(`{"eventType":"MESSAGES","messageId":"2","status":"DELIVERED","providerDialogId":"s.e.x"}`))
	h.accept([]byte(`{"eventType":"MESSAGES","messageId":"2","status":"DELIVERED","providerDialogId":"s.e.x"}`))
	c := newClient(0, nil, 1)
	c.session = "s"
	c.event(&attachment{client: c}, arrived(1, "a", "1"))
	if lost := c.lost(h); len(lost) != 1 || lost[0] != "MESSAGES 2 DELIVERED" {
		t.Errorf("lost %v", lost)
	}
	if c.missing(h) == "" {
		t.Error("nothing is missing")
	}
	c.event(&attachment{client: c}, arrived(2, "b", "2"))
	if lost, missing := c.lost(h), c.missing(h); len(lost) > 0 || missing != "" {
		t.Errorf("lost %v, missing %q", lost, missing)
	}
	if n, twice, _ := h.counts(); n != 2 || twice != 1 {
		t.Errorf("%d accepted, %d twice", n, twice)
	}
}
