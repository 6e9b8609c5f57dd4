package history

import (
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// entry is a message with its first place in the journal.
type entry struct {
	sequence uint64
	message  *axpchatv1.Message
}

// fold builds the messages of one engagement from its events.
type fold struct {
	engagement string
	entries    []*entry
	byID       map[string]*entry
}

func newFold(engagement string) *fold {
	return &fold{engagement: engagement, byID: map[string]*entry{}}
}

// add takes the next event of the journal.
func (f *fold) add(ev *axpchatv1.Event) {
	if ev.GetEngagementId() != f.engagement {
		return
	}
	switch p := ev.GetPayload().(type) {
	case *axpchatv1.Event_MessageAccepted:
		f.upsert(ev, p.MessageAccepted, axpchatv1.MessageStatus_MESSAGE_STATUS_ACCEPTED)
	case *axpchatv1.Event_MessageDelivered:
		f.upsert(ev, p.MessageDelivered, axpchatv1.MessageStatus_MESSAGE_STATUS_DELIVERED)
	case *axpchatv1.Event_MessageArrived:
		f.upsert(ev, p.MessageArrived, axpchatv1.MessageStatus_MESSAGE_STATUS_DELIVERED)
	case *axpchatv1.Event_MessageStatusChanged:
		f.status(p.MessageStatusChanged)
	}
}

// upsert takes a whole message. What the newer copy does not say stays: AXP's
// echo knows nothing of the id that the app chose. The newer one need not be the one
// that comes later: callbacks overtake each other, and come late.
func (f *fold) upsert(ev *axpchatv1.Event, m *axpchatv1.Message, status axpchatv1.MessageStatus) {
	m = proto.CloneOf(m)
	if m.GetStatus() == axpchatv1.MessageStatus_MESSAGE_STATUS_UNSPECIFIED {
		m.Status = status
	}
	old := f.byID[m.GetMessageId()]
	if old == nil {
		e := &entry{sequence: ev.GetSequence(), message: m}
		f.byID[m.GetMessageId()] = e
		f.entries = append(f.entries, e)
		return
	}
	was := old.message
	if changedBefore(m, was) {
		m, was = was, m
	}
	if m.GetClientMessageId() == "" {
		m.ClientMessageId = was.GetClientMessageId()
	}
	if m.GetBody() == nil {
		m.Body = was.GetBody()
	}
	if m.GetAxpMessageId() == "" {
		m.AxpMessageId = was.GetAxpMessageId()
	}
	if m.GetFallbackText() == "" {
		m.FallbackText = was.GetFallbackText()
	}
	if len(m.GetCustomData()) == 0 {
		m.CustomData = was.GetCustomData()
	}
	if rank(was.GetStatus()) > rank(m.GetStatus()) {
		m.Status, m.Failure = was.GetStatus(), was.GetFailure()
	}
	old.message = m
}

// changedBefore tells whether AXP says that a is an older copy than b. The clocks of
// others count for nothing here.
func changedBefore(a, b *axpchatv1.Message) bool {
	return a.GetAxpMessageId() != "" && b.GetAxpMessageId() != "" && a.GetUpdateTime() != nil && b.GetUpdateTime() != nil &&
		a.GetUpdateTime().AsTime().Before(b.GetUpdateTime().AsTime())
}

func (f *fold) status(c *axpchatv1.MessageStatusChanged) {
	e := f.byID[c.GetMessageId()]
	if e == nil || rank(c.GetStatus()) <= rank(e.message.GetStatus()) {
		return
	}
	e.message.Status, e.message.Failure = c.GetStatus(), c.GetFailure()
}

// rank orders the statuses: a message never goes back. A message that was given
// up and is delivered after all counts as delivered.
func rank(s axpchatv1.MessageStatus) int {
	switch s {
	case axpchatv1.MessageStatus_MESSAGE_STATUS_ACCEPTED:
		return 1
	case axpchatv1.MessageStatus_MESSAGE_STATUS_SENT:
		return 2
	case axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED:
		return 3
	case axpchatv1.MessageStatus_MESSAGE_STATUS_DELIVERED:
		return 4
	case axpchatv1.MessageStatus_MESSAGE_STATUS_READ:
		return 5
	case axpchatv1.MessageStatus_MESSAGE_STATUS_DELETED:
		return 6
	default:
		return 0
	}
}
