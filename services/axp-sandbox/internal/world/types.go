package world

import "time"

// Words of AXP's documents.
const (
	Active       = "ACTIVE"
	Pending      = "PENDING"
	Terminated   = "TERMINATED"
	Connected    = "CONNECTED"
	Disconnected = "DISCONNECTED"

	Customer = "CUSTOMER"
	Agent    = "AGENT"
	System   = "SYSTEM"
)

// Session is AXP's Session.
type Session struct {
	SessionID           string              `json:"sessionId"`
	AccountID           string              `json:"accountId"`
	ChannelProviderID   string              `json:"channelProviderId"`
	DisplayName         string              `json:"displayName,omitempty"`
	CustomerIdentifiers map[string][]string `json:"customerIdentifiers,omitempty"`
	SessionParameters   map[string]string   `json:"sessionParameters,omitempty"`
	SessionStatus       string              `json:"sessionStatus"`
	ProviderCustomerID  string              `json:"providerCustomerId,omitempty"`
	CreatedAt           time.Time           `json:"createdAt"`
	LastUpdatedAt       time.Time           `json:"lastUpdatedAt"`
	URL                 string              `json:"url"`
	// ParticipantID stays with the session; only Create Session tells it.
	ParticipantID string `json:"participantId,omitempty"`
	CorrelationID string `json:"correlationId,omitempty"`
}

// Engagement is AXP's Engagement.
type Engagement struct {
	EngagementID  string    `json:"engagementId"`
	AccountID     string    `json:"accountId"`
	Conversation  string    `json:"conversation,omitempty"`
	Dialogs       []*Dialog `json:"dialogs"`
	URL           string    `json:"url"`
	CorrelationID string    `json:"correlationId,omitempty"`
}

// Dialog is AXP's Dialog. Session and Messages are not part of its answers.
type Dialog struct {
	DialogID               string            `json:"dialogId"`
	ChannelID              string            `json:"channelId"`
	DialogStatus           string            `json:"dialogStatus"`
	ProviderDialogID       string            `json:"providerDialogId,omitempty"`
	InitiatorParticipantID string            `json:"initiatorParticipantId"`
	Connections            []*Connection     `json:"connections"`
	EngagementParameters   map[string]string `json:"engagementParameters,omitempty"`
	CreatedAt              time.Time         `json:"createdAt"`
	LastUpdatedAt          time.Time         `json:"lastUpdatedAt"`
}

// Connection is AXP's Connection.
type Connection struct {
	ConnectionID    string   `json:"connectionId"`
	ParticipantID   string   `json:"participantId"`
	ParticipantType string   `json:"participantType"`
	DisplayName     string   `json:"displayName,omitempty"`
	SessionIDs      []string `json:"sessionIds,omitempty"`
	ConnectionState string   `json:"connectionState"`
}

// Text is AXP's ElementText.
type Text struct {
	Text       string `json:"text"`
	TextFormat string `json:"textFormat,omitempty"`
}

// Body is AXP's BodyElement.
type Body struct {
	ElementType      string         `json:"elementType"`
	ElementText      *Text          `json:"elementText,omitempty"`
	Payload          string         `json:"payload,omitempty"`
	RichMediaPayload map[string]any `json:"richMediaPayload,omitempty"`
}

// Recipient is AXP's Participant.
type Recipient struct {
	ParticipantID     string `json:"participantId"`
	ParticipantType   string `json:"participantType"`
	DisplayName       string `json:"displayName,omitempty"`
	ConnectionID      string `json:"connectionId"`
	ChannelProviderID string `json:"channelProviderId"`
}

// Message is AXP's Message.
type Message struct {
	MessageID               string            `json:"messageId,omitempty"`
	AccountID               string            `json:"accountId"`
	DialogID                string            `json:"dialogId"`
	EngagementID            string            `json:"engagementId"`
	Status                  string            `json:"status"`
	SessionID               string            `json:"sessionId,omitempty"`
	BusinessAccountName     string            `json:"businessAccountName,omitempty"`
	ChannelProviderID       string            `json:"channelProviderId"`
	ChannelID               string            `json:"channelId"`
	SenderParticipantID     string            `json:"senderParticipantId"`
	SenderParticipantName   string            `json:"senderParticipantName"`
	SenderParticipantType   string            `json:"senderParticipantType"`
	Body                    Body              `json:"body"`
	FallbackText            string            `json:"fallbackText,omitempty"`
	Headers                 map[string]any    `json:"headers,omitempty"`
	Attachments             []map[string]any  `json:"attachments,omitempty"`
	RecipientParticipants   []Recipient       `json:"recipientParticipants,omitempty"`
	CustomData              map[string]string `json:"customData,omitempty"`
	MessageIndex            int               `json:"messageIndex,omitempty"`
	ParentMessageID         string            `json:"parentMessageId,omitempty"`
	ProviderDialogID        string            `json:"providerDialogId,omitempty"`
	ProviderMessageID       string            `json:"providerMessageId,omitempty"`
	ProviderParentMessageID string            `json:"providerParentMessageId,omitempty"`
	ReceivedAt              time.Time         `json:"receivedAt"`
	LastUpdatedAt           time.Time         `json:"lastUpdatedAt"`
	CorrelationID           string            `json:"correlationId,omitempty"`
}

// Subscription is AXP's Subscription.
type Subscription struct {
	SubscriptionID    string   `json:"subscriptionId"`
	ChannelProviderID string   `json:"channelProviderId"`
	CallbackURL       string   `json:"callbackUrl"`
	EventTypes        []string `json:"eventTypes"`
}

// CreateSession is the body of Create Session.
type CreateSession struct {
	ChannelProviderID   string              `json:"channelProviderId"`
	CustomerIdentifiers map[string][]string `json:"customerIdentifiers"`
	DisplayName         string              `json:"displayName"`
	SessionParameters   map[string]string   `json:"sessionParameters"`
	ProviderCustomerID  string              `json:"providerCustomerId"`
	CorrelationID       string              `json:"correlationId"`
}

// CreateEngagement is the body of Create Engagement.
type CreateEngagement struct {
	SessionID            string            `json:"sessionId"`
	ChannelID            string            `json:"channelId"`
	Conversation         string            `json:"conversation"`
	ProviderDialogID     string            `json:"providerDialogId"`
	EngagementParameters map[string]string `json:"engagementParameters"`
	CorrelationID        string            `json:"correlationId"`
}

// SendMessage is the body of Send Message.
type SendMessage struct {
	SessionID               string            `json:"sessionId"`
	DialogID                string            `json:"dialogId"`
	Body                    Body              `json:"body"`
	FallbackText            string            `json:"fallbackText"`
	Headers                 map[string]any    `json:"headers"`
	CustomData              map[string]string `json:"customData"`
	SenderParticipantName   string            `json:"senderParticipantName"`
	ParentMessageID         string            `json:"parentMessageId"`
	ProviderMessageID       string            `json:"providerMessageId"`
	ProviderParentMessageID string            `json:"providerParentMessageId"`
	CorrelationID           string            `json:"correlationId"`
}

// Leave is the body of Disconnect Engagement, and of Join Engagement.
type Leave struct {
	SessionID     string `json:"sessionId"`
	DialogID      string `json:"dialogId"`
	Reason        string `json:"reason,omitempty"`
	CorrelationID string `json:"correlationId,omitempty"`
}

// Event is one callback.
type Event struct {
	Provider   string // channelProviderId, chooses the subscriptions
	Type       string // eventType
	SenderType string // of MESSAGES
	Lane       string // events of one lane are first tried in order
	Body       map[string]any
}

// Chat is a dialog as the agent desk shows it.
type Chat struct {
	DialogID     string    `json:"dialogId"`
	EngagementID string    `json:"engagementId"`
	SessionID    string    `json:"sessionId"`
	Status       string    `json:"status"`
	Waiting      bool      `json:"waiting"`
	CreatedAt    time.Time `json:"createdAt"`
	Customer     struct {
		DisplayName string              `json:"displayName"`
		Identifiers map[string][]string `json:"identifiers"`
	} `json:"customer"`
	SessionParameters    map[string]string `json:"sessionParameters"`
	EngagementParameters map[string]string `json:"engagementParameters"`
	Conversation         string            `json:"conversation"`
	ProviderDialogID     string            `json:"providerDialogId"`
	Participants         []ChatParticipant `json:"participants"`
	Messages             []ChatMessage     `json:"messages"`
}

// ChatParticipant is somebody in a chat.
type ChatParticipant struct {
	ParticipantID   string `json:"participantId"`
	ParticipantType string `json:"participantType"`
	DisplayName     string `json:"displayName"`
	Connected       bool   `json:"connected"`
}

// ChatMessage is a message in a chat.
type ChatMessage struct {
	MessageID         string    `json:"messageId"`
	ProviderMessageID string    `json:"providerMessageId,omitempty"`
	Index             int       `json:"index"`
	SenderType        string    `json:"senderType"`
	SenderName        string    `json:"senderName"`
	Text              string    `json:"text"`
	TextFormat        string    `json:"textFormat"`
	ReceivedAt        time.Time `json:"receivedAt"`
	Status            string    `json:"status"`
}
