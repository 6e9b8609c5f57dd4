package normalise

import (
	"bytes"

	"google.golang.org/protobuf/types/known/timestamppb"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/keyring"
)

// AXP's words for the types of its events.
const (
	typeMessages                = "MESSAGES"
	typeParticipantAdded        = "PARTICIPANT_ADDED"
	typeParticipantDisconnected = "PARTICIPANT_DISCONNECTED"
	typeEngagementCreated       = "ENGAGEMENT_CREATED"
	typeEngagementError         = "ENGAGEMENT_ERROR"
	typeTyping                  = "TYPING"
)

// Keys is what an event says about where it belongs, all of it AXP's words and
// none of it checked.
type Keys struct {
	Account          string
	ProviderDialogID string // with the proof
	DialogID         string
	EngagementID     string
	SessionID        string
	CorrelationID    string
	ChannelProvider  string
}

// Result is a callback in the form in which it is kept.
type Result struct {
	// Event lacks session, engagement and receive time, and the event time where
	// AXP gave none.
	Event *axpchatv1.Event
	// Type is AXP's type of the event where this version knows it, else UNKNOWN:
	// fit for a metric's label.
	Type string
	// Keys says where the event belongs.
	Keys Keys
	// StaffOnly is true for a message that names its recipients, and no customer
	// among them: it is not for clients' eyes.
	StaffOnly bool
}

// Callback reads the body of a callback. Its errors are ErrNotJSON, and for JSON
// that holds no event ErrNotObject, ErrTooDeep and ErrTooMany; every other JSON
// object gives one.
func Callback(raw []byte) (Result, error) {
	raw = bytes.TrimPrefix(raw, []byte(byteOrderMark))
	o, err := decode(raw)
	if err != nil {
		return Result{}, err
	}
	r := Result{
		Event: &axpchatv1.Event{},
		Type:  o.peek("eventType"),
		Keys: Keys{
			Account:          o.peek("accountId"),
			ProviderDialogID: o.peek("providerDialogId"),
			DialogID:         o.peek("dialogId"),
			EngagementID:     o.peek("engagementId"),
			SessionID:        o.peek("sessionId"),
			CorrelationID:    o.peek("correlationId"),
			ChannelProvider:  o.peek("channelProviderId"),
		},
	}
	if !known(o, r.Type) {
		r.unknown(o, raw)
		return r, nil
	}
	r.Event.EventId = identify(o, r.Type, raw)
	proof := proofOf(r.Keys.ProviderDialogID)
	if proof.full != "" {
		proof.takeOut((*node)(o))
	}
	r.read(o)
	if !o.empty() {
		r.Event.ExtraJson = string(appendJSON(nil, (*node)(o), proof.outOf))
	}
	return r, nil
}

// known tells whether the event is of a type that this version reads, and holds
// at least something of what that type is about.
func known(o *object, eventType string) bool {
	if n := o.find("eventType"); n == nil || n.kind != text {
		return false
	}
	var about []string
	switch eventType {
	case typeMessages:
		about = []string{"messageId", "body", "attachments", "attachmentIds", "fallbackText", "providerMessageId", "messageIndex"}
	case typeParticipantAdded, typeParticipantDisconnected:
		about = []string{"connectionId", "participantId", "participantType"}
	case typeEngagementCreated:
		about = []string{"engagementId", "dialogId", "providerDialogId"}
	case typeEngagementError:
		about = []string{"type", "title", "detail"}
	case typeTyping:
		about = []string{"senderParticipantId", "senderParticipantType", "senderParticipantDisplayName"}
	}
	for _, key := range about {
		switch n := o.find(key); {
		case n == nil || n.kind == null:
		case n.kind == fields || n.kind == list || key != "body":
			return true
		}
	}
	return false
}

// unknown keeps an event that this version does not understand, as it came.
func (r *Result) unknown(o *object, raw []byte) {
	r.Event.EventId = identify(o, "", raw)
	word := o.text("eventType")
	r.common(o)
	r.Type = "UNKNOWN"
	r.Event.Payload = &axpchatv1.Event_Unknown{Unknown: &axpchatv1.UnknownEvent{EventType: word, RawJson: proofOf(r.Keys.ProviderDialogID).outOfRaw(raw)}}
}

// common takes what all events have.
func (r *Result) common(o *object) {
	r.Event.EventTime = o.time("eventDate")
	r.Event.CorrelationId = o.text("correlationId")
}

// read takes what this version knows of the event's type.
func (r *Result) read(o *object) {
	o.drop("eventType")
	r.common(o)
	e := r.Event
	switch r.Type {
	case typeMessages:
		r.message(o)
	case typeParticipantAdded:
		p := participantChanged(o)
		p.Participant.Connected, p.Participant.JoinTime = true, e.GetEventTime()
		e.Payload = &axpchatv1.Event_ParticipantAdded{ParticipantAdded: p}
	case typeParticipantDisconnected:
		p := participantChanged(o)
		p.Participant.LeaveTime = e.GetEventTime()
		e.Payload = &axpchatv1.Event_ParticipantDisconnected{ParticipantDisconnected: p}
	case typeEngagementCreated:
		e.Payload = &axpchatv1.Event_EngagementCreated{EngagementCreated: engagementCreated(o)}
	case typeEngagementError:
		e.Payload = &axpchatv1.Event_EngagementError{EngagementError: engagementError(o)}
	case typeTyping:
		e.Payload = &axpchatv1.Event_Typing{Typing: typing(o)}
	}
}

// message tells the echo of what a customer wrote from what others wrote. Where
// AXP does not say who wrote it, an id of ours tells: only customers have one.
func (r *Result) message(o *object) {
	fromCustomer := senderType(o) == axpchatv1.ParticipantType_PARTICIPANT_TYPE_CUSTOMER ||
		o.absent("senderParticipantType") && looksLikeOurs(o.peek("providerMessageId"))
	m := message(o, fromCustomer)
	if fromCustomer {
		r.Event.Payload = &axpchatv1.Event_MessageDelivered{MessageDelivered: m}
		return
	}
	r.Event.Payload = &axpchatv1.Event_MessageArrived{MessageArrived: m}
	r.StaffOnly = len(m.GetRecipients()) > 0
	for _, p := range m.GetRecipients() {
		if p.GetParticipantType() == axpchatv1.ParticipantType_PARTICIPANT_TYPE_CUSTOMER {
			r.StaffOnly = false
		}
	}
}

// Place fills in whose event it is and when it came. The engagement may be
// empty: not every event belongs to one.
func (r *Result) Place(session, engagement string, received *timestamppb.Timestamp) {
	e := r.Event
	e.SessionId, e.EngagementId, e.ReceiveTime = session, engagement, received
	if e.GetEventTime() == nil {
		e.EventTime = received
	}
	for _, m := range []*axpchatv1.Message{e.GetMessageArrived(), e.GetMessageDelivered()} {
		if m != nil {
			m.SessionId, m.EngagementId = session, engagement
		}
	}
}

// dialogID takes the provider's key of the dialog, less our proof.
func dialogID(o *object) string { return keyring.PublicDialogID(o.text("providerDialogId")) }
