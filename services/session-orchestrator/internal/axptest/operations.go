package axptest

import (
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

func (d *Double) createSession(r *http.Request) (int, any) {
	in, ok := read[axp.CreateSession](r)
	if !ok || len(in.CustomerIdentifiers) == 0 || in.ChannelProviderID != ProviderID {
		return refuse(http.StatusBadRequest)
	}
	s := &axp.Session{
		SessionID: id(), AccountID: AccountID, ChannelProviderID: in.ChannelProviderID, CustomerIdentifiers: in.CustomerIdentifiers,
		DisplayName: in.DisplayName, SessionParameters: map[string]string{}, SessionStatus: axp.SessionActive,
		ProviderCustomerID: in.ProviderCustomerID, CreatedAt: now(), LastUpdatedAt: now(), ParticipantID: id(),
	}
	maps.Copy(s.SessionParameters, in.SessionParameters)
	d.sessions[s.SessionID] = s
	return http.StatusCreated, s
}

func (d *Double) getSession(r *http.Request) (int, any) {
	s, ok := d.sessions[r.PathValue("id")]
	if !ok {
		return refuse(http.StatusNotFound)
	}
	return http.StatusOK, s
}

func (d *Double) deleteSession(r *http.Request) (int, any) {
	s, ok := d.sessions[r.PathValue("id")]
	if !ok {
		return refuse(http.StatusNotFound)
	}
	delete(d.sessions, s.SessionID)
	d.deleted = append(d.deleted, s.SessionID)
	return http.StatusNoContent, nil
}

func (d *Double) appendIdentifiers(r *http.Request) (int, any) {
	s, found := d.sessions[r.PathValue("id")]
	in, ok := read[axp.CustomerIdentifiers](r)
	switch {
	case !found:
		return refuse(http.StatusNotFound)
	case !ok:
		return refuse(http.StatusBadRequest)
	}
	for name, values := range in { // blindly, as AXP does
		s.CustomerIdentifiers[name] = append(s.CustomerIdentifiers[name], values...)
	}
	return http.StatusOK, s
}

func (d *Double) updateParameters(r *http.Request) (int, any) {
	s, found := d.sessions[r.PathValue("id")]
	in, ok := read[map[string]string](r)
	switch {
	case !found:
		return refuse(http.StatusNotFound)
	case !ok || len(in) > 20:
		return refuse(http.StatusBadRequest)
	}
	maps.Copy(s.SessionParameters, in)
	return http.StatusOK, s
}

func (d *Double) createEngagement(r *http.Request) (int, any) {
	in, ok := read[axp.CreateEngagement](r)
	if !ok || in.ChannelID == "" {
		return refuse(http.StatusBadRequest)
	}
	if _, found := d.sessions[in.SessionID]; !found {
		return refuse(http.StatusNotFound)
	}
	dialog := axp.Dialog{
		DialogID: id(), ChannelID: in.ChannelID, DialogStatus: axp.DialogPending, ProviderDialogID: in.ProviderDialogID,
		EngagementParameters: in.EngagementParameters, CreatedAt: now(), LastUpdatedAt: now(),
		Connections: []axp.Connection{{
			ConnectionID: id(), ParticipantID: id(), ParticipantType: axp.ParticipantCustomer,
			ConnectionState: axp.ConnectionConnected, SessionIDs: []string{in.SessionID},
		}},
	}
	for key, e := range d.engagements { // AXP adds a dialog to what is open
		if d.owners[key] == in.SessionID && open(e) {
			e.Dialogs = append([]axp.Dialog{dialog}, e.Dialogs...)
			return http.StatusCreated, e
		}
	}
	e := &axp.Engagement{EngagementID: id(), AccountID: AccountID, Conversation: in.Conversation, Dialogs: []axp.Dialog{dialog}}
	d.engagements[e.EngagementID], d.owners[e.EngagementID] = e, in.SessionID
	return http.StatusCreated, e
}

func open(e *axp.Engagement) bool {
	for i := range e.Dialogs {
		if e.Dialogs[i].DialogStatus != axp.DialogTerminated {
			return true
		}
	}
	return false
}

func (d *Double) listEngagements(r *http.Request) (int, any) {
	session := r.URL.Query().Get("sessionId")
	if _, found := d.sessions[session]; !found {
		return refuse(http.StatusNotFound)
	}
	out := []*axp.Engagement{}
	for key, e := range d.engagements {
		if d.owners[key] == session {
			out = append(out, e)
		}
	}
	return http.StatusOK, out
}

func (d *Double) getEngagement(r *http.Request) (int, any) {
	e, ok := d.engagements[r.PathValue("id")]
	if !ok {
		return refuse(http.StatusNotFound)
	}
	return http.StatusOK, e
}

func (d *Double) join(r *http.Request) (int, any) {
	e, found := d.engagements[r.PathValue("id")]
	in, ok := read[axp.JoinEngagement](r)
	if !ok {
		return refuse(http.StatusBadRequest)
	}
	if !found {
		return refuse(http.StatusNotFound)
	}
	dialog, found := e.DialogByID(in.DialogID)
	if !found {
		return refuse(http.StatusNotFound)
	}
	dialog.Connections[0].SessionIDs = append(dialog.Connections[0].SessionIDs, in.SessionID)
	return http.StatusOK, e
}

func (d *Double) disconnect(r *http.Request) (int, any) {
	e, found := d.engagements[r.PathValue("id")]
	in, ok := read[axp.DisconnectEngagement](r)
	if !ok {
		return refuse(http.StatusBadRequest)
	}
	if !found {
		return refuse(http.StatusNotFound)
	}
	dialog, found := e.DialogByID(in.DialogID)
	if !found {
		return refuse(http.StatusNotFound)
	}
	dialog.DialogStatus = axp.DialogTerminated
	for i := range dialog.Connections {
		dialog.Connections[i].ConnectionState = axp.ConnectionDisconnected
	}
	return http.StatusOK, e
}

// Activate makes a dialog ACTIVE.
func (d *Double) Activate(dialog string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.engagements {
		if found, ok := e.DialogByID(dialog); ok {
			found.DialogStatus = axp.DialogActive
		}
	}
}

// Drop disconnects the customer from a dialog that goes on, as where an agent
// takes him out.
func (d *Double) Drop(dialog string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.engagements {
		if found, ok := e.DialogByID(dialog); ok {
			found.Connections[0].ConnectionState = axp.ConnectionDisconnected
		}
	}
}

func (d *Double) sendMessage(r *http.Request) (int, any) {
	e, found := d.engagements[r.PathValue("id")]
	in, ok := read[axp.SendMessage](r)
	if !ok || in.Body.ElementText == nil {
		return refuse(http.StatusBadRequest)
	}
	if !found {
		return refuse(http.StatusNotFound)
	}
	dialog, found := e.DialogByID(in.DialogID)
	if !found || dialog.DialogStatus == axp.DialogTerminated {
		return refuse(http.StatusNotFound)
	}
	text := *in.Body.ElementText
	d.messages[in.DialogID] = append(d.messages[in.DialogID], axp.Message{
		MessageID: id(), DialogID: in.DialogID, EngagementID: e.EngagementID, SessionID: in.SessionID, Status: axp.MessageSent,
		Body: axp.MessageBody{ElementType: in.Body.ElementType, ElementText: &text}, ProviderMessageID: in.ProviderMessageID,
		SenderParticipantName: in.SenderParticipantName, SenderParticipantType: axp.ParticipantCustomer, ReceivedAt: now(),
	})
	return http.StatusAccepted, map[string]any{"status": axp.MessageSent, "providerMessageId": in.ProviderMessageID}
}

func (d *Double) listMessages(r *http.Request) (int, any) {
	q := r.URL.Query()
	all := d.messages[q.Get("dialogId")]
	page, _ := strconv.Atoi(q.Get("pageNumber"))
	size, _ := strconv.Atoi(q.Get("pageSize"))
	if page < 1 || size < 1 {
		return refuse(http.StatusBadRequest)
	}
	from := min((page-1)*size, len(all))
	to := min(from+size, len(all))
	return http.StatusOK, map[string]any{
		"pagination": map[string]int{"pageNumber": page, "pageSize": size, "total": len(all)}, "messages": all[from:to],
	}
}

func (d *Double) upload(r *http.Request) (int, any) {
	in, ok := read[axp.SignedMediaInfo](r)
	if !ok {
		return refuse(http.StatusBadRequest)
	}
	media := id()
	d.media[media] = in
	return http.StatusOK, map[string]any{"mediaId": media, "uploadSignedUri": "/v1/media/" + media + "?ttl=1&signature=s"}
}

func (d *Double) download(r *http.Request) (int, any) {
	media := r.PathValue("id")
	in, ok := d.media[media]
	if !ok {
		return refuse(http.StatusNotFound)
	}
	return http.StatusOK, map[string]any{
		"mediaId": media, "mediaName": in.MediaName, "mediaContentType": in.MediaContentType, "mediaSize": in.MediaSize,
		"downloadSignedUri": "/v1/media/" + media + "?ttl=1&signature=s",
	}
}

func (d *Double) listSubscriptions(*http.Request) (int, any) {
	return http.StatusOK, append([]axp.Subscription{}, d.subs...)
}

func (d *Double) createSubscription(r *http.Request) (int, any) {
	in, ok := read[axp.Subscription](r)
	if !ok {
		return refuse(http.StatusBadRequest)
	}
	in.SubscriptionID = id()
	d.subs = append(d.subs, in)
	return http.StatusCreated, in
}

func (d *Double) deleteSubscription(r *http.Request) (int, any) {
	before := len(d.subs)
	d.subs = slices.DeleteFunc(d.subs, func(s axp.Subscription) bool { return s.SubscriptionID == r.PathValue("id") })
	if len(d.subs) == before {
		return refuse(http.StatusNotFound)
	}
	return http.StatusNoContent, nil
}
