package normalise_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/normalise"
	"github.com/axpchat/connector/services/internal/normalise/sampletest"
)

func read(t testing.TB, body string) normalise.Result {
	t.Helper()
	r, err := normalise.Callback([]byte(body))
	if err != nil {
		t.Fatalf("callback: %v\n%s", err, body)
	}
	return r
}

func sample(t testing.TB, name string) normalise.Result {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", "events", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return read(t, string(body))
}

func at(t testing.TB, text string) *timestamppb.Timestamp {
	t.Helper()
	v, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return timestamppb.New(v)
}

func TestNoValueOfACallbackIsLost(t *testing.T) {
	for _, s := range sampletest.Load(t) {
		t.Run(s.Name, func(t *testing.T) {
			for name, body := range map[string][]byte{"as it is": s.Body, "with unique values": sampletest.Mark(t, s.Body)} {
				r := read(t, string(body))
				if missing := sampletest.Missing(t, body, r.Event); len(missing) > 0 {
					t.Errorf("%s: not in the event:\n%s", name, strings.Join(missing, "\n"))
				}
				known := !strings.HasPrefix(filepath.Base(s.Name), "unknown")
				future := strings.HasSuffix(s.Name, "future-fields")
				if r.Event.GetExtraJson() != "" && known && !future {
					t.Errorf("%s: a documented field was not understood: %s", name, r.Event.GetExtraJson())
				}
				if (r.Type == "UNKNOWN") == known {
					t.Errorf("%s: type %s", name, r.Type)
				}
			}
		})
	}
}

func TestAnEchoIsTheDeliveryOfTheCustomersMessage(t *testing.T) {
	e := sample(t, "message-customer-echo").Event
	index := int64(3)
	want := &axpchatv1.Event{
		EventId: e.GetEventId(), EventTime: at(t, "2026-05-04T05:31:27.021Z"), CorrelationId: "corr-msg-3",
		Payload: &axpchatv1.Event_MessageDelivered{MessageDelivered: &axpchatv1.Message{
			MessageId: "6f1c0b52-94d7-5e0a-b1c3-08e4f7a9d2b6", AxpMessageId: "msg-0003-lumen",
			ProviderMessageId: "6f1c0b52-94d7-5e0a-b1c3-08e4f7a9d2b6",
			Status:            axpchatv1.MessageStatus_MESSAGE_STATUS_DELIVERED, AxpStatus: "SENT", MessageIndex: &index,
			Sender: &axpchatv1.Participant{
				ParticipantId: "5a61c0de-83f2-4f0b-9d1a-c7e4b2f06a15", DisplayName: "Ines Duarte",
				ParticipantType: axpchatv1.ParticipantType_PARTICIPANT_TYPE_CUSTOMER, ProviderParticipantId: "visitor-31",
			},
			Body: &axpchatv1.MessageBody{
				ElementType: "text", Payload: `{"order":"L-88"}`,
				ElementText: &axpchatv1.ElementText{
					Text: "My lenses arrived scratched 😕", TextFormat: axpchatv1.TextFormat_TEXT_FORMAT_PLAINTEXT,
				},
			},
			Headers: &axpchatv1.MessageHeaders{
				Priority: "normal", Sensitivity: "private", Encoding: "utf-8", Subject: "Scratched", From: "visitor-31",
				To: []string{"seat-12", "seat-13"}, Cc: []string{"lead-1"}, Bcc: []string{"audit-9"}, ReplyTo: "visitor-31b",
				ClientDeviceTag: "phone-ios", MessageSourceServerTag: "edge-2",
				ProviderTimestamp: at(t, "2026-05-04T05:31:26.5Z"), AdditionalHeaders: map[string]string{"x-shop": "porto"},
				SourceAddress: "198.51.100.7", SourceType: "app",
			},
			Recipients: []*axpchatv1.Participant{{
				ParticipantId: "c2f94e80-1d57-4b36-ae08-3b9d7f6512c9", DisplayName: "Bram Visser",
				ParticipantType: axpchatv1.ParticipantType_PARTICIPANT_TYPE_AGENT,
				ConnectionId:    "2e7a9c15-f03b-4d84-b6e1-7c58d0a4f392", ProviderParticipantId: "seat-12",
				ChannelProviderId: "lumen-opticians-web",
			}},
			AxpEngagementId: "4d1f7a60-2c35-4b0e-9a7d-51c8e0b2f913", AxpDialogId: "0c9be21e-7713-4c8a-8f52-6f3d1a94e7b0",
			AxpSessionId: "77e0c4d8-19ab-4d6f-b3c1-2a5f908e6d34", Account: "QRSTUV", ChannelProviderId: "lumen-opticians-web",
			ChannelId: "Chat", BusinessAccountName: "lumen-shop", ProviderDialogId: "lumen-dialog-9001",
			ReceiveTime: at(t, "2026-05-04T05:31:27.021Z"), UpdateTime: at(t, "2026-05-04T05:31:27.021Z"),
		}},
	}
	if diff := cmp.Diff(want, e, protocmp.Transform()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestRichContent(t *testing.T) {
	rich := sample(t, "message-agent-carousel").Event.GetMessageArrived().GetBody().GetRichMediaPayload()
	if len(rich.GetItems()) != 2 || rich.GetItems()[0].GetActions()[1].GetUri() != "https://lumen.example/p/ds" {
		t.Errorf("carousel: %v", rich)
	}
	rich = sample(t, "message-agent-location").Event.GetMessageArrived().GetBody().GetRichMediaPayload()
	if c := rich.GetCoordinates(); c.GetLat() != 41.14961 || c.GetLong() != -8.61099 || rich.GetLocation().GetName() != "Lumen Porto" {
		t.Errorf("location: %v", rich)
	}
	files := sample(t, "message-agent-file").Event.GetMessageArrived().GetAttachments()
	if len(files) != 2 || files[0].GetMediaId() != "med-501" || files[0].GetSize() != 73000 ||
		files[1].GetMediaId() != "med-503" || files[1].GetSize() != 1200 {
		t.Errorf("files: %v", files)
	}
}

func TestUnknownPartsAreKeptUnderTheirPath(t *testing.T) {
	e := sample(t, "message-future-fields").Event
	want := `{"attachments":[{"checksum":"sha-1","size":12.5}],` +
		`"body":{"elementText":{"mood":"calm","textFormat":"RICHTEXT"},"model":{"name":"lens","vertices":[1,2,3]},` +
		`"richMediaPayload":{"actions":[{"speed":2},{}],"theme":"dark"}},` +
		`"pinned":true,"reactions":[{"by":"visitor-31","emoji":"👍"}],"receivedAt":"yesterday","senderParticipantType":"CONCIERGE"}`
	if diff := cmp.Diff(want, e.GetExtraJson()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if m := e.GetMessageArrived(); m.GetBody().GetElementText().GetText() != "Look" || m.GetAttachments()[0].GetAttachmentId() != "att-9" {
		t.Errorf("what is known was not read: %v", m)
	}
}

func TestToleratedBodies(t *testing.T) {
	message := func(fields string) string { return `{"eventType":"MESSAGES","messageId":"m",` + fields + `}` }
	for _, tt := range []struct {
		name, body, extra string
		check             func(*axpchatv1.Event) bool
	}{
		{"null anywhere counts as absent", message(`"body":{"elementText":null,"richMediaPayload":{"items":[null]}},"headers":null,"attachments":[null],"status":null,"messageIndex":null,"lastUpdatedAt":null,"customData":{"a":null}`), "",
			func(e *axpchatv1.Event) bool { return e.GetMessageArrived().GetBody().GetElementText() == nil }},
		{"a body of a wrong type is kept", message(`"body":["x"],"headers":7,"attachments":{"a":1},"recipientParticipants":"all"`),
			`{"attachments":{"a":1},"body":["x"],"headers":7,"recipientParticipants":"all"}`,
			func(e *axpchatv1.Event) bool { return e.GetMessageArrived().GetMessageId() == "m" }},
		{"numbers may be strings and strings numbers", message(`"messageIndex":"12","channelId":7,"attachments":[{"attachmentId":5,"size":3.0}]`), "",
			func(e *axpchatv1.Event) bool {
				m := e.GetMessageArrived()
				return m.GetMessageIndex() == 12 && m.GetChannelId() == "7" && m.GetAttachments()[0].GetAttachmentId() == "5" && m.GetAttachments()[0].GetSize() == 3
			}},
		{"an index that is no whole number is kept", message(`"messageIndex":1.5`), `{"messageIndex":1.5}`,
			func(e *axpchatv1.Event) bool { return e.GetMessageArrived().MessageIndex == nil }},
		{"an index of zero is an index", message(`"messageIndex":0`), "",
			func(e *axpchatv1.Event) bool {
				m := e.GetMessageArrived()
				return m.MessageIndex != nil && m.GetMessageIndex() == 0
			}},
		{"values of maps become texts", message(`"customData":{"n":1.50,"b":true,"o":{"x":1}}`), `{"customData":{"o":{"x":1}}}`,
			func(e *axpchatv1.Event) bool {
				return cmp.Equal(e.GetMessageArrived().GetCustomData(), map[string]string{"n": "1.50", "b": "true"})
			}},
		{"attachmentIds are files too", message(`"attachmentIds":["a1",{"attachmentId":"a2","url":"/v1/media/m2?ttl=1"}]`), "",
			func(e *axpchatv1.Event) bool {
				a := e.GetMessageArrived().GetAttachments()
				return len(a) == 2 && a[0].GetAttachmentId() == "a1" && a[1].GetMediaId() == "m2"
			}},
		{"a file is told once", message(`"attachments":[{"attachmentId":"a1"}],"attachmentIds":["a1","a2"]`), "",
			func(e *axpchatv1.Event) bool { return len(e.GetMessageArrived().GetAttachments()) == 2 }},
		{"id stands in for attachmentId", message(`"attachments":[{"id":"a1"},{"attachmentId":"a2","id":"a2"},{"attachmentId":"a3","id":"x"}]`), `{"attachments":[{},{},{"id":"x"}]}`,
			func(e *axpchatv1.Event) bool {
				a := e.GetMessageArrived().GetAttachments()
				return a[0].GetAttachmentId() == "a1" && a[1].GetAttachmentId() == "a2" && a[2].GetAttachmentId() == "a3"
			}},
		{"rich content inside the text", message(`"body":{"elementText":{"text":"t","richMediaPayload":{"actions":[{"type":"reply"}]}}}`), "", hasAction},
		{"rich content beside the body", message(`"body":{"elementText":{"text":"t"}},"richMediaPayload":{"actions":[{"type":"reply"}]}`), "", hasAction},
		{"rich content without a body", message(`"richMediaPayload":{"actions":[{"type":"reply"}]}`), "", hasAction},
		{"an empty payload does not hide another one", message(`"body":{"richMediaPayload":{}},"richMediaPayload":{"actions":[{"type":"reply"}]}`), "", hasAction},
		{"a second payload is kept", message(`"body":{"richMediaPayload":{"actions":[{"type":"reply"}]}},"richMediaPayload":{"actions":[{"type":"link"}]}`),
			`{"richMediaPayload":{"actions":[{"type":"link"}]}}`, hasAction},
		{"the payload of a body stays a string", message(`"body":{"payload":"{\"a\": 1}"}`), "",
			func(e *axpchatv1.Event) bool { return e.GetMessageArrived().GetBody().GetPayload() == `{"a": 1}` }},
		{"words of enums in any case", message(`"senderParticipantType":"agent","body":{"elementText":{"textFormat":"Html"}}`), "",
			func(e *axpchatv1.Event) bool {
				m := e.GetMessageArrived()
				return m.GetSender().GetParticipantType() == axpchatv1.ParticipantType_PARTICIPANT_TYPE_AGENT &&
					m.GetBody().GetElementText().GetTextFormat() == axpchatv1.TextFormat_TEXT_FORMAT_HTML
			}},
		{"the enum's own zero is not a word", message(`"senderParticipantType":"UNSPECIFIED"`), `{"senderParticipantType":"UNSPECIFIED"}`, nil},
		{"a single identifier", `{"eventType":"ENGAGEMENT_CREATED","dialogId":"d","customerIdentifiers":{"mail":"a@b","none":null,"odd":{"x":1},"mixed":["a",{"y":2}]}}`,
			`{"customerIdentifiers":{"mixed":[{},{"y":2}],"odd":{"x":1}}}`,
			func(e *axpchatv1.Event) bool {
				ids := e.GetEngagementCreated().GetCustomerIdentifiers()
				return ids["mail"].GetValues()[0] == "a@b" && len(ids["mixed"].GetValues()) == 1
			}},
		{"bytes that are no text", message(`"fallbackText":"` + "a\xff" + `b\ud800c"`), "",
			func(e *axpchatv1.Event) bool { return e.GetMessageArrived().GetFallbackText() == "a\uFFFDb\uFFFDc" }},
		{"an escaped byte in an address", message(`"attachments":[{"url":"/media/%ff"}]`), "",
			func(e *axpchatv1.Event) bool {
				return e.GetMessageArrived().GetAttachments()[0].GetMediaId() == "\uFFFD"
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := read(t, tt.body).Event
			if e.GetExtraJson() != tt.extra {
				t.Errorf("extra %s, want %s", e.GetExtraJson(), tt.extra)
			}
			if tt.check != nil && !tt.check(e) {
				t.Errorf("event %v", e)
			}
		})
	}
}

// TestContradictionsOfTheContract has a body for each place where AXP's documents
// disagree about callbacks, by its number in the contract, section 17.
func TestContradictionsOfTheContract(t *testing.T) {
	message := func(fields string) string { return `{"eventType":"MESSAGES","messageId":"m",` + fields + `}` }
	of := (*axpchatv1.Event).GetMessageArrived
	for _, tt := range []struct {
		name, body string
		check      func(*axpchatv1.Event) bool
	}{
		{"2: id and attachmentId", message(`"attachments":[{"id":"a"},{"attachmentId":"b"},{"url":"https://x.example/f"}]`),
			func(e *axpchatv1.Event) bool {
				a := of(e).GetAttachments()
				return len(a) == 3 && a[0].GetAttachmentId() == "a" && a[1].GetAttachmentId() == "b" && a[2].GetUrl() != ""
			}},
		{"3: ids that are no UUIDs", `{"eventType":"PARTICIPANT_ADDED","dialogId":"zz-htz","connectionId":"c/1?","participantId":"mail@x.example"}`,
			func(e *axpchatv1.Event) bool {
				p := e.GetParticipantAdded()
				return p.GetAxpDialogId() == "zz-htz" && p.GetParticipant().GetConnectionId() == "c/1?" && p.GetParticipant().GetParticipantId() == "mail@x.example"
			}},
		{"4: rich content inside the text", message(`"body":{"elementText":{"richMediaPayload":{"actions":[{"type":"reply"}]}}}`), hasAction},
		{"5: attachmentIds", message(`"attachmentIds":["a"]`), func(e *axpchatv1.Event) bool { return of(e).GetAttachments()[0].GetAttachmentId() == "a" }},
		{"6: actions that are read only", message(`"body":{"richMediaPayload":{"actions":[{"type":"reply"}]}}`), hasAction},
		{"8: eventType decides, wherever it stands", `{"connectionId":"c","eventType":"PARTICIPANT_DISCONNECTED"}`,
			func(e *axpchatv1.Event) bool { return e.GetParticipantDisconnected() != nil }},
		{"11 and 12: signed addresses are opaque", message(`"attachments":[{"url":"/v1/media/m%2F1?ttl=1767225600000&signature=ab"},{"url":"https://x.example/media/m2?ttl=soon"}]`),
			func(e *axpchatv1.Event) bool {
				a := of(e).GetAttachments()
				return a[0].GetUrl() == "/v1/media/m%2F1?ttl=1767225600000&signature=ab" && a[0].GetMediaId() == "m/1" && a[1].GetMediaId() == "m2"
			}},
		{"14: providerSenderId", message(`"providerSenderId":"s"`), func(e *axpchatv1.Event) bool { return of(e).GetSender().GetProviderParticipantId() == "s" }},
		{"16: a status that is a number", message(`"status":400`), func(e *axpchatv1.Event) bool { return of(e).GetAxpStatus() == "400" }},
		{"19: an offset without a colon", message(`"receivedAt":"2026-01-01T01:00:00.5+0100"`),
			func(e *axpchatv1.Event) bool {
				return of(e).GetReceiveTime().AsTime().Equal(time.Date(2026, 1, 1, 0, 0, 0, 5e8, time.UTC))
			}},
		{"20: a size that is no whole number in its form", message(`"attachments":[{"size":"12.0"}]`), func(e *axpchatv1.Event) bool { return of(e).GetAttachments()[0].GetSize() == 12 }},
		{"21: the channel in small letters", message(`"channelId":"chat"`), func(e *axpchatv1.Event) bool { return of(e).GetChannelId() == "chat" }},
		{"23: a parent's id of any length", message(`"parentMessageId":"` + strings.Repeat("p", 300) + `"`), func(e *axpchatv1.Event) bool { return len(of(e).GetParentMessageId()) == 300 }},
	} {
		if r := read(t, tt.body); !tt.check(r.Event) || r.Event.GetExtraJson() != "" {
			t.Errorf("%s: %v", tt.name, r.Event)
		}
	}
}

func hasAction(e *axpchatv1.Event) bool {
	a := e.GetMessageArrived().GetBody().GetRichMediaPayload().GetActions()
	return len(a) == 1 && a[0].GetType() == "reply"
}

func TestTimes(t *testing.T) {
	for text, want := range map[string]string{
		"2026-03-11T09:12:43Z":                     "2026-03-11T09:12:43Z",
		"2026-03-11T09:12:43.5+01:00":              "2026-03-11T08:12:43.5Z",
		"2026-03-11T09:12:43.579123456789123-0530": "2026-03-11T14:42:43.579123456Z",
		"2026-03-11T09:12:43+02":                   "2026-03-11T07:12:43Z",
		" 2026-03-11T09:12:43Z ":                   "2026-03-11T09:12:43Z",
		"2026-03-11T09:12:43":                      "",
		"2026-02-31T09:12:43Z":                     "",
		"0001-01-01T00:00:00+12:00":                "",
		"soon":                                     "",
	} {
		e := read(t, fmt.Sprintf(`{"eventType":"MESSAGES","messageId":"m","eventDate":%q}`, text)).Event
		if want == "" {
			if e.GetEventTime() != nil || !strings.Contains(e.GetExtraJson(), "eventDate") {
				t.Errorf("%q: %v, extra %s", text, e.GetEventTime(), e.GetExtraJson())
			}
			continue
		}
		if got := e.GetEventTime().AsTime().Format(time.RFC3339Nano); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	delivered, read_, failed, deleted := axpchatv1.MessageStatus_MESSAGE_STATUS_DELIVERED, axpchatv1.MessageStatus_MESSAGE_STATUS_READ,
		axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED, axpchatv1.MessageStatus_MESSAGE_STATUS_DELETED
	for word, want := range map[string]axpchatv1.MessageStatus{
		"NONE": delivered, "SENT": delivered, "DELIVERED": delivered, "READ": read_, "FAILED": failed, "DELETED": deleted, "QUEUED": delivered, "": delivered,
	} {
		for _, sender := range []string{"CUSTOMER", "AGENT"} {
			e := read(t, fmt.Sprintf(`{"eventType":"MESSAGES","messageId":"m","senderParticipantType":%q,"status":%q}`, sender, word)).Event
			m := e.GetMessageArrived()
			if sender == "CUSTOMER" {
				m = e.GetMessageDelivered()
			}
			if m.GetStatus() != want || m.GetAxpStatus() != word {
				t.Errorf("%s %s: %v %q", sender, word, m.GetStatus(), m.GetAxpStatus())
			}
			if (m.GetFailure() != nil) != (sender == "CUSTOMER" && word == "FAILED") {
				t.Errorf("%s %s: failure %v", sender, word, m.GetFailure())
			}
		}
	}
}

func TestMessageID(t *testing.T) {
	id := func(body string) string {
		e := read(t, body).Event
		return e.GetMessageArrived().GetMessageId() + e.GetMessageDelivered().GetMessageId()
	}
	const ours = "0197f3a2-5b1c-5d4e-8f60-7a8b9c0d1e2f"
	for _, tt := range []struct{ name, body, want string }{
		{"a customer's message has our id", `{"eventType":"MESSAGES","senderParticipantType":"CUSTOMER","messageId":"axp","providerMessageId":"` + ours + `"}`, ours},
		{"a provider id that is not ours", `{"eventType":"MESSAGES","senderParticipantType":"CUSTOMER","messageId":"axp","providerMessageId":"17"}`, "axp"},
		{"an echo that does not say whose it is", `{"eventType":"MESSAGES","senderParticipantType":null,"messageId":"axp","providerMessageId":"` + ours + `"}`, ours},
		{"a message that says neither", `{"eventType":"MESSAGES","messageId":"axp","providerMessageId":"17"}`, "axp"},
		{"an agent's message has AXP's id", `{"eventType":"MESSAGES","senderParticipantType":"AGENT","messageId":"axp","providerMessageId":"` + ours + `"}`, "axp"},
	} {
		if got := id(tt.body); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	first := id(`{"eventType":"MESSAGES","senderParticipantType":"BOT","dialogId":"d","messageIndex":4,"status":"SENT"}`)
	later := id(`{"eventType":"MESSAGES","senderParticipantType":"BOT","dialogId":"d","messageIndex":"4","status":"READ","lastUpdatedAt":"2026-01-01T00:00:00Z"}`)
	other := id(`{"eventType":"MESSAGES","senderParticipantType":"BOT","dialogId":"d","messageIndex":5,"status":"SENT"}`)
	if first != later || first == other || first == "" {
		t.Errorf("derived ids: %s, %s, %s", first, later, other)
	}
}

func TestStaffOnly(t *testing.T) {
	body := func(sender, recipients string) string {
		return `{"eventType":"MESSAGES","messageId":"m","senderParticipantType":"` + sender + `"` + recipients + `}`
	}
	for _, tt := range []struct {
		name, body string
		want       bool
	}{
		{"no list", body("AGENT", ``), false},
		{"an empty list", body("AGENT", `,"recipientParticipants":[]`), false},
		{"the customer and a supervisor", body("AGENT", `,"recipientParticipants":[{"participantType":"SUPERVISOR"},{"participantType":"CUSTOMER"}]`), false},
		{"a supervisor alone", body("AGENT", `,"recipientParticipants":[{"participantType":"SUPERVISOR"}]`), true},
		{"somebody of a new type", body("SYSTEM", `,"recipientParticipants":[{"participantType":"COACH"}]`), true},
		{"the customer to the bot", body("CUSTOMER", `,"recipientParticipants":[{"participantType":"BOT"}]`), false},
	} {
		if got := read(t, tt.body).StaffOnly; got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestWhatIsNoEventOfItsTypeBecomesUnknown(t *testing.T) {
	for _, body := range []string{
		`{}`,
		`{"eventType":null,"messageId":"m"}`,
		`{"eventType":["MESSAGES"],"messageId":"m"}`,
		`{"eventType":"messages","messageId":"m"}`,
		`{"eventType":"MESSAGES","body":null,"dialogId":"d"}`,
		`{"eventType":"MESSAGES","body":"words"}`,
		`{"eventType":"PARTICIPANT_ADDED","dialogId":"d"}`,
		`{"eventType":"ENGAGEMENT_CREATED","accountId":"ABCDEF"}`,
		`{"eventType":"ENGAGEMENT_ERROR","type":null,"dialogId":"d"}`,
		`{"eventType":"TYPING","dialogId":"d"}`,
	} {
		r := read(t, body)
		if r.Type != "UNKNOWN" || r.Event.GetUnknown().GetRawJson() != body || r.Event.GetExtraJson() != "" {
			t.Errorf("%s: type %s, event %v", body, r.Type, r.Event)
		}
	}
}

func TestErrors(t *testing.T) {
	nest := func(n int) string {
		return `{"eventType":"X","a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
	}
	for _, tt := range []struct {
		name, body string
		want       error
	}{
		{"empty", ``, normalise.ErrNotJSON},
		{"white space", "  \n", normalise.ErrNotJSON},
		{"cut off", `{"eventType":"MESS`, normalise.ErrNotJSON},
		{"two values", `{} {}`, normalise.ErrNotJSON},
		{"a form", `eventType=MESSAGES`, normalise.ErrNotJSON},
		{"a list", `[{"eventType":"MESSAGES"}]`, normalise.ErrNotObject},
		{"null", `null`, normalise.ErrNotObject},
		{"a text", `"{}"`, normalise.ErrNotObject},
		{"a level too much", nest(normalise.MaxDepth), normalise.ErrTooDeep},
		{"a bomb", strings.Repeat(`{"a":`, 200000), normalise.ErrNotJSON},
		{"a deep list", strings.Repeat(`[`, 9000) + strings.Repeat(`]`, 9000), normalise.ErrTooDeep},
		{"more values than anybody reads", `{"eventType":"MESSAGES","attachments":[` + strings.Repeat(`{},`, 300000) + `{}]}`, normalise.ErrTooMany},
		{"many values", `{"x":[` + strings.Repeat(`0,`, normalise.MaxValues-4) + `0]}`, nil},
		{"commas in a string", `{"a":"` + strings.Repeat(`,{`, normalise.MaxValues) + `"}`, nil},
		{"a byte order mark", "\uFEFF{}", nil},
		{"as deep as is allowed", nest(normalise.MaxDepth - 1), nil},
		{"brackets in a string", `{"a":"` + strings.Repeat(`[\"`, 100) + `"}`, nil},
	} {
		if _, err := normalise.Callback([]byte(tt.body)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestTheProofReachesNoClient(t *testing.T) {
	keys, err := keyring.New(keyring.Config{Secret: "a secret of the test's own"})
	if err != nil {
		t.Fatal(err)
	}
	full := keys.MintDialogID("ABCDEF", "session-1", "engagement-1")
	public := keyring.PublicDialogID(full)
	proof := strings.TrimPrefix(full, public+".")
	for _, eventType := range []string{"MESSAGES", "PARTICIPANT_ADDED", "ENGAGEMENT_CREATED", "ENGAGEMENT_ERROR", "TYPING", "NEW_TYPE"} {
		// The proof is escaped once, and repeated where nobody expects it.
		body := fmt.Sprintf(`{"providerDialogId":%q,"eventType":%q,"type":"T","messageId":"m","connectionId":"c","dialogId":"d","senderParticipantId":"p",`+
			`"providerDialogId":"\u%04x%s","copy":{"of":[%q]}}`, full, eventType, full[0], full[1:], full)
		r := read(t, body)
		if r.Keys.ProviderDialogID != full {
			t.Errorf("%s: key %q", eventType, r.Keys.ProviderDialogID)
		}
		text := r.Event.String()
		if strings.Contains(text, proof) || !strings.Contains(text, public) {
			t.Errorf("%s: %s", eventType, text)
		}
	}
}

func TestTheProofInsideATextReachesNoClient(t *testing.T) {
	keys, err := keyring.New(keyring.Config{Secret: "a secret of the test's own"})
	if err != nil {
		t.Fatal(err)
	}
	full := keys.MintDialogID("ABCDEF", "session-1", "engagement-1")
	public := keyring.PublicDialogID(full)
	const lookalike = "shop.example.abcdefghijklmnopqrstuv"
	for _, fields := range []string{
		`"eventType":"ENGAGEMENT_ERROR","type":"T","detail":"dialog %s failed: %s"`,
		`"eventType":"MESSAGES","fallbackText":"dialog %s is %s"`,
		`"eventType":"MESSAGES","messageId":"m","new":["see %s, %s"]`,
		`"eventType":"NEW","text":"see %s, %s"`,
	} {
		r := read(t, fmt.Sprintf(`{"providerDialogId":%q,`+fields+`}`, full, full, lookalike))
		text := r.Event.String()
		if strings.Contains(text, full) || !strings.Contains(text, public) || !strings.Contains(text, lookalike) {
			t.Errorf("%s", text)
		}
	}
	// A text that only looks like a dialog of ours is somebody's words.
	body := read(t, `{"eventType":"MESSAGES","fallbackText":"`+lookalike+`","providerDialogId":"`+full+`"}`)
	if got := body.Event.GetMessageArrived().GetFallbackText(); got != lookalike {
		t.Errorf("the text became %q", got)
	}
}

func TestRawJSONIsWhatAXPSent(t *testing.T) {
	const body = "{ \"z\": [1, 2.50, {\"k\": null}, [], {}], \"a\" : \"<b>&\\u00e9\\n\", \"a\":true,\n\"n\": -1e10 }"
	const want = `{"z":[1,2.50,{"k":null},[],{}],"a":"<b>&é\n","a":true,"n":-1e10}`
	if got := read(t, body).Event.GetUnknown().GetRawJson(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestPlace(t *testing.T) {
	now := timestamppb.New(time.Unix(1800000000, 0))
	r := read(t, `{"eventType":"MESSAGES","messageId":"m"}`)
	r.Place("s", "e", now)
	e := r.Event
	if e.GetSessionId() != "s" || e.GetEngagementId() != "e" || e.GetMessageArrived().GetSessionId() != "s" ||
		e.GetMessageArrived().GetEngagementId() != "e" || e.GetReceiveTime() != now || e.GetEventTime() != now {
		t.Errorf("%v", e)
	}
	dated := read(t, `{"eventType":"MESSAGES","messageId":"m","eventDate":"2026-01-01T00:00:00Z"}`)
	dated.Place("s", "", now)
	if dated.Event.GetEventTime().AsTime().Year() != 2026 {
		t.Error("AXP's time was replaced")
	}
}

// reformat writes the same JSON with sorted keys and other white space, as a
// copy that was sent again may be.
func reformat(t testing.TB, body []byte) []byte {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "\t", "   ")
	if err != nil {
		t.Fatal(err)
	}
	return out
}
