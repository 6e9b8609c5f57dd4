package journal

import (
	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// defaultElementType is AXP's word for a text.
const defaultElementType = "text"

// Message is what a client is shown of an outbox entry. It follows from the
// entry alone, so whoever tells of it tells the same.
func Message(e *busv1.OutboxEntry) *axpchatv1.Message {
	m := e.GetMessage()
	req := m.GetRequest()
	body := &axpchatv1.MessageBody{ElementType: req.GetElementType(), Payload: req.GetPayload()}
	if body.GetElementType() == "" {
		body.ElementType = defaultElementType
	}
	if req.GetText() != "" {
		body.ElementText = &axpchatv1.ElementText{Text: req.GetText(), TextFormat: req.GetTextFormat()}
	}
	return &axpchatv1.Message{
		MessageId:       m.GetMessageId(),
		ClientMessageId: req.GetClientMessageId(),
		SessionId:       e.GetSessionId(),
		EngagementId:    e.GetEngagementId(),
		Status:          axpchatv1.MessageStatus_MESSAGE_STATUS_ACCEPTED,
		Sender: &axpchatv1.Participant{
			ParticipantType: axpchatv1.ParticipantType_PARTICIPANT_TYPE_CUSTOMER, DisplayName: req.GetSenderName(), Connected: true,
		},
		Body:              body,
		FallbackText:      req.GetFallbackText(),
		Headers:           req.GetHeaders(),
		CustomData:        req.GetCustomData(),
		ParentMessageId:   req.GetParentMessageId(),
		Account:           e.GetAccount(),
		ReceiveTime:       e.GetAcceptTime(),
		UpdateTime:        e.GetAcceptTime(),
		ProviderMessageId: m.GetMessageId(),
	}
}
