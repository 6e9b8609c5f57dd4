package normalise_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/normalise"
	"github.com/axpchat/connector/services/internal/normalise/sampletest"
)

func TestACopySentAgainHasTheSameID(t *testing.T) {
	seen := map[string]string{}
	for _, s := range sampletest.Load(t) {
		id := read(t, string(s.Body)).Event.GetEventId()
		if again := read(t, string(reformat(t, s.Body))).Event.GetEventId(); again != id {
			t.Errorf("%s: %s, formatted otherwise %s", s.Name, id, again)
		}
		if !bus.ValidToken(id) {
			t.Errorf("%s: id %q", s.Name, id)
		}
		if other, taken := seen[id]; taken {
			t.Errorf("%s has the id of %s", s.Name, other)
		}
		seen[id] = s.Name
	}
}

func TestWhatIdentifiesAnEvent(t *testing.T) {
	for _, tt := range []struct {
		name, a, b string
		same       bool
	}{
		{"a message in any order and spacing", `{"eventType":"MESSAGES","messageId":"m","status":"SENT"}`, `{ "status" :"SENT","messageId":"m",  "eventType":"MESSAGES"}`, true},
		{"a message with another correlation id", `{"eventType":"MESSAGES","messageId":"m","correlationId":"1"}`, `{"eventType":"MESSAGES","messageId":"m","correlationId":"2"}`, true},
		{"a message with another date of the event", `{"eventType":"MESSAGES","messageId":"m","eventDate":"2026-01-01T00:00:00Z"}`, `{"eventType":"MESSAGES","messageId":"m","eventDate":"2026-01-01T00:00:09Z"}`, true},
		{"a change written in another zone", `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":"2026-01-01T00:00:00Z"}`, `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":"2026-01-01T01:00:00.000+0100"}`, true},
		{"another status", `{"eventType":"MESSAGES","messageId":"m","status":"SENT"}`, `{"eventType":"MESSAGES","messageId":"m","status":"READ"}`, false},
		{"a later change", `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":"2026-01-01T00:00:00Z"}`, `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":"2026-01-01T00:00:00.001Z"}`, false},
		{"another message", `{"eventType":"MESSAGES","messageId":"m"}`, `{"eventType":"MESSAGES","messageId":"n"}`, false},
		{"two messages of one request", `{"eventType":"MESSAGES","messageId":"m","correlationId":"c"}`, `{"eventType":"MESSAGES","messageId":"n","correlationId":"c"}`, false},
		{"without id: the place in the dialog", `{"eventType":"MESSAGES","dialogId":"d","messageIndex":3,"correlationId":"1"}`, `{"eventType":"MESSAGES","dialogId":"d","messageIndex":"3","correlationId":"2"}`, true},
		{"without id: another place", `{"eventType":"MESSAGES","dialogId":"d","messageIndex":3}`, `{"eventType":"MESSAGES","dialogId":"d","messageIndex":4}`, false},
		{"without id: another dialog", `{"eventType":"MESSAGES","dialogId":"d","messageIndex":3}`, `{"eventType":"MESSAGES","dialogId":"e","messageIndex":3}`, false},
		{"without id and place: the provider's id", `{"eventType":"MESSAGES","providerMessageId":"p","correlationId":"1"}`, `{"eventType":"MESSAGES","providerMessageId":"p","correlationId":"2"}`, true},
		{"without any id: the content", `{"eventType":"MESSAGES","fallbackText":"a"}`, `{"eventType":"MESSAGES","fallbackText":"b"}`, false},
		{"without any id: the same content", `{"eventType":"MESSAGES","fallbackText":"a","dialogId":"d"}`, `{"dialogId":"d", "fallbackText":"a","eventType":"MESSAGES"}`, true},

		{"an update without a date", `{"eventType":"MESSAGES","messageId":"m","status":"SENT","fallbackText":"a"}`, `{"eventType":"MESSAGES","messageId":"m","status":"SENT","fallbackText":"b"}`, false},
		{"a copy without a date", `{"eventType":"MESSAGES","messageId":"m","fallbackText":"a","correlationId":"1","eventDate":"2026-01-01T00:00:00Z","messageIndex":7}`, `{"eventType":"MESSAGES","messageId":"m","fallbackText":"a","correlationId":"2","messageIndex":"7.0"}`, true},
		{"an id given twice, in two places", `{"eventType":"MESSAGES","messageId":"m","dialogId":"d","messageIndex":1}`, `{"eventType":"MESSAGES","messageId":"m","dialogId":"d","messageIndex":2}`, false},
		{"dates of a type that nobody expects", `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":{"$date":1}}`, `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":{"$date":2}}`, false},
		{"statuses of a type that nobody expects", `{"eventType":"MESSAGES","messageId":"m","status":["SENT"],"lastUpdatedAt":"x"}`, `{"eventType":"MESSAGES","messageId":"m","status":["READ"],"lastUpdatedAt":"x"}`, false},
		{"dates beyond the nanosecond", `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":"2026-01-01T00:00:00.1234567891Z"}`, `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":"2026-01-01T00:00:00.1234567892Z"}`, false},
		{"such dates in two zones", `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":"2026-01-01T00:00:00.12345678910Z"}`, `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":"2026-01-01T01:00:00.1234567891+01:00"}`, true},
		{"a date and a number that looks like it inside", `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":"2026-01-01T00:00:00Z"}`, `{"eventType":"MESSAGES","messageId":"m","lastUpdatedAt":1767225600.0}`, false},
		{"a provider's id in two dialogs", `{"eventType":"MESSAGES","providerMessageId":"1","dialogId":"d","lastUpdatedAt":"x"}`, `{"eventType":"MESSAGES","providerMessageId":"1","dialogId":"e","lastUpdatedAt":"x"}`, false},
		{"a dialog and a provider's dialog of one name", `{"eventType":"MESSAGES","dialogId":"d","messageIndex":1,"lastUpdatedAt":"x"}`, `{"eventType":"MESSAGES","providerDialogId":"d","messageIndex":1,"lastUpdatedAt":"x"}`, false},
		{"places that are nearly one number", `{"eventType":"MESSAGES","dialogId":"d","messageIndex":7,"lastUpdatedAt":"x"}`, `{"eventType":"MESSAGES","dialogId":"d","messageIndex":7.00000000000000000001,"lastUpdatedAt":"x"}`, false},
		{"ids with bytes that are no text", "{\"eventType\":\"MESSAGES\",\"messageId\":\"m\xe8\",\"lastUpdatedAt\":\"x\"}", "{\"eventType\":\"MESSAGES\",\"messageId\":\"m\xe9\",\"lastUpdatedAt\":\"x\"}", false},
		{"words with halves of characters", `{"eventType":"MESSAGES","fallbackText":"\ud800"}`, `{"eventType":"MESSAGES","fallbackText":"\udbff"}`, false},
		{"created in a dialog and in a provider's dialog", `{"eventType":"ENGAGEMENT_CREATED","dialogId":"d"}`, `{"eventType":"ENGAGEMENT_CREATED","providerDialogId":"d"}`, false},
		{"joined, left and joined again", `{"eventType":"PARTICIPANT_ADDED","providerDialogId":"d","connectionId":"c","eventDate":"2026-01-01T00:00:00Z"}`, `{"eventType":"PARTICIPANT_ADDED","providerDialogId":"d","connectionId":"c","eventDate":"2026-01-01T00:00:00.000001Z"}`, false},
		{"two errors of one request", `{"eventType":"ENGAGEMENT_ERROR","type":"T","dialogId":"d","correlationId":"1","detail":"a"}`, `{"eventType":"ENGAGEMENT_ERROR","type":"T","dialogId":"d","correlationId":"1","detail":"b"}`, false},
		{"two errors without a request", `{"eventType":"ENGAGEMENT_ERROR","type":"T","dialogId":"d","eventDate":"2026-01-01T00:00:00Z"}`, `{"eventType":"ENGAGEMENT_ERROR","type":"T","dialogId":"d","eventDate":"2026-01-01T00:00:01Z"}`, false},
		{"errors of two dialogs of a session", `{"eventType":"ENGAGEMENT_ERROR","type":"T","sessionId":"s","providerDialogId":"p","dialogId":"d","correlationId":"1"}`, `{"eventType":"ENGAGEMENT_ERROR","type":"T","sessionId":"s","providerDialogId":"p","dialogId":"e","correlationId":"1"}`, false},

		{"a participant's state", `{"eventType":"PARTICIPANT_ADDED","dialogId":"d","connectionId":"c","eventDate":"2026-01-01T00:00:00Z","displayName":"A"}`, `{"eventType":"PARTICIPANT_ADDED","dialogId":"d","connectionId":"c","eventDate":"2026-01-01T00:00:00.0Z"}`, true},
		{"joined and left at once", `{"eventType":"PARTICIPANT_ADDED","dialogId":"d","connectionId":"c","eventDate":"2026-01-01T00:00:00Z"}`, `{"eventType":"PARTICIPANT_DISCONNECTED","dialogId":"d","connectionId":"c","eventDate":"2026-01-01T00:00:00Z"}`, false},
		{"joined again", `{"eventType":"PARTICIPANT_ADDED","dialogId":"d","connectionId":"c","eventDate":"2026-01-01T00:00:00Z"}`, `{"eventType":"PARTICIPANT_ADDED","dialogId":"d","connectionId":"c","eventDate":"2026-01-01T00:05:00Z"}`, false},
		{"two participants at once", `{"eventType":"PARTICIPANT_ADDED","dialogId":"d","connectionId":"c","eventDate":"2026-01-01T00:00:00Z"}`, `{"eventType":"PARTICIPANT_ADDED","dialogId":"d","connectionId":"k","eventDate":"2026-01-01T00:00:00Z"}`, false},
		{"a participant without a connection", `{"eventType":"PARTICIPANT_ADDED","dialogId":"d","participantId":"p"}`, `{"eventType":"PARTICIPANT_ADDED","dialogId":"d","participantId":"q"}`, false},

		{"an engagement is created once", `{"eventType":"ENGAGEMENT_CREATED","dialogId":"d","correlationId":"1"}`, `{"eventType":"ENGAGEMENT_CREATED","dialogId":"d","correlationId":"2"}`, true},
		{"a second dialog of it", `{"eventType":"ENGAGEMENT_CREATED","engagementId":"e","dialogId":"d"}`, `{"eventType":"ENGAGEMENT_CREATED","engagementId":"e","dialogId":"f"}`, false},
		{"the same error of one request", `{"eventType":"ENGAGEMENT_ERROR","type":"T","providerDialogId":"p","correlationId":"1","eventDate":"2026-01-01T00:00:00Z"}`, `{"eventType":"ENGAGEMENT_ERROR","type":"T","providerDialogId":"p","correlationId":"1","eventDate":"2026-01-01T00:00:01Z"}`, true},
		{"the error of another request", `{"eventType":"ENGAGEMENT_ERROR","type":"T","providerDialogId":"p","correlationId":"1"}`, `{"eventType":"ENGAGEMENT_ERROR","type":"T","providerDialogId":"p","correlationId":"2"}`, false},
		{"another error", `{"eventType":"ENGAGEMENT_ERROR","type":"T","sessionId":"s"}`, `{"eventType":"ENGAGEMENT_ERROR","type":"U","sessionId":"s"}`, false},

		{"typing, the same call", `{"eventType":"TYPING","senderParticipantId":"p","eventDate":"2026-01-01T00:00:00Z"}`, `{"eventDate":"2026-01-01T00:00:00Z","senderParticipantId":"p","eventType":"TYPING"}`, true},
		{"typing, a moment later", `{"eventType":"TYPING","senderParticipantId":"p","eventDate":"2026-01-01T00:00:00Z"}`, `{"eventType":"TYPING","senderParticipantId":"p","eventDate":"2026-01-01T00:00:05Z"}`, false},
		{"an unknown event", `{"eventType":"X","a":{"b":1,"c":2}}`, `{"a":{"c":2,"b":1},"eventType":"X"}`, true},
		{"another unknown event", `{"eventType":"X","a":1}`, `{"eventType":"X","a":2}`, false},
		{"the same words of a repeated key", `{"eventType":"X","a":1,"a":2}`, `{"eventType":"X","a":3,"a":2}`, true},
		{"parts that look alike when joined", `{"eventType":"ENGAGEMENT_ERROR","type":"a","sessionId":"bc"}`, `{"eventType":"ENGAGEMENT_ERROR","type":"ab","sessionId":"c"}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := read(t, tt.a).Event.GetEventId(), read(t, tt.b).Event.GetEventId()
			if (a == b) != tt.same {
				t.Errorf("%s and %s, want the same: %v", a, b, tt.same)
			}
		})
	}
}

// TestDifferentEventsHaveDifferentIDs makes pairs of callbacks out of few words,
// so that they are nearly the same, and holds the ids against the contract's
// rules in their plain form: an id that two events share would lose one.
func TestDifferentEventsHaveDifferentIDs(t *testing.T) {
	types := []string{"MESSAGES", "PARTICIPANT_ADDED", "PARTICIPANT_DISCONNECTED", "ENGAGEMENT_CREATED", "ENGAGEMENT_ERROR", "TYPING", "NEW"}
	keys := []string{
		"messageId", "status", "lastUpdatedAt", "dialogId", "providerDialogId", "messageIndex", "providerMessageId", "connectionId",
		"eventDate", "correlationId", "sessionId", "engagementId", "type", "title", "detail", "fallbackText", "senderParticipantId", "participantId",
	}
	values := []any{nil, "", "a", "b", "ab", 1, 1.5, "1", true, []any{"a"}, map[string]any{"a": 1}, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.1Z"}
	rapid.Check(t, func(t *rapid.T) {
		a := map[string]any{"eventType": rapid.SampledFrom(types).Draw(t, "type")}
		for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(keys), 1, 8, rapid.ID).Draw(t, "keys") {
			a[key] = rapid.SampledFrom(values).Draw(t, key)
		}
		b := maps.Clone(a)
		for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(append(keys, "eventType")), 1, 2, rapid.ID).Draw(t, "changed") {
			if key == "eventType" {
				b[key] = rapid.SampledFrom(types).Draw(t, "other type")
			} else {
				b[key] = rapid.SampledFrom(values).Draw(t, "other "+key)
			}
		}
		if idOf(t, a) == idOf(t, b) && !sameEvent(a, b) {
			t.Fatalf("one id for\n%v\n%v", a, b)
		}
	})
}

func idOf(t *rapid.T, body map[string]any) string {
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := normalise.Callback(data)
	if err != nil {
		t.Fatal(err)
	}
	return r.Event.GetEventId()
}

// sameEvent tells whether two callbacks may count as one: they differ in nothing
// but what the contract says does not identify an event of their type.
func sameEvent(a, b map[string]any) bool {
	text := func(v any) string {
		if v == nil {
			return ""
		}
		return fmt.Sprint(v)
	}
	same := func(keys ...string) bool {
		for _, key := range keys {
			if text(a[key]) != text(b[key]) {
				return false
			}
		}
		return true
	}
	given := func(key string) bool { return text(a[key]) != "" && text(b[key]) != "" }
	var all []string
	for key := range a {
		all = append(all, key)
	}
	for key := range b {
		all = append(all, key)
	}
	var told []string // what does not tell the events apart
	switch {
	case !same("eventType"):
		return false
	case a["eventType"] == "MESSAGES" && given("messageId") && given("lastUpdatedAt"):
		return same("messageId", "status", "lastUpdatedAt")
	case a["eventType"] == "MESSAGES" && given("lastUpdatedAt") && same("messageId"):
		return same("status", "lastUpdatedAt", "dialogId") && (given("messageIndex") && same("messageIndex") || same("providerMessageId"))
	case a["eventType"] == "MESSAGES":
		told = []string{"correlationId", "eventDate"}
	case strings.HasPrefix(a["eventType"].(string), "PARTICIPANT") && given("connectionId"):
		return same("dialogId", "connectionId", "eventDate") && (given("dialogId") || same("providerDialogId"))
	case a["eventType"] == "ENGAGEMENT_CREATED":
		return same("dialogId") && (given("dialogId") || same("providerDialogId"))
	case a["eventType"] == "ENGAGEMENT_ERROR" && given("correlationId"):
		return same("correlationId", "type", "title", "detail", "dialogId", "providerDialogId", "engagementId", "sessionId")
	case a["eventType"] == "ENGAGEMENT_ERROR":
		return same("eventDate", "type", "title", "detail", "dialogId", "providerDialogId", "engagementId", "sessionId")
	}
	for _, key := range all {
		if !same(key) && !slices.Contains(told, key) {
			return false
		}
	}
	return true
}

// FuzzCallback: whatever comes, there is no panic, and a typed error where it is no
// event; a JSON object of allowed depth gives an event that can be stored and shown,
// is not much larger than the object, belongs where encoding/json says, and has an id
// that does not depend on how the object was formatted.
func FuzzCallback(f *testing.F) {
	for _, s := range sampletest.Load(f) {
		f.Add(s.Body)
	}
	for _, body := range []string{`{}`, `[]`, `null`, "\x00", `{"eventType":"MESSAGES","body":7,"messageId":1e999}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := normalise.Callback(body)
		if err != nil {
			if !slices.ContainsFunc([]error{normalise.ErrNotJSON, normalise.ErrNotObject, normalise.ErrTooDeep, normalise.ErrTooMany},
				func(of error) bool { return errors.Is(err, of) }) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if size := proto.Size(r.Event); size > 8*len(body)+1024 {
			t.Fatalf("%d bytes became an event of %d", len(body), size)
		}
		if said, read := belongs(t, body), r.Keys; said != read {
			t.Fatalf("belongs to %+v, for encoding/json to %+v", read, said)
		}
		if !bus.ValidToken(r.Event.GetEventId()) {
			t.Fatalf("event id %q", r.Event.GetEventId())
		}
		if _, err := proto.Marshal(r.Event); err != nil {
			t.Fatalf("can't be stored: %v", err)
		}
		if _, err := protojson.Marshal(r.Event); err != nil {
			t.Fatalf("can't be shown: %v", err)
		}
		text := bytes.TrimPrefix(body, []byte("\uFEFF"))
		formatted := reformat(t, text)
		again, err := normalise.Callback(formatted)
		if err != nil {
			t.Fatalf("the same object, formatted: %v", err)
		}
		// What is no text can't be formatted otherwise: its bytes count.
		garbled := bytes.ContainsRune(formatted, '\uFFFD') || bytes.Contains(formatted, []byte(`\ufffd`))
		if !garbled && again.Event.GetEventId() != r.Event.GetEventId() || again.Type != r.Type {
			t.Fatalf("id %s of type %s, formatted otherwise %s of type %s",
				r.Event.GetEventId(), r.Type, again.Event.GetEventId(), again.Type)
		}
		if extra := r.Event.GetExtraJson(); extra != "" {
			if _, err := normalise.Callback([]byte(extra)); err != nil {
				t.Fatalf("extra_json %s: %v", extra, err)
			}
		}
		if raw := r.Event.GetUnknown().GetRawJson(); raw != "" {
			if _, err := normalise.Callback([]byte(raw)); err != nil {
				t.Fatalf("raw_json %s: %v", raw, err)
			}
		}
	})
}

// belongs reads by encoding/json alone where a callback belongs.
func belongs(t *testing.T, body []byte) normalise.Keys {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\uFEFF"))))
	dec.UseNumber()
	var all map[string]any
	if err := dec.Decode(&all); err != nil {
		t.Fatalf("encoding/json does not take it: %v", err)
	}
	word := func(key string) string {
		switch v := all[key].(type) {
		case string, json.Number, bool:
			return fmt.Sprint(v)
		default:
			return ""
		}
	}
	return normalise.Keys{
		Account: word("accountId"), ProviderDialogID: word("providerDialogId"), DialogID: word("dialogId"), EngagementID: word("engagementId"),
		SessionID: word("sessionId"), CorrelationID: word("correlationId"), ChannelProvider: word("channelProviderId"),
	}
}

// TestTheKeptCorpusIsThere guards the files that the fuzzer starts from.
func TestTheKeptCorpusIsThere(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", "FuzzCallback", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || !bytes.HasPrefix(data, []byte("go test fuzz v1")) || !strings.Contains(string(data), "byte") {
			t.Errorf("%s is no corpus file: %v", file, err)
		}
	}
}
