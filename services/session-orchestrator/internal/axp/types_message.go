package axp

import "encoding/json"

// SendMessage is the request of Client.SendMessage. Custom Chat takes neither
// attachments nor rich content here.
type SendMessage struct {
	SessionID    string            `json:"sessionId"`
	DialogID     string            `json:"dialogId"`
	Body         BodyElement       `json:"body"`
	FallbackText string            `json:"fallbackText,omitempty"`
	Headers      *MessageHeaders   `json:"headers,omitempty"`
	CustomData   map[string]string `json:"customData,omitempty"`
	// SenderParticipantName defaults to the session's display name.
	SenderParticipantName string `json:"senderParticipantName,omitempty"`
	ParentMessageID       string `json:"parentMessageId,omitempty"`
	// ProviderMessageID must be unique: it is the only way to recognise the
	// message in the echo event and in lists.
	ProviderMessageID       string `json:"providerMessageId,omitempty"`
	ProviderParentMessageID string `json:"providerParentMessageId,omitempty"`
	CorrelationID           string `json:"correlationId,omitempty"`
}

// BodyElement is the body of a message that is sent.
type BodyElement struct {
	ElementType string       `json:"elementType"`
	ElementText *ElementText `json:"elementText,omitempty"`
	Payload     string       `json:"payload,omitempty"`
}

// TextBody is the body of an ordinary message.
func TextBody(text string, format TextFormat) BodyElement {
	if format == "" {
		format = TextPlain
	}
	return BodyElement{
		ElementType: ElementTypeText,
		ElementText: &ElementText{Text: text, TextFormat: format},
	}
}

// ElementText is a text and how to read it.
type ElementText struct {
	Text       string     `json:"text"`
	TextFormat TextFormat `json:"textFormat,omitempty"`
}

// MessageHeaders are the mail-like headers of a message. SourceType and
// SourceAddress are only received.
type MessageHeaders struct {
	Priority               string            `json:"priority,omitempty"`
	Sensitivity            string            `json:"sensitivity,omitempty"`
	Encoding               string            `json:"encoding,omitempty"`
	Subject                string            `json:"subject,omitempty"`
	From                   string            `json:"from,omitempty"`
	To                     []string          `json:"to,omitempty"`
	CC                     []string          `json:"cc,omitempty"`
	BCC                    []string          `json:"bcc,omitempty"`
	ReplyTo                string            `json:"replyTo,omitempty"`
	ClientDeviceTag        string            `json:"clientDeviceTag,omitempty"`
	MessageSourceServerTag string            `json:"messageSourceServerTag,omitempty"`
	ProviderTimestamp      Time              `json:"providerTimestamp,omitzero"`
	AdditionalHeaders      map[string]string `json:"additionalHeaders,omitempty"`
}

// Message is a message as AXP reports it: in the answer to Send Message (often
// without a messageId) and in lists. Fields of a wrong type are left empty
// rather than refused; Raw holds the JSON text as received.
type Message struct {
	MessageID               string            `json:"messageId"`
	AccountID               string            `json:"accountId"`
	DialogID                string            `json:"dialogId"`
	EngagementID            string            `json:"engagementId"`
	Status                  MessageStatus     `json:"status"`
	SessionID               string            `json:"sessionId"`
	BusinessAccountName     string            `json:"businessAccountName"`
	ChannelProviderID       string            `json:"channelProviderId"`
	ChannelID               string            `json:"channelId"`
	SenderParticipantID     string            `json:"senderParticipantId"`
	SenderParticipantName   string            `json:"senderParticipantName"`
	SenderParticipantType   ParticipantType   `json:"senderParticipantType"`
	Body                    MessageBody       `json:"body"`
	FallbackText            string            `json:"fallbackText"`
	Headers                 *MessageHeaders   `json:"headers"`
	Attachments             []Attachment      `json:"attachments"`
	RecipientParticipants   []Participant     `json:"recipientParticipants"`
	CustomData              map[string]string `json:"customData"`
	MessageIndex            Int               `json:"messageIndex"`
	ParentMessageID         string            `json:"parentMessageId"`
	ProviderDialogID        string            `json:"providerDialogId"`
	ProviderSenderID        string            `json:"providerSenderId"`
	ProviderMessageID       string            `json:"providerMessageId"`
	ProviderParentMessageID string            `json:"providerParentMessageId"`
	EngagementParameters    map[string]string `json:"engagementParameters"`
	ReceivedAt              Time              `json:"receivedAt"`
	LastUpdatedAt           Time              `json:"lastUpdatedAt"`
	CorrelationID           string            `json:"correlationId"`
	// Raw is the message as AXP wrote it.
	Raw json.RawMessage `json:"-"`
}

// MessageBody is the body of a message that was received.
type MessageBody struct {
	// ElementType is an open word; decide by the content present.
	ElementType      string            `json:"elementType"`
	ElementText      *ElementText      `json:"elementText"`
	Payload          string            `json:"payload"`
	RichMediaPayload *RichMediaPayload `json:"richMediaPayload"`
}

// RichMediaPayload is what a message carries beside its text.
type RichMediaPayload struct {
	SelectedAction *Action      `json:"selectedAction"`
	Actions        []Action     `json:"actions"`
	Items          []Item       `json:"items"`
	Coordinates    *Coordinates `json:"coordinates"`
	Location       *Location    `json:"location"`
}

// Action is a link, reply, postback or request for the location.
type Action struct {
	Type    string `json:"type"`
	Text    string `json:"text"`
	Payload string `json:"payload"`
	URI     string `json:"uri"`
	IconURL string `json:"iconUrl"`
}

// Item is one card of a carousel.
type Item struct {
	Title       string   `json:"title"`
	MediaURL    string   `json:"mediaUrl"`
	Description string   `json:"description"`
	Actions     []Action `json:"actions"`
}

// Coordinates is a place on the globe in degrees.
type Coordinates struct {
	Lat  float64 `json:"lat"`
	Long float64 `json:"long"`
}

// Location names a place.
type Location struct {
	Address string `json:"address"`
	Name    string `json:"name"`
}

// Participant is somebody to whom a message went.
type Participant struct {
	ParticipantID         string          `json:"participantId"`
	ParticipantType       ParticipantType `json:"participantType"`
	DisplayName           string          `json:"displayName"`
	ConnectionID          string          `json:"connectionId"`
	ProviderParticipantID string          `json:"providerParticipantId"`
	ChannelProviderID     string          `json:"channelProviderId"`
}

// Attachment is a file that came with a message.
type Attachment struct {
	AttachmentID string `json:"attachmentId"`
	Name         string `json:"name"`
	Size         Int    `json:"size"`
	ContentType  string `json:"contentType"`
	ContentID    string `json:"contentId"`
	// URL is signed, may be relative (Client.ResolveMediaURL) and expires.
	URL                  string            `json:"url"`
	CaptionText          string            `json:"captionText"`
	ThumbnailURL         string            `json:"thumbnailUrl"`
	AdditionalProperties map[string]string `json:"additionalProperties"`
}

// Pagination is AXP's account of a list's pages. All of it is optional, and
// its figures are not to be relied on.
type Pagination struct {
	PageNumber Int `json:"pageNumber"`
	PageSize   Int `json:"pageSize"`
	Total      Int `json:"total"`
}

// MessagePage is one page of a dialog's messages, in AXP's order, which is not
// documented.
type MessagePage struct {
	Pagination Pagination `json:"pagination"`
	Messages   []Message  `json:"messages"`
}
