package world

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Send is AXP's Send Message. Its answer holds no messageId, as AXP's samples.
func (w *World) Send(engagementID string, in SendMessage) (*Message, *Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, refusal := w.session(in.SessionID)
	if refusal != nil {
		return nil, refusal
	}
	d, refusal := w.find(engagementID, in.DialogID)
	if refusal != nil {
		return nil, refusal
	}
	if !d.in(in.SessionID) {
		return nil, notFound("session")
	}
	if d.DialogStatus != Active {
		return nil, notIn(d)
	}
	if len(d.Log) >= maxMessages {
		return nil, &Refusal{Status: http.StatusForbidden, Title: "Forbidden", Detail: "too many messages in the dialog"}
	}
	name := in.SenderParticipantName
	if name == "" {
		name = s.DisplayName
	}
	m := w.message(d, d.Connections[0], name)
	m.Status, m.Body, m.FallbackText, m.Headers, m.CustomData = "SENT", in.Body, in.FallbackText, in.Headers, in.CustomData
	m.ParentMessageID, m.ProviderMessageID, m.ProviderParentMessageID = in.ParentMessageID, in.ProviderMessageID, in.ProviderParentMessageID
	m.SessionID, m.CorrelationID = in.SessionID, orNew(in.CorrelationID)
	w.append(d, m)
	w.touched(d)
	out := *m
	out.MessageID, out.MessageIndex, out.RecipientParticipants = "", 0, nil
	return &out, nil
}

// message begins a message of a participant.
func (w *World) message(d *dialog, c *Connection, name string) *Message {
	now := w.now().UTC()
	return &Message{
		MessageID: uuid.NewString(), AccountID: w.cfg.AccountID, DialogID: d.DialogID, EngagementID: d.Engagement.EngagementID,
		Status: "DELIVERED", SessionID: d.Session.SessionID, BusinessAccountName: "sandbox", ChannelProviderID: d.Session.ChannelProviderID,
		ChannelID: d.ChannelID, SenderParticipantID: c.ParticipantID, SenderParticipantName: name, SenderParticipantType: c.ParticipantType,
		ProviderDialogID: d.ProviderDialogID, ReceivedAt: now, LastUpdatedAt: now, CorrelationID: uuid.NewString(),
	}
}

// append puts a message into the dialog and tells of it; mu is held.
func (w *World) append(d *dialog, m *Message) {
	m.MessageIndex = len(d.Log) + 1
	for _, c := range d.Connections {
		if c.ParticipantID != m.SenderParticipantID && c.ConnectionState == Connected {
			m.RecipientParticipants = append(m.RecipientParticipants, Recipient{
				ParticipantID: c.ParticipantID, ParticipantType: c.ParticipantType, DisplayName: c.DisplayName,
				ConnectionID: c.ConnectionID, ChannelProviderID: d.Session.ChannelProviderID,
			})
		}
	}
	d.Log = append(d.Log, m)
	w.emit(w.messageEvent(d, m))
}

func (w *World) systemMessage(d *dialog, text string) *Message {
	m := w.message(d, &Connection{ParticipantID: "00000000-0000-4000-8000-000000000000", ParticipantType: System}, "Larkfell Outdoor")
	m.Status, m.Body = "NONE", Body{ElementType: "text", ElementText: &Text{Text: text, TextFormat: "PLAINTEXT"}}
	return m
}

func queueText(n int) string { return fmt.Sprintf("You are number %d in the queue.", n) }

// Page is AXP's list of messages.
type Page struct {
	Pagination struct {
		PageNumber int `json:"pageNumber"`
		PageSize   int `json:"pageSize"`
		Total      int `json:"total"`
	} `json:"pagination"`
	Messages []*Message `json:"messages"`
	Links    struct {
		Prev string `json:"prev"`
		Next string `json:"next"`
	} `json:"links"`
}

// ListMessages is AXP's List Messages: an active dialog, in pages from 1.
func (w *World) ListMessages(engagementID, dialogID, sessionID string, size, number int) (*Page, *Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, refusal := w.find(engagementID, dialogID)
	if refusal != nil {
		return nil, refusal
	}
	if d.DialogStatus == Terminated || !d.in(sessionID) {
		return nil, notFound("active dialog")
	}
	p := &Page{Messages: []*Message{}}
	p.Pagination.PageNumber, p.Pagination.PageSize, p.Pagination.Total = number, size, len(d.Log)
	from := min((number-1)*size, len(d.Log))
	to := min(from+size, len(d.Log))
	for _, m := range d.Log[from:to] {
		c := *m
		p.Messages = append(p.Messages, &c)
	}
	link := func(n int) string {
		return fmt.Sprintf("/v1/engagements/%s/messages?dialogId=%s&sessionId=%s&pageSize=%d&pageNumber=%d", engagementID, dialogID, sessionID, size, n)
	}
	if number > 1 {
		p.Links.Prev = link(number - 1)
	}
	if to < len(d.Log) {
		p.Links.Next = link(number + 1)
	}
	return p, nil
}

// AgentMessage is what an agent sends.
type AgentMessage struct {
	As           string // the participant who must be the agent; empty: whoever is
	Body         Body
	FallbackText string
	Attachments  []map[string]any
}

func conflict(detail string) *Refusal {
	return &Refusal{Status: http.StatusConflict, Title: "Conflict", Detail: detail}
}

// Accept connects an agent to a dialog, as a new participant.
func (w *World) Accept(dialogID, agent string) (participantID string, refusal *Refusal) {
	participantID = uuid.NewString()
	return participantID, w.atDesk(dialogID, func(d *dialog) *Refusal {
		if d.DialogStatus != Active {
			return notIn(d)
		}
		if d.agent() != nil {
			return conflict("somebody else has accepted it")
		}
		c := &Connection{ConnectionID: uuid.NewString(), ParticipantID: participantID, ParticipantType: Agent, DisplayName: agent, ConnectionState: Connected}
		d.Connections = append(d.Connections, c)
		w.emit(w.participant("PARTICIPANT_ADDED", d, c, uuid.NewString()))
		return nil
	})
}

// Say sends an agent's message.
func (w *World) Say(dialogID string, in AgentMessage) *Refusal {
	return w.atDesk(dialogID, func(d *dialog) *Refusal {
		c := d.agent()
		if d.DialogStatus != Active || c == nil || in.As != "" && in.As != c.ParticipantID {
			return conflict("accept the chat first")
		}
		m := w.message(d, c, c.DisplayName)
		m.Body, m.FallbackText, m.Attachments = in.Body, in.FallbackText, in.Attachments
		w.append(d, m)
		return nil
	})
}

// Leave takes the agent out; the chat goes on without one.
func (w *World) Leave(dialogID string) *Refusal {
	return w.atDesk(dialogID, func(d *dialog) *Refusal {
		c := d.agent()
		if c == nil {
			return conflict("no agent is in the chat")
		}
		c.ConnectionState = Disconnected
		w.emit(w.participant("PARTICIPANT_DISCONNECTED", d, c, uuid.NewString()))
		return nil
	})
}

// End ends the chat for everybody.
func (w *World) End(dialogID string) *Refusal {
	return w.atDesk(dialogID, func(d *dialog) *Refusal {
		if d.DialogStatus == Terminated {
			return notIn(d)
		}
		w.end(d, uuid.NewString())
		return nil
	})
}

func (w *World) atDesk(dialogID string, f func(*dialog) *Refusal) *Refusal {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.dialogs[dialogID]
	if !ok {
		return notFound("dialog")
	}
	if refusal := f(d); refusal != nil {
		return refusal
	}
	w.touched(d)
	return nil
}

func (d *dialog) agent() *Connection {
	for _, c := range d.Connections {
		if c.ParticipantType == Agent && c.ConnectionState == Connected {
			return c
		}
	}
	return nil
}

// Chats lists all dialogs as the desk shows them, oldest first.
func (w *World) Chats() []Chat {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]Chat, 0, len(w.order))
	for _, id := range w.order {
		out = append(out, w.chat(w.dialogs[id]))
	}
	return out
}

func (w *World) chat(d *dialog) Chat {
	c := Chat{
		DialogID: d.DialogID, EngagementID: d.Engagement.EngagementID, SessionID: d.Session.SessionID, Status: d.DialogStatus,
		Waiting: w.waiting(d), CreatedAt: d.CreatedAt, SessionParameters: d.Session.SessionParameters, EngagementParameters: d.EngagementParameters,
		Conversation: d.Conversation, ProviderDialogID: d.ProviderDialogID,
		Participants: []ChatParticipant{}, Messages: []ChatMessage{},
	}
	c.Customer.DisplayName, c.Customer.Identifiers = d.Session.DisplayName, d.Session.CustomerIdentifiers
	for _, p := range d.Connections {
		c.Participants = append(c.Participants, ChatParticipant{p.ParticipantID, p.ParticipantType, p.DisplayName, p.ConnectionState == Connected})
	}
	for _, m := range d.Log {
		cm := ChatMessage{
			MessageID: m.MessageID, ProviderMessageID: m.ProviderMessageID, Index: m.MessageIndex, SenderType: m.SenderParticipantType,
			SenderName: m.SenderParticipantName, ReceivedAt: m.ReceivedAt, Status: m.Status,
		}
		if m.Body.ElementText != nil {
			cm.Text, cm.TextFormat = m.Body.ElementText.Text, m.Body.ElementText.TextFormat
		}
		if cm.Text == "" {
			cm.Text = m.FallbackText
		}
		c.Messages = append(c.Messages, cm)
	}
	return c
}

// Sessions lists all sessions, oldest first.
func (w *World) Sessions() []*Session {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]*Session, 0, len(w.sessions))
	for _, s := range w.sessions {
		out = append(out, s.copy())
	}
	slices.SortFunc(out, func(a, b *Session) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return out
}

func (w *World) event(d *dialog, kind, correlation string) Event {
	return Event{
		Provider: d.Session.ChannelProviderID, Type: kind, Lane: d.DialogID,
		Body: map[string]any{
			"eventType": kind, "correlationId": correlation, "eventDate": w.now().UTC().Format("2006-01-02T15:04:05.000000Z"),
			"engagementId": d.Engagement.EngagementID, "dialogId": d.DialogID, "accountId": w.cfg.AccountID,
			"channelProviderId": d.Session.ChannelProviderID, "sessionId": d.Session.SessionID,
		},
	}
}

// put sets what is known.
func put(body map[string]any, key, value string) {
	if value != "" {
		body[key] = value
	}
}

func (w *World) engagementCreated(d *dialog, correlation string) Event {
	e := w.event(d, "ENGAGEMENT_CREATED", correlation)
	put(e.Body, "conversation", d.Conversation)
	put(e.Body, "providerDialogId", d.ProviderDialogID)
	e.Body["businessAccountName"], e.Body["initiatorParticipantId"] = "sandbox", d.InitiatorParticipantID
	e.Body["customerIdentifiers"] = d.Session.CustomerIdentifiers
	if len(d.EngagementParameters) > 0 {
		e.Body["engagementParameters"] = d.EngagementParameters
	}
	return e
}

func (w *World) participant(kind string, d *dialog, c *Connection, correlation string) Event {
	e := w.event(d, kind, correlation)
	e.Body["channelId"], e.Body["connectionId"], e.Body["participantId"] = d.ChannelID, c.ConnectionID, c.ParticipantID
	e.Body["participantType"] = c.ParticipantType
	put(e.Body, "displayName", c.DisplayName)
	put(e.Body, "providerDialogId", d.ProviderDialogID)
	return e
}

func (w *World) engagementError(d *dialog, correlation string) Event {
	e := w.event(d, "ENGAGEMENT_ERROR", correlation)
	e.Body["type"], e.Body["title"], e.Body["detail"] = "ENGAGEMENT_CREATION_FAILED", "Chat could not be opened", "No route for this conversation"
	e.Body["channelId"] = d.ChannelID
	put(e.Body, "providerDialogId", d.ProviderDialogID)
	return e
}

func (w *World) messageEvent(d *dialog, m *Message) Event {
	e := w.event(d, "MESSAGES", m.CorrelationID)
	e.SenderType = m.SenderParticipantType
	data, err := json.Marshal(m)
	if err == nil {
		var fields map[string]any
		if err = json.Unmarshal(data, &fields); err == nil {
			maps.Copy(e.Body, fields)
		}
	}
	e.Body["receivedAt"], e.Body["lastUpdatedAt"] = m.ReceivedAt.Format(time.RFC3339Nano), m.LastUpdatedAt.Format(time.RFC3339Nano)
	return e
}
