package axp_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

func TestTimesInEveryPublishedForm(t *testing.T) {
	want := time.Date(2026, 3, 11, 9, 13, 14, 195e6, time.UTC)
	for _, text := range []string{
		"2026-03-11T09:13:14.195Z", "2026-03-11T09:13:14.1950000Z", "2026-03-11T10:13:14.195+01:00",
		"2026-03-11T10:13:14.195+0100", "2026-03-11T10:13:14.195+01", "2026-03-11T09:13:14.195",
		"2026-03-11T09:13:14,195Z", " 2026-03-11T04:13:14.195-0500 ", "2026-03-11T09:13:14.195000000000Z",
	} {
		got, ok := axp.ParseTime(text)
		if !ok || !got.Equal(want) {
			t.Errorf("%q: got %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "soon", "2026-03-11", "2026-13-11T09:13:14Z", "1773220500000"} {
		if got, ok := axp.ParseTime(text); ok || !got.IsZero() {
			t.Errorf("%q: got %v, want none", text, got)
		}
	}
	if got, err := json.Marshal(axp.Time{Time: want.In(time.FixedZone("", 3600))}); err != nil || string(got) != `"2026-03-11T09:13:14.195Z"` {
		t.Errorf("written as %s, %v", got, err)
	}
}

func TestIntegersInEveryForm(t *testing.T) {
	cases := map[string]axp.Int{
		`7`: {Value: 7, Known: true}, `"7"`: {Value: 7, Known: true}, `7.0`: {Value: 7, Known: true}, `1e3`: {Value: 1000, Known: true},
		`0`: {Known: true}, `-1`: {Value: -1, Known: true}, `9223372036854775807`: {Value: 1<<63 - 1, Known: true},
		`null`: {}, `7.5`: {}, `""`: {}, `"x"`: {}, `true`: {}, `[]`: {}, `{}`: {}, `1e300`: {}, `"NaN"`: {}, `"Inf"`: {},
	}
	for text, want := range cases {
		var got axp.Int
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", text, got, err, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := axp.Int{Value: rapid.Int64().Draw(t, "n"), Known: true}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got axp.Int
		if err := json.Unmarshal(text, &got); err != nil || got != want {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	})
}

// The contradictions of AXP's documents, as far as they touch messages.
func TestMessagesAreReadTolerantly(t *testing.T) {
	cases := []struct {
		name, text string
		check      func(m axp.Message) any
		want       any
	}{
		{"rich content in the body", `{"body":{"richMediaPayload":{"actions":[{"type":"reply","text":"Yes"}]}}}`,
			func(m axp.Message) any { return m.Body.RichMediaPayload.Actions }, []axp.Action{{Type: "reply", Text: "Yes"}}},
		{"rich content inside elementText", `{"body":{"elementText":{"text":"x","richMediaPayload":{"items":[{"title":"T"}]}}}}`,
			func(m axp.Message) any { return m.Body.RichMediaPayload.Items }, []axp.Item{{Title: "T"}}},
		{"rich content beside the body", `{"body":{"elementType":"text"},"richMediaPayload":{"coordinates":{"lat":1.5,"long":-2}}}`,
			func(m axp.Message) any { return *m.Body.RichMediaPayload.Coordinates }, axp.Coordinates{Lat: 1.5, Long: -2}},
		{"attachments under attachmentIds", `{"attachmentIds":[{"id":"a","name":"n"}]}`,
			func(m axp.Message) any { return m.Attachments }, []axp.Attachment{{AttachmentID: "a", Name: "n"}}},
		{"attachments before attachmentIds", `{"attachments":[{"attachmentId":"b","id":"c","size":"12"}],"attachmentIds":[{"id":"a"}]}`,
			func(m axp.Message) any { return m.Attachments }, []axp.Attachment{{AttachmentID: "b", Size: axp.Int{Value: 12, Known: true}}}},
		{"a payload that is an object", `{"body":{"payload":{"k":1}}}`, func(m axp.Message) any { return m.Body.Payload }, `{"k":1}`},
		{"a payload that is a string", `{"body":{"payload":"{\"k\":1}"}}`, func(m axp.Message) any { return m.Body.Payload }, `{"k":1}`},
		{"a field of the wrong type leaves the others", `{"status":5,"messageIndex":"x","headers":[],"body":"?","customData":{"a":1},"providerMessageId":"m"}`,
			func(m axp.Message) any { return m.ProviderMessageID }, "m"},
		{"nulls", `{"messageId":null,"body":null,"headers":null,"attachments":null,"receivedAt":null,"messageIndex":null,"status":"SENT"}`,
			func(m axp.Message) any { return m.Status }, axp.MessageSent},
		{"unknown words", `{"status":"PONDERED","senderParticipantType":"ORACLE"}`,
			func(m axp.Message) any { return string(m.Status) + string(m.SenderParticipantType) }, "PONDEREDORACLE"},
		{"null", `null`, func(m axp.Message) any { return m.MessageID }, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var m axp.Message
			if err := json.Unmarshal([]byte(tc.text), &m); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, tc.check(m)); diff != "" {
				t.Errorf("differs (-want +got):\n%s", diff)
			}
			if string(m.Raw) != tc.text {
				t.Errorf("Raw is %s", m.Raw)
			}
		})
	}
}

// Callback samples hold messages of the same form as lists do.
func TestPublishedSamplesAreReadWhole(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(specDir(t), "events", "message-*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var m axp.Message
			if err := json.Unmarshal(text, &m); err != nil {
				t.Fatal(err)
			}
			var want, got map[string]any
			again, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if json.Unmarshal(text, &want) != nil || json.Unmarshal(again, &got) != nil {
				t.Fatal("cannot compare")
			}
			delete(want, "eventType")
			delete(want, "eventDate")
			contains(t, "", want, got)
		})
	}
}

// contains checks that every value of want is in got.
func contains(t *testing.T, path string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s is %v, want an object", path, got)
			return
		}
		for k, v := range want {
			contains(t, path+"."+k, v, g[k])
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(want) {
			t.Errorf("%s is %v, want %v", path, got, want)
			return
		}
		for i := range want {
			contains(t, path, want[i], g[i])
		}
	default:
		if !cmp.Equal(want, got) {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(`{"messageId":"m","messageIndex":"3","body":{"elementText":{"text":"x","richMediaPayload":{}}},"attachmentIds":[{"id":1}]}`)
	f.Add(`{"body":{"payload":[]},"receivedAt":"2026-03-11T09:13:14+0100","attachments":[null,{}],"headers":{"providerTimestamp":7}}`)
	f.Add(`[]`)
	f.Add(`{"messageIndex":1e400}`)
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) {
			return
		}
		var m axp.Message
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatalf("valid JSON is refused: %v", err)
		}
		if _, err := json.Marshal(m); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}

func FuzzTime(f *testing.F) {
	f.Add("2026-03-11T09:13:14.195Z")
	f.Add("2026-03-11T09:13:14,1+0100")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := axp.ParseTime(text)
		if !ok && !got.IsZero() {
			t.Fatalf("%q: no time, but %v", text, got)
		}
		if !ok || got.Year() < 0 || got.Year() > 9999 {
			return
		}
		again, ok := axp.ParseTime(got.Format(time.RFC3339Nano))
		if !ok || !again.Equal(got.Time) {
			t.Fatalf("%q: %v became %v", text, got, again)
		}
	})
}

func TestDeepNestingIsRefusedNotFollowed(t *testing.T) {
	var m axp.Message
	deep := `{"body":` + strings.Repeat(`[`, 1<<17) + strings.Repeat(`]`, 1<<17) + `}`
	if err := json.Unmarshal([]byte(deep), &m); err == nil {
		t.Error("want an error")
	}
}
