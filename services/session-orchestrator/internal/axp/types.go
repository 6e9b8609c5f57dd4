package axp

// Reason says why a session or a dialog is ended.
type Reason string

// The reasons that AXP knows.
const (
	ReasonUserClosed   Reason = "USER_CLOSED"
	ReasonUserInactive Reason = "USER_INACTIVE"
	ReasonSystemClosed Reason = "SYSTEM_CLOSED"
	ReasonUnknown      Reason = "UNKNOWN"
)

// SessionStatus is the state of a session. It is an open set.
type SessionStatus string

// The states of a session.
const (
	SessionActive      SessionStatus = "ACTIVE"
	SessionTerminating SessionStatus = "TERMINATING"
	SessionTerminated  SessionStatus = "TERMINATED"
)

// DialogStatus is the state of a dialog. It is an open set.
type DialogStatus string

// The states of a dialog.
const (
	DialogPending     DialogStatus = "PENDING"
	DialogActive      DialogStatus = "ACTIVE"
	DialogTerminating DialogStatus = "TERMINATING"
	DialogTerminated  DialogStatus = "TERMINATED"
)

// ParticipantType is the role of a participant. It is an open set.
type ParticipantType string

// The roles of participants.
const (
	ParticipantCustomer   ParticipantType = "CUSTOMER"
	ParticipantAgent      ParticipantType = "AGENT"
	ParticipantSupervisor ParticipantType = "SUPERVISOR"
	ParticipantSystem     ParticipantType = "SYSTEM"
	ParticipantBot        ParticipantType = "BOT"
)

// ConnectionState says whether a participant is in the dialog.
type ConnectionState string

// The states of a connection.
const (
	ConnectionConnected    ConnectionState = "CONNECTED"
	ConnectionDisconnected ConnectionState = "DISCONNECTED"
)

// MessageStatus is how far a message has come; the transitions are not
// documented. It is an open set.
type MessageStatus string

// The states of a message.
const (
	MessageNone      MessageStatus = "NONE"
	MessageSent      MessageStatus = "SENT"
	MessageDelivered MessageStatus = "DELIVERED"
	MessageRead      MessageStatus = "READ"
	MessageFailed    MessageStatus = "FAILED"
	MessageDeleted   MessageStatus = "DELETED"
)

// TextFormat says how a text is to be read.
type TextFormat string

// The formats of a text.
const (
	TextPlain    TextFormat = "PLAINTEXT"
	TextHTML     TextFormat = "HTML"
	TextMarkdown TextFormat = "MARKDOWN"
)

// ElementTypeText is the elementType of an ordinary message.
const ElementTypeText = "text"

// CustomerIdentifiers maps the name of an identifier, as the account's
// customer journey defines it, to its values: 1 to 10 names of at most 50
// characters, at most 5 values of 1 to 256 characters each.
type CustomerIdentifiers map[string][]string

// CreateSession is the request of Client.CreateSession. Account and, unless
// set here, channel provider are filled in from the Client's Account.
type CreateSession struct {
	AccountID           string              `json:"accountId"`
	ChannelProviderID   string              `json:"channelProviderId"`
	CustomerIdentifiers CustomerIdentifiers `json:"customerIdentifiers"`
	DisplayName         string              `json:"displayName,omitempty"`
	SessionParameters   map[string]string   `json:"sessionParameters,omitempty"`
	ProviderCustomerID  string              `json:"providerCustomerId,omitempty"`
	CorrelationID       string              `json:"correlationId,omitempty"`
}

// Session is one client of one customer, as AXP reports it.
type Session struct {
	SessionID           string              `json:"sessionId"`
	AccountID           string              `json:"accountId"`
	ChannelProviderID   string              `json:"channelProviderId"`
	CustomerIdentifiers CustomerIdentifiers `json:"customerIdentifiers"`
	DisplayName         string              `json:"displayName"`
	SessionParameters   map[string]string   `json:"sessionParameters"`
	SessionStatus       SessionStatus       `json:"sessionStatus"`
	ProviderCustomerID  string              `json:"providerCustomerId"`
	CreatedAt           Time                `json:"createdAt"`
	LastUpdatedAt       Time                `json:"lastUpdatedAt"`
	// CorrelationID and ParticipantID come with Create Session only.
	CorrelationID string `json:"correlationId"`
	ParticipantID string `json:"participantId"`
}

// CreateEngagement is the request of Client.CreateEngagement. ChannelID is
// filled in from the Client's Account unless set here.
type CreateEngagement struct {
	SessionID string `json:"sessionId"`
	ChannelID string `json:"channelId"`
	// Conversation is the topic or intent.
	Conversation string `json:"conversation,omitempty"`
	// ProviderDialogID must be unique: it is the only way to recognise the
	// new dialog in lists and callbacks.
	ProviderDialogID     string            `json:"providerDialogId,omitempty"`
	EngagementParameters map[string]string `json:"engagementParameters,omitempty"`
	CorrelationID        string            `json:"correlationId,omitempty"`
}

// Engagement is a piece of contact that AXP handles, with its dialogs.
type Engagement struct {
	EngagementID string   `json:"engagementId"`
	AccountID    string   `json:"accountId"`
	Conversation string   `json:"conversation"`
	Dialogs      []Dialog `json:"dialogs"`
	// CorrelationID comes with Create Engagement and Join Engagement only.
	CorrelationID string `json:"correlationId"`
}

// DialogByProviderID finds the dialog that carries our providerDialogId. A new
// engagement may be a dialog added to an engagement that was there before, so
// the first dialog is not necessarily ours.
func (e *Engagement) DialogByProviderID(providerDialogID string) (*Dialog, bool) {
	for i := range e.Dialogs {
		if e.Dialogs[i].ProviderDialogID == providerDialogID {
			return &e.Dialogs[i], true
		}
	}
	return nil, false
}

// DialogByID finds a dialog by AXP's id.
func (e *Engagement) DialogByID(dialogID string) (*Dialog, bool) {
	for i := range e.Dialogs {
		if e.Dialogs[i].DialogID == dialogID {
			return &e.Dialogs[i], true
		}
	}
	return nil, false
}

// Dialog is the channel leg of an engagement.
type Dialog struct {
	DialogID               string            `json:"dialogId"`
	ChannelID              string            `json:"channelId"`
	DialogStatus           DialogStatus      `json:"dialogStatus"`
	ProviderDialogID       string            `json:"providerDialogId"`
	InitiatorParticipantID string            `json:"initiatorParticipantId"`
	Connections            []Connection      `json:"connections"`
	EngagementParameters   map[string]string `json:"engagementParameters"`
	CreatedAt              Time              `json:"createdAt"`
	LastUpdatedAt          Time              `json:"lastUpdatedAt"`
}

// Connection is one participant's place in a dialog.
type Connection struct {
	ConnectionID    string          `json:"connectionId"`
	ParticipantID   string          `json:"participantId"`
	ParticipantType ParticipantType `json:"participantType"`
	DisplayName     string          `json:"displayName"`
	SessionIDs      []string        `json:"sessionIds"`
	ConnectionState ConnectionState `json:"connectionState"`
}

// JoinEngagement is the request of Client.JoinEngagement: it takes another
// session of the customer into an active dialog.
type JoinEngagement struct {
	SessionID     string `json:"sessionId"`
	DialogID      string `json:"dialogId"`
	CorrelationID string `json:"correlationId,omitempty"`
}

// DisconnectEngagement is the request of Client.DisconnectEngagement: it takes
// the customer out of one dialog. An empty Reason is sent as USER_CLOSED.
type DisconnectEngagement struct {
	SessionID     string `json:"sessionId"`
	DialogID      string `json:"dialogId"`
	Reason        Reason `json:"reason"`
	CorrelationID string `json:"correlationId,omitempty"`
}

// EventType is what a subscription asks for. MESSAGES, CUSTOMER_MESSAGES and
// CC_MESSAGES all arrive as events of type MESSAGES.
type EventType string

// The types that a subscription may name; at most six at a time.
const (
	EventMessages                EventType = "MESSAGES"
	EventCustomerMessages        EventType = "CUSTOMER_MESSAGES"
	EventCCMessages              EventType = "CC_MESSAGES"
	EventParticipantAdded        EventType = "PARTICIPANT_ADDED"
	EventParticipantDisconnected EventType = "PARTICIPANT_DISCONNECTED"
	EventEngagementCreated       EventType = "ENGAGEMENT_CREATED"
	EventEngagementError         EventType = "ENGAGEMENT_ERROR"
	EventTyping                  EventType = "TYPING"
	EventAll                     EventType = "ALL"
)

// Subscription asks AXP to deliver events of one channel provider to one
// callback URL. SubscriptionID is AXP's own and never sent in a body.
type Subscription struct {
	SubscriptionID    string      `json:"subscriptionId"`
	ChannelProviderID string      `json:"channelProviderId"`
	CallbackURL       string      `json:"callbackUrl"`
	EventTypes        []EventType `json:"eventTypes"`
}

// SignedMediaInfo describes a file for which a signed address is wanted.
type SignedMediaInfo struct {
	// MediaName has 1 to 255 characters.
	MediaName string `json:"mediaName"`
	// MediaContentType has 1 to 255 characters.
	MediaContentType string `json:"mediaContentType"`
	// MediaSize is in bytes, at least 1.
	MediaSize int64 `json:"mediaSize"`
}

// SignedMedia is a signed address with what AXP knows about the file.
type SignedMedia struct {
	MediaID          string
	MediaName        string
	MediaContentType string
	MediaSize        int64
	// URL is absolute and opaque: whoever has it may use it until it expires.
	// Never log it.
	URL string
}

// UploadMediaResponse is AXP's answer to an upload.
type UploadMediaResponse struct {
	MediaID   string `json:"mediaId"`
	MediaName string `json:"mediaName"`
}
