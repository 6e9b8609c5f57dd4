package normalise

import (
	"net/url"
	"strings"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// senderType looks at who wrote a message, without taking it.
func senderType(o *object) axpchatv1.ParticipantType {
	return axpchatv1.ParticipantType(o.peekEnum("senderParticipantType", participantTypePrefix, axpchatv1.ParticipantType_value))
}

func message(o *object, fromCustomer bool) *axpchatv1.Message {
	m := &axpchatv1.Message{
		MessageId: messageID(o, fromCustomer), // before anything is taken
		AxpStatus: o.text("status"),
		Sender: &axpchatv1.Participant{
			ParticipantId:         o.text("senderParticipantId"),
			ParticipantType:       participantType(o, "senderParticipantType"),
			DisplayName:           o.text("senderParticipantName"),
			ProviderParticipantId: o.text("providerSenderId"),
		},
		Body:                    body(o),
		FallbackText:            o.text("fallbackText"),
		Headers:                 headers(o),
		Attachments:             attachments(o),
		CustomData:              o.textMap("customData"),
		AxpMessageId:            o.text("messageId"),
		ParentMessageId:         o.text("parentMessageId"),
		ProviderParentMessageId: o.text("providerParentMessageId"),
		AxpEngagementId:         o.text("engagementId"),
		AxpDialogId:             o.text("dialogId"),
		AxpSessionId:            o.text("sessionId"),
		Account:                 o.text("accountId"),
		ChannelProviderId:       o.text("channelProviderId"),
		ChannelId:               o.text("channelId"),
		BusinessAccountName:     o.text("businessAccountName"),
		EngagementParameters:    o.textMap("engagementParameters"),
		ProviderDialogId:        dialogID(o),
		ReceiveTime:             o.time("receivedAt"),
		UpdateTime:              o.time("lastUpdatedAt"),
		ProviderMessageId:       o.text("providerMessageId"),
	}
	o.objects("recipientParticipants", func(inner *object) {
		m.Recipients = append(m.Recipients, participant(inner))
	})
	if n, ok := o.integer("messageIndex"); ok {
		m.MessageIndex = &n
	}
	m.Status = status(m.GetAxpStatus())
	if fromCustomer && m.GetStatus() == axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED {
		m.Failure = &axpchatv1.MessageFailure{Reason: "AXP_REJECTED", Detail: "AXP reports that the message could not be delivered."}
	}
	return m
}

// status translates AXP's word. A message that AXP tells us of has been
// delivered, by the fact that it tells us, unless it says more; the transitions
// between AXP's words are not documented.
func status(word string) axpchatv1.MessageStatus {
	switch strings.ToUpper(strings.TrimSpace(word)) {
	case "READ":
		return axpchatv1.MessageStatus_MESSAGE_STATUS_READ
	case "FAILED":
		return axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED
	case "DELETED":
		return axpchatv1.MessageStatus_MESSAGE_STATUS_DELETED
	default:
		return axpchatv1.MessageStatus_MESSAGE_STATUS_DELIVERED
	}
}

// body reads what was written. AXP's samples put the rich content in the body,
// in its text or beside the body; the first that holds something counts.
func body(o *object) *axpchatv1.MessageBody {
	var out *axpchatv1.MessageBody
	o.object("body", func(b *object) {
		out = &axpchatv1.MessageBody{ElementType: b.text("elementType"), Payload: b.text("payload")}
		out.RichMediaPayload = richMedia(b)
		b.object("elementText", func(t *object) {
			out.ElementText = &axpchatv1.ElementText{
				Text:       t.text("text"),
				TextFormat: axpchatv1.TextFormat(t.enum("textFormat", "TEXT_FORMAT_", axpchatv1.TextFormat_value)),
			}
			if out.GetRichMediaPayload() == nil {
				out.RichMediaPayload = richMedia(t)
			}
		})
	})
	if out.GetRichMediaPayload() != nil {
		return out
	}
	if rich := richMedia(o); rich != nil {
		if out == nil {
			out = &axpchatv1.MessageBody{}
		}
		out.RichMediaPayload = rich
	}
	return out
}

// richMedia reads a richMediaPayload; nil where there is none or it is empty.
func richMedia(o *object) *axpchatv1.RichMediaPayload {
	if n := o.find("richMediaPayload"); n != nil && n.kind == fields && (*object)(n).empty() {
		n.taken = true
		return nil
	}
	var out *axpchatv1.RichMediaPayload
	o.object("richMediaPayload", func(r *object) {
		out = &axpchatv1.RichMediaPayload{Actions: actions(r)}
		r.object("selectedAction", func(a *object) { out.SelectedAction = action(a) })
		r.objects("items", func(i *object) {
			out.Items = append(out.Items, &axpchatv1.Item{
				Title:       i.text("title"),
				MediaUrl:    i.text("mediaUrl"),
				Description: i.text("description"),
				Actions:     actions(i),
			})
		})
		r.object("coordinates", func(c *object) {
			lat, hasLat := c.decimal("lat")
			long, hasLong := c.decimal("long")
			if hasLat || hasLong {
				out.Coordinates = &axpchatv1.Coordinates{Lat: lat, Long: long}
			}
		})
		r.object("location", func(l *object) {
			out.Location = &axpchatv1.Location{Address: l.text("address"), Name: l.text("name")}
		})
	})
	return out
}

func actions(o *object) []*axpchatv1.Action {
	var out []*axpchatv1.Action
	o.objects("actions", func(a *object) { out = append(out, action(a)) })
	return out
}

func action(o *object) *axpchatv1.Action {
	return &axpchatv1.Action{
		Type:    o.text("type"),
		Text:    o.text("text"),
		Payload: o.text("payload"),
		Uri:     o.text("uri"),
		IconUrl: o.text("iconUrl"),
	}
}

func headers(o *object) *axpchatv1.MessageHeaders {
	var out *axpchatv1.MessageHeaders
	o.object("headers", func(h *object) {
		out = &axpchatv1.MessageHeaders{
			Priority:               h.text("priority"),
			Sensitivity:            h.text("sensitivity"),
			Encoding:               h.text("encoding"),
			Subject:                h.text("subject"),
			From:                   h.text("from"),
			To:                     h.texts("to"),
			Cc:                     h.texts("cc"),
			Bcc:                    h.texts("bcc"),
			ReplyTo:                h.text("replyTo"),
			ClientDeviceTag:        h.text("clientDeviceTag"),
			MessageSourceServerTag: h.text("messageSourceServerTag"),
			ProviderTimestamp:      h.time("providerTimestamp"),
			AdditionalHeaders:      h.textMap("additionalHeaders"),
			SourceAddress:          h.text("sourceAddress"),
			SourceType:             h.text("sourceType"),
		}
	})
	return out
}

// attachments reads both names that AXP uses for the list of files. Under the
// second one there may be whole files or only their ids; a file that the first
// list has is not told twice.
func attachments(o *object) []*axpchatv1.MessageAttachment {
	var out []*axpchatv1.MessageAttachment
	have := map[string]bool{}
	o.objects("attachments", func(a *object) {
		file := attachment(a)
		have[file.GetAttachmentId()] = true
		out = append(out, file)
	})
	o.list("attachmentIds", func(entry *node) bool {
		switch entry.kind {
		case fields:
			inner := (*object)(entry)
			if id := peekAttachmentID(inner); id != "" && have[id] {
				return false // what it says of the same file may differ
			}
			out = append(out, attachment(inner))
			return inner.empty()
		case text:
			if id := entry.spelling; !have[id] {
				out = append(out, &axpchatv1.MessageAttachment{AttachmentId: id})
			}
			return true
		default:
			return false
		}
	})
	return out
}

func attachment(o *object) *axpchatv1.MessageAttachment {
	out := &axpchatv1.MessageAttachment{
		AttachmentId:         attachmentID(o),
		Name:                 o.text("name"),
		ContentType:          o.text("contentType"),
		ContentId:            o.text("contentId"),
		Url:                  o.text("url"),
		CaptionText:          o.text("captionText"),
		ThumbnailUrl:         o.text("thumbnailUrl"),
		AdditionalProperties: o.textMap("additionalProperties"),
	}
	out.Size, _ = o.integer("size")
	out.MediaId = mediaID(out.GetUrl())
	return out
}

// attachmentID takes attachmentId, else id, as the two documents of AXP call it.
func attachmentID(o *object) string {
	id := o.text("attachmentId")
	if id == "" {
		return o.text("id")
	}
	if o.peek("id") == id {
		o.drop("id")
	}
	return id
}

// peekAttachmentID is the same without taking anything.
func peekAttachmentID(o *object) string {
	if id := o.peek("attachmentId"); id != "" {
		return id
	}
	return o.peek("id")
}

// mediaID finds the id in a signed address, which may be relative:
// …/media/{mediaId}?ttl=…&signature=…
func mediaID(address string) string {
	if address == "" {
		return ""
	}
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	segments := strings.Split(u.EscapedPath(), "/")
	for i := len(segments) - 2; i >= 0; i-- {
		if segments[i] != "media" {
			continue
		}
		id, err := url.PathUnescape(segments[i+1])
		if err != nil {
			return ""
		}
		// An escaped byte need not be text, which protobuf insists on.
		return strings.ToValidUTF8(id, "\uFFFD")
	}
	return ""
}
