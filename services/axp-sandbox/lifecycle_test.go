package sandbox_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	sandbox "github.com/axpchat/connector/services/axp-sandbox"
	"github.com/axpchat/connector/services/internal/kit/await"
)

func TestASessionLives(t *testing.T) {
	b := start(t, nil)
	body := newSession("Maren")
	body["correlationId"], body["sessionParameters"] = "trace-1", object{"page": "tents"}
	created := b.post(chat+"/sessions", body).want(201)
	if created.text("correlationId") != "trace-1" || created.text("participantId") == "" || created.text("sessionStatus") != "ACTIVE" || created.text("accountId") != account {
		t.Errorf("created: %s", created.data)
	}
	path := chat + "/sessions/" + created.text("sessionId")
	if got := b.get(path).want(200); got.text("participantId") != "" || got.text("displayName") != "Maren" {
		t.Errorf("read: %s", got.data)
	}
	got := into[struct {
		CustomerIdentifiers map[string][]string
		SessionParameters   map[string]string
	}](b.post(path+":appendIdentifiers", object{"emailAddresses": []string{"maren@example.com"}, "phoneNumbers": []string{"1"}}).want(200))
	if len(got.CustomerIdentifiers["emailAddresses"]) != 2 || len(got.CustomerIdentifiers["phoneNumbers"]) != 1 {
		t.Errorf("identifiers %v: values are appended, also twice", got.CustomerIdentifiers)
	}
	b.post(path+":appendIdentifiers", object{"emailAddresses": values(4, 1)}).refused("customerIdentifiers.emailAddresses")
	b.post(path+":updateSessionParameters", object{"page": "stoves", "basket": "2"}).want(200)
	b.post(path+":updateSessionParameters", many(19, "v")).refused("sessionParameters") // 21 in all
	final := into[struct{ SessionParameters map[string]string }](b.get(path).want(200)).SessionParameters
	if final["page"] != "stoves" || final["basket"] != "2" || len(final) != 2 {
		t.Errorf("parameters %v", final)
	}
	b.call(http.MethodDelete, path+"?reason=USER_CLOSED", nil).want(204)
	if got := b.get(path).want(200).text("sessionStatus"); got != "TERMINATED" {
		t.Errorf("status %s", got)
	}
	b.call(http.MethodDelete, path+"?reason=USER_CLOSED", nil).want(404)
	b.post(path+":updateSessionParameters", object{}).want(404)
	b.post(chat+"/engagements", object{"sessionId": created.text("sessionId"), "channelId": "Chat"}).want(404)
}

func TestCorrelationIdsComeBackOrAreMadeUp(t *testing.T) {
	b := start(t, nil)
	for _, sent := range []string{"", "trace-2"} {
		tk := b.talk(b.session("Maren" + sent))
		for _, path := range []string{"/messages", ":join", ":disconnect"} {
			body := tk.message("Hello")
			if sent != "" {
				body["correlationId"] = sent
			}
			if got := b.post(tk.path(path), body).text("correlationId"); got == "" || sent != "" && got != sent {
				t.Errorf("%s: correlationId %q, sent %q", path, got, sent)
			}
		}
	}
}

func TestADialogGoesFromPendingToTerminated(t *testing.T) {
	b := start(t, nil)
	rec := b.receive()
	s := b.session("Maren")
	body := object{
		"sessionId": s, "channelId": "Chat", "providerDialogId": "ours", "conversation": "tents", "correlationId": "trace-3",
		"engagementParameters": object{"vip": "yes"},
	}
	created := b.post(chat+"/engagements", body).want(201)
	e := into[engagement](created)
	d := e.Dialogs[0]
	if e.CorrelationID != "trace-3" || e.Conversation != "tents" || d.DialogStatus != "PENDING" || d.ProviderDialogID != "ours" || len(d.Connections) != 1 {
		t.Fatalf("created: %s", created.data)
	}
	customer := d.Connections[0]
	if customer.ParticipantType != "CUSTOMER" || customer.ConnectionState != "CONNECTED" || !slices.Equal(customer.SessionIDs, []string{s}) ||
		customer.ParticipantID != d.InitiatorParticipantID {
		t.Errorf("the customer's connection: %+v", customer)
	}
	event := rec.next()
	for path, want := range map[string]string{
		"eventType": "ENGAGEMENT_CREATED", "correlationId": "trace-3", "providerDialogId": "ours", "conversation": "tents", "dialogId": d.DialogID,
		"engagementId": e.EngagementID, "sessionId": s, "initiatorParticipantId": customer.ParticipantID, "engagementParameters.vip": "yes",
	} {
		if got := text(event, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	event = rec.next()
	if tell(event) != began[1] || text(event, "connectionId") != customer.ConnectionID || text(event, "displayName") != "Maren" {
		t.Errorf("event %v", event)
	}
	tk := talk{b, s, e.EngagementID, d.DialogID}
	await.Until(t, "the dialog to be ACTIVE", func() bool { return tk.status() == "ACTIVE" })
	tk.desk("accept", object{"agentName": "Ada"}).want(200)
	tk.desk("leave", object{}).want(200) // an agent who leaves does not end the chat
	tk.desk("accept", object{"agentName": "Bo"}).want(200)
	b.post(tk.path(":disconnect"), tk.ids()).want(200)
	rec.expect("PARTICIPANT_ADDED AGENT", "PARTICIPANT_DISCONNECTED AGENT", "PARTICIPANT_ADDED AGENT", "PARTICIPANT_DISCONNECTED AGENT", "PARTICIPANT_DISCONNECTED CUSTOMER")
	if got := tk.status(); got != "TERMINATED" {
		t.Errorf("status %s", got)
	}
	for _, c := range into[engagement](b.get(tk.path("")).want(200)).Dialogs[0].Connections {
		if c.ConnectionState != "DISCONNECTED" {
			t.Errorf("%s is %s", c.ParticipantType, c.ConnectionState)
		}
	}
	b.post(tk.path(":disconnect"), tk.ids()).want(404)
	b.post(tk.path(":join"), tk.ids()).want(404)
	b.post(tk.path("/messages"), tk.message("late")).want(404)
	b.get(tk.path("/messages?sessionId=" + s + "&dialogId=" + d.DialogID)).want(404)
}

func TestAPendingDialogTakesNoMessages(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.ActivationDelay = patience })
	rec := b.receive()
	tk := b.pending(b.session("Maren"), "")
	b.post(tk.path("/messages"), tk.message("early")).refused("dialogId")
	b.post(tk.path(":join"), tk.ids()).refused("dialogId")
	b.post(tk.path(":disconnect"), tk.ids()).want(200)
	rec.expect("PARTICIPANT_DISCONNECTED CUSTOMER")
}

func TestAConversationWithoutARouteFailsLater(t *testing.T) {
	b := start(t, nil)
	rec := b.receive()
	tk := b.pending(b.session("Maren"), "no-route")
	event := rec.next()
	if tell(event) != "ENGAGEMENT_ERROR" || text(event, "type") != "ENGAGEMENT_CREATION_FAILED" || text(event, "title") == "" || text(event, "dialogId") != tk.dialog {
		t.Errorf("event %v", event)
	}
	if got := tk.status(); got != "TERMINATED" {
		t.Errorf("status %s", got)
	}
}

func TestAnotherChatOfTheCustomerIsAnotherDialog(t *testing.T) {
	b := start(t, nil)
	phone, laptop, stranger := b.session("Maren"), b.session("Maren"), b.session("Nils")
	one := b.talk(phone)
	two := b.talk(laptop)
	three := b.talk(stranger)
	if one.engagement != two.engagement || one.dialog == two.dialog {
		t.Errorf("the second chat is %+v beside %+v", two, one)
	}
	if three.engagement == one.engagement {
		t.Error("a stranger's chat became a dialog of the same engagement")
	}
	list := into[[]engagement](b.get(chat + "/engagements?sessionId=" + phone).want(200))
	if len(list) != 1 || len(list[0].Dialogs) != 2 {
		t.Errorf("engagements of the session: %+v", list)
	}
	for _, tk := range []talk{one, two} {
		b.post(tk.path(":disconnect"), tk.ids()).want(200)
	}
	if again := b.talk(phone); again.engagement == one.engagement {
		t.Error("an engagement that has ended was taken up again")
	}
}

func TestAnotherDeviceJoinsAndGoes(t *testing.T) {
	b := start(t, nil)
	tk := b.talk(b.session("Maren"))
	laptop, stranger := b.session("Maren"), b.session("Nils")
	body := func(s string) object { return object{"sessionId": s, "dialogId": tk.dialog} }
	message := tk.message("from the laptop")
	message["sessionId"] = laptop
	b.post(tk.path("/messages"), message).want(404) // not in the dialog yet
	b.post(tk.path(":join"), body(stranger)).want(403)
	for range 2 { // joining twice changes nothing
		got := into[engagement](b.post(tk.path(":join"), body(laptop)).want(200))
		if ids := got.Dialogs[0].Connections[0].SessionIDs; !slices.Equal(ids, []string{tk.session, laptop}) {
			t.Errorf("sessions in the dialog: %v", ids)
		}
	}
	b.post(tk.path("/messages"), message).want(202)
	b.call(http.MethodDelete, chat+"/sessions/"+laptop+"?reason=USER_CLOSED", nil).want(204)
	tk.say("still here")
	b.call(http.MethodDelete, chat+"/sessions/"+tk.session+"?reason=USER_CLOSED", nil).want(204)
	if got := tk.status(); got != "TERMINATED" {
		t.Errorf("status %s", got)
	}
}

func TestAMessageIsEchoedWithAllThatWasSent(t *testing.T) {
	b := start(t, nil)
	rec := b.receive()
	tk := b.talk(b.session("Maren"))
	rec.expect(began...)
	tk.desk("accept", object{"agentName": "Ada"}).want(200)
	rec.expect("PARTICIPANT_ADDED AGENT")
	m := tk.message("Hello")
	more := map[string]string{
		"fallbackText": "Hello!", "senderParticipantName": "M.", "parentMessageId": "p", "providerMessageId": "ours-1",
		"providerParentMessageId": "ours-0", "correlationId": "trace-4", "headers.subject": "tents", "customData.k": "v", "body.payload": `{"a":1}`,
	}
	for path, value := range more {
		set(m, path, value)
	}
	set(m, "body.richMediaPayload", object{"actions": []object{{"type": "reply"}}}) // Custom Chat takes none
	m["attachments"] = []object{{"name": "a"}}
	sent := b.post(tk.path("/messages"), m).want(202)
	if sent.text("messageId") != "" || sent.text("status") != "SENT" || sent.text("providerMessageId") != "ours-1" {
		t.Errorf("answer %s", sent.data)
	}
	echo := rec.next()
	for path, want := range more {
		if got := text(echo, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	body, _ := echo["body"].(object)
	recipients, _ := echo["recipientParticipants"].([]any)
	if tell(echo) != "MESSAGES CUSTOMER: Hello" || text(echo, "messageId") == "" || echo["messageIndex"] != 1.0 || len(recipients) != 1 ||
		body["richMediaPayload"] != nil || echo["attachments"] != nil {
		t.Errorf("echo %v", echo)
	}
	tk.desk("messages", object{"text": "Hi"}).want(200)
	if got := rec.next(); tell(got) != "MESSAGES AGENT: Hi" || got["messageIndex"] != 2.0 || text(got, "senderParticipantName") != "Ada" {
		t.Errorf("event %v", got)
	}
}

func TestTheSendersNameFallsBackToTheSessions(t *testing.T) {
	b := start(t, nil)
	tk := b.talk(b.session("Maren"))
	if got := b.post(tk.path("/messages"), tk.message("Hello")).want(202).text("senderParticipantName"); got != "Maren" {
		t.Errorf("name %q", got)
	}
}

func TestMessagesComeInPages(t *testing.T) {
	b := start(t, nil)
	tk := b.talk(b.session("Maren"))
	for i := range 23 {
		tk.say(fmt.Sprint("message ", i+1))
	}
	type page struct {
		Pagination struct{ PageNumber, PageSize, Total int }
		Messages   []struct {
			MessageIndex      int
			ProviderMessageID string
		}
		Links struct{ Prev, Next string }
	}
	list := func(query string) page {
		t.Helper()
		return into[page](b.get(tk.path("/messages?sessionId=" + tk.session + "&dialogId=" + tk.dialog + query)).want(200))
	}
	for _, c := range []struct {
		query            string
		size, number     int
		first, count     int
		hasPrev, hasNext bool
	}{
		{"", 10, 1, 1, 10, false, true},
		{"&pageNumber=3", 10, 3, 21, 3, true, false},
		{"&pageSize=5&pageNumber=2", 5, 2, 6, 5, true, true},
		{"&pageSize=50", 50, 1, 1, 23, false, false},
		{"&pageSize=23", 23, 1, 1, 23, false, false},
		{"&pageNumber=4", 10, 4, 0, 0, true, false},
		{"&pageNumber=1073741824", 10, 1 << 30, 0, 0, true, false},
	} {
		p := list(c.query)
		if p.Pagination.PageSize != c.size || p.Pagination.PageNumber != c.number || p.Pagination.Total != 23 || len(p.Messages) != c.count ||
			(p.Links.Prev != "") != c.hasPrev || (p.Links.Next != "") != c.hasNext {
			t.Errorf("%q: %+v with %d messages, links %+v", c.query, p.Pagination, len(p.Messages), p.Links)
		}
		for i, m := range p.Messages {
			if m.MessageIndex != c.first+i || m.ProviderMessageID != fmt.Sprint("message ", m.MessageIndex) {
				t.Errorf("%q: message %d is %+v", c.query, i, m)
			}
		}
	}
	b.get(tk.path("/messages?dialogId=" + tk.dialog + "&sessionId=" + b.session("Nils"))).want(404)
}

func TestDialogsOfAnotherEngagementAreNotFound(t *testing.T) {
	b := start(t, nil)
	one, two := b.talk(b.session("Maren")), b.talk(b.session("Nils"))
	mixed := talk{b, one.session, two.engagement, one.dialog}
	b.post(mixed.path("/messages"), mixed.message("Hello")).want(404)
	b.post(mixed.path(":join"), mixed.ids()).want(404)
	b.post(mixed.path(":disconnect"), mixed.ids()).want(404)
}
