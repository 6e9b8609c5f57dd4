// Package convert owns the translation between our protobuf messages and AXP's
// JSON types. It takes no decision and keeps nothing.
package convert

import (
	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// Reason is AXP's word for why something ends.
func Reason(r axpchatv1.CloseReason) axp.Reason {
	switch r {
	case axpchatv1.CloseReason_CLOSE_REASON_USER_CLOSED:
		return axp.ReasonUserClosed
	case axpchatv1.CloseReason_CLOSE_REASON_USER_INACTIVE:
		return axp.ReasonUserInactive
	case axpchatv1.CloseReason_CLOSE_REASON_SYSTEM_CLOSED:
		return axp.ReasonSystemClosed
	default:
		return axp.ReasonUnknown
	}
}

// OrUserClosed is the reason, or what it means when none is given.
func OrUserClosed(r axpchatv1.CloseReason) axpchatv1.CloseReason {
	if r == axpchatv1.CloseReason_CLOSE_REASON_UNSPECIFIED {
		return axpchatv1.CloseReason_CLOSE_REASON_USER_CLOSED
	}
	return r
}

// Identifiers are a session's identifiers in AXP's form.
func Identifiers(m map[string]*axpchatv1.IdentifierValues) axp.CustomerIdentifiers {
	out := make(axp.CustomerIdentifiers, len(m))
	for name, v := range m {
		out[name] = v.GetValues()
	}
	return out
}

// Message is an outbox entry in AXP's form, on its way into a dialog.
func Message(e *busv1.OutboxEntry, rec *busv1.EngagementRecord) axp.SendMessage {
	req, id := e.GetMessage().GetRequest(), e.GetMessage().GetMessageId()
	body := axp.BodyElement{ElementType: req.GetElementType(), Payload: req.GetPayload()}
	if body.ElementType == "" {
		body.ElementType = axp.ElementTypeText
	}
	if req.GetText() != "" {
		body.ElementText = &axp.ElementText{Text: req.GetText(), TextFormat: textFormat(req.GetTextFormat())}
	}
	return axp.SendMessage{
		SessionID:             rec.GetAxpSessionId(),
		DialogID:              rec.GetEngagement().GetAxpDialogId(),
		Body:                  body,
		FallbackText:          req.GetFallbackText(),
		Headers:               headers(req.GetHeaders()),
		CustomData:            req.GetCustomData(),
		SenderParticipantName: req.GetSenderName(),
		ParentMessageID:       req.GetParentMessageId(),
		ProviderMessageID:     id,
		CorrelationID:         id,
	}
}

func textFormat(f axpchatv1.TextFormat) axp.TextFormat {
	switch f {
	case axpchatv1.TextFormat_TEXT_FORMAT_HTML:
		return axp.TextHTML
	case axpchatv1.TextFormat_TEXT_FORMAT_MARKDOWN:
		return axp.TextMarkdown
	default:
		return axp.TextPlain
	}
}

// headers leaves out what AXP only sends and never takes.
func headers(h *axpchatv1.MessageHeaders) *axp.MessageHeaders {
	if h == nil {
		return nil
	}
	out := &axp.MessageHeaders{
		Priority:               h.GetPriority(),
		Sensitivity:            h.GetSensitivity(),
		Encoding:               h.GetEncoding(),
		Subject:                h.GetSubject(),
		From:                   h.GetFrom(),
		To:                     h.GetTo(),
		CC:                     h.GetCc(),
		BCC:                    h.GetBcc(),
		ReplyTo:                h.GetReplyTo(),
		ClientDeviceTag:        h.GetClientDeviceTag(),
		MessageSourceServerTag: h.GetMessageSourceServerTag(),
		AdditionalHeaders:      h.GetAdditionalHeaders(),
	}
	if t := h.GetProviderTimestamp(); t != nil {
		out.ProviderTimestamp = axp.Time{Time: t.AsTime()}
	}
	return out
}
