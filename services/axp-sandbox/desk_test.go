package sandbox_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sandbox "github.com/axpchat/connector/services/axp-sandbox"
	"github.com/axpchat/connector/services/internal/kit/await"
)

type deskChat struct {
	DialogID, Status string
	Waiting          bool
	Customer         struct {
		DisplayName string
		Identifiers map[string][]string
	}
	SessionParameters map[string]string
	Participants      []struct {
		ParticipantType, DisplayName string
		Connected                    bool
	}
	Messages []struct{ SenderType, Text string }
}

type deskState struct {
	AgentName string
	AutoAgent bool
	Chats     []deskChat
}

func (t talk) shown() deskChat {
	t.b.t.Helper()
	for _, c := range into[deskState](t.b.get("/desk/api/state").want(200)).Chats {
		if c.DialogID == t.dialog {
			return c
		}
	}
	return deskChat{}
}

func TestTheDeskShowsWaitingCustomersWithTheirContext(t *testing.T) {
	b := start(t, nil)
	s := b.session("Maren")
	b.post(chat+"/sessions/"+s+":updateSessionParameters", object{"page": "tents"}).want(200)
	tk := b.talk(s)
	tk.say("Hello")
	got := tk.shown()
	if !got.Waiting || got.Customer.DisplayName != "Maren" || got.Customer.Identifiers["emailAddresses"][0] != "maren@example.com" ||
		got.SessionParameters["page"] != "tents" || len(got.Messages) != 1 || got.Messages[0].Text != "Hello" {
		t.Errorf("shown %+v", got)
	}
	tk.desk("messages", object{"text": "too early"}).want(409)
	tk.desk("leave", object{}).want(409)
	tk.desk("accept", object{"agentName": "Ada"}).want(200)
	tk.desk("accept", object{"agentName": "Bo"}).want(409)
	tk.desk("messages", object{"text": ""}).want(400)
	tk.desk("messages", object{"text": "x", "textFormat": "RTF"}).want(400)
	tk.desk("messages", object{"kind": "song"}).want(400)
	tk.desk("messages", "{").want(400)
	if tk.shown().Waiting {
		t.Error("the customer still waits")
	}
	tk.desk("leave", object{}).want(200)
	if !tk.shown().Waiting {
		t.Error("the customer does not wait again")
	}
	tk.desk("end", object{}).want(200)
	tk.desk("end", object{}).want(404)
	b.post("/desk/api/chats/"+nobody+"/accept", object{}).want(404)
}

func TestEachKindOfDeskMessageConforms(t *testing.T) {
	b := start(t, nil)
	rec, tk := b.quiet()
	tk.desk("accept", object{}).want(200)
	for kind, part := range map[string]string{
		"text": "elementText", "image": "elementText", "file": "elementText", "carousel": "richMediaPayload", "actions": "richMediaPayload", "location": "richMediaPayload",
	} {
		tk.desk("messages", object{"kind": kind, "text": "look", "textFormat": "MARKDOWN"}).want(200)
		event := rec.next()
		if body, _ := event["body"].(object); body[part] == nil {
			t.Errorf("%s: %v", kind, event)
		}
		if kind != "image" && kind != "file" {
			continue
		}
		attachments, _ := event["attachments"].([]any)
		if len(attachments) != 1 {
			t.Fatalf("%s: %v", kind, event)
		}
		if file := b.bare(text(attachments[0], "url")).want(200); len(file.data) == 0 {
			t.Errorf("%s: no bytes", kind)
		}
	}
}

func TestTheDeskStreamsChanges(t *testing.T) {
	b := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/desk/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	next := func() (event struct {
		State *deskState
		Chat  *deskChat
	}) {
		t.Helper()
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(data), &event); err != nil {
					t.Fatal(err)
				}
				return event
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return event
	}
	if e := next(); e.State == nil || len(e.State.Chats) != 0 {
		t.Errorf("first event %+v", e)
	}
	tk := b.talk(b.session("Maren"))
	for e := next(); e.Chat == nil || e.Chat.Status != "ACTIVE"; e = next() {
		if e.Chat == nil || e.Chat.DialogID != tk.dialog {
			t.Fatalf("event %+v", e)
		}
	}
	b.control("reset", nil)
	for e := next(); e.State == nil; e = next() {
	}
	b.stop() // the stream does not hold the sandbox back
	for lines.Scan() {
	}
}

func TestTheAutomaticAgentServesCustomers(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.AutoAgent = true })
	rec := b.receive("CC_MESSAGES", "PARTICIPANT_ADDED", "PARTICIPANT_DISCONNECTED")
	tk := b.talk(b.session("Maren"))
	rec.expect("PARTICIPANT_ADDED CUSTOMER", "PARTICIPANT_ADDED AGENT", "MESSAGES AGENT: Hello Maren, this is Robin. What can I do for you?")
	tk.say("When are you open?")
	rec.expect("MESSAGES AGENT: We are open Monday to Saturday, 9 to 18 o'clock.")
	tk.say("Show me options")
	rec.expect("MESSAGES AGENT: These two would fit:")
	tk.say("I want to talk to a colleague")
	rec.expect("MESSAGES AGENT: I will ask a colleague to go on. Please stay in the chat.", "PARTICIPANT_DISCONNECTED AGENT", "PARTICIPANT_ADDED AGENT")
	if e := rec.next(); text(e, "senderParticipantName") != "Kim" {
		t.Errorf("the colleague: %v", e)
	}
	tk.say("Bye")
	rec.expect("MESSAGES AGENT: You are welcome. Have a good day!", "PARTICIPANT_DISCONNECTED AGENT", "PARTICIPANT_DISCONNECTED CUSTOMER")
}

func TestTheAutomaticAgentGreetsByTheContext(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.AutoAgent, c.AcceptDelay = true, 200*time.Millisecond })
	rec := b.receive("CC_MESSAGES")
	for _, parameter := range []string{"page", "currentPage"} {
		body := newSession("Maren")
		body["sessionParameters"] = object{parameter: "tents"}
		tk := b.talk(b.post(chat+"/sessions", body).want(201).text("sessionId"))
		if got := tell(rec.next()); !strings.Contains(got, "looking at tents") {
			t.Errorf("greeting by %s: %q", parameter, got)
		}
		tk.say("Bye")
		rec.next()
	}
}

func TestTheAutomaticAgentCanBeSwitchedOff(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.AutoAgent, c.AcceptDelay = true, 50*time.Millisecond })
	rec := b.receive("PARTICIPANT_ADDED", "CC_MESSAGES")
	tk := b.talk(b.session("Maren")) // it is on its way
	if got := into[deskState](b.post("/desk/api/auto", object{"enabled": false}).want(200)); got.AutoAgent {
		t.Error("it is still on")
	}
	other := b.talk(b.session("Nils"))
	b.control("faults", object{"kind": "latency", "delayMs": 150, "count": 1})
	b.get(hooks).want(200) // by then it would have come
	tk.desk("accept", object{"agentName": "Ada"}).want(200)
	other.desk("accept", object{"agentName": "Ada"}).want(200)
	rec.expect("PARTICIPANT_ADDED CUSTOMER")
	for range 3 {
		if e := rec.next(); text(e, "displayName") == "Robin" {
			t.Errorf("it came all the same: %v", e)
		}
	}
	other.desk("leave", object{}).want(200)
	b.post("/desk/api/auto", object{"enabled": true}).want(200)
	await.Until(t, "it to take up the chat that waits", func() bool { return !other.shown().Waiting })
	for _, p := range tk.shown().Participants {
		if p.DisplayName == "Robin" {
			t.Error("it went into a chat that is served")
		}
	}
}

// Somebody at the desk who takes the automatic agent out has the chat alone,
// also under the same name.
func TestTheAutomaticAgentIsRelieved(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.AutoAgent = true })
	rec := b.receive("MESSAGES")
	tk := b.talk(b.session("Maren"))
	rec.expect("MESSAGES AGENT: Hello Maren, this is Robin. What can I do for you?")
	tk.desk("leave", object{}).want(200)
	tk.desk("accept", object{"agentName": "Robin"}).want(200)
	tk.say("Show me options")
	rec.expect("MESSAGES CUSTOMER: Show me options")
	tk.say("Show me more options")
	rec.expect("MESSAGES CUSTOMER: Show me more options")
	tk.desk("messages", object{"text": "I am a person."}).want(200)
	rec.expect("MESSAGES AGENT: I am a person.")
}

func TestTheWorldOutlastsARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "world.json")
	keep := func(c *sandbox.Config) { c.DataFile, c.RetryDelay = file, time.Hour }
	rec := listen(t)
	rec.answers(func(_ object, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	one := start(t, keep)
	id := one.post(hooks, object{"channelProviderId": provider, "callbackUrl": rec.url, "eventTypes": []string{"MESSAGES"}}).want(201).text("subscriptionId")
	tk := one.talk(one.session("Maren"))
	tk.say("Hello")
	tk.say("Are you there?")
	rec.expect("MESSAGES CUSTOMER: Hello", "MESSAGES CUSTOMER: Are you there?")
	ended := one.talk(one.session("Nils"))
	one.post(ended.path(":disconnect"), ended.ids()).want(200)
	one.stop()

	rec.answers(nil)
	two := start(t, keep)
	rec.expect("MESSAGES CUSTOMER: Hello", "MESSAGES CUSTOMER: Are you there?") // nothing is lost
	two.get(hooks + "/" + id).want(200)
	tk.b, ended.b = two, two
	if got := tk.status(); got != "ACTIVE" {
		t.Errorf("status %s", got)
	}
	if got := ended.status(); got != "TERMINATED" {
		t.Errorf("status %s", got)
	}
	tk.say("Still here")
	if e := rec.next(); e["messageIndex"] != 3.0 {
		t.Errorf("event %v", e)
	}
	two.call(http.MethodGet, hooks, nil, header("Authorization", "Bearer "+one.token)).want(401)
}

func TestAPendingDialogOutlastsARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "world.json")
	one := start(t, func(c *sandbox.Config) { c.DataFile, c.ActivationDelay = file, time.Hour })
	good, bad := one.pending(one.session("Maren"), "tents"), one.pending(one.session("Nils"), "no-route")
	one.stop()
	two := start(t, func(c *sandbox.Config) { c.DataFile = file })
	good.b, bad.b = two, two
	await.Until(t, "the dialog to be ACTIVE", func() bool { return good.status() == "ACTIVE" })
	await.Until(t, "the other one to fail", func() bool { return bad.status() == "TERMINATED" })
}

func TestCustomersTokensAreIssuedForDevelopment(t *testing.T) {
	b := start(t, func(c *sandbox.Config) {
		c.TokenSecret = "development-secret-0123456789"
	})
	got := b.post("/dev/token", object{"name": "Maren"}).want(200)
	if strings.Count(got.text("token"), ".") != 2 || got.text("expiresAt") == "" || got.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("answer %s", got.data)
	}
	b.post("/dev/token", "{").want(400)
	b.call(http.MethodOptions, "/dev/token", nil).want(204)
	start(t, nil).post("/dev/token", object{}).want(404) // no secret, no issuer
}

func TestConfigMistakesAreAllNamed(t *testing.T) {
	c := settings()
	if ms := c.Validate(); len(ms) != 0 {
		t.Errorf("mistakes in a sound configuration: %v", ms)
	}
	c = sandbox.Config{AccountID: "SIX123", ActivationDelay: -1, AcceptDelay: -1, ReplyDelay: -1}
	want := []string{
		"SANDBOX_ACCOUNT_ID", "SANDBOX_CHANNEL_PROVIDER_ID", "SANDBOX_MAX_ATTEMPTS", "SANDBOX_TOKEN_LIFETIME", "SANDBOX_RETRY_DELAY",
		"SANDBOX_CALLBACK_TIMEOUT", "SANDBOX_ACTIVATION_DELAY", "SANDBOX_AGENT_ACCEPT_DELAY", "SANDBOX_AGENT_REPLY_DELAY",
	}
	var got []string
	for _, m := range c.Validate() {
		got = append(got, m.Key)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("mistakes of %v, want %v", got, want)
	}
}
