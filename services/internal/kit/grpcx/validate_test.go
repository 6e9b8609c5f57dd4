package grpcx_test

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
)

// emoji is one code point and two UTF-16 units.
const emoji = "😀"

func TestValidator(t *testing.T) {
	v, err := grpcx.NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	send := func(change func(*axpchatv1.SendMessageRequest)) proto.Message {
		m := message()
		change(m)
		return m
	}
	text := func(s string) proto.Message {
		return send(func(m *axpchatv1.SendMessageRequest) { m.Text = s })
	}
	data := func(key, value string) proto.Message {
		return send(func(m *axpchatv1.SendMessageRequest) { m.CustomData = map[string]string{key: value} })
	}
	identifiers := func(values ...string) proto.Message {
		return &axpchatv1.CreateSessionRequest{CustomerIdentifiers: map[string]*axpchatv1.CustomerIdentifierValues{"email_addresses": {Values: values}}}
	}
	const units = "must be at most %d characters, counted in UTF-16 units"
	say := func(about string, n string) string { return about + strings.ReplaceAll(units, "%d", n) }
	cases := []struct {
		name string
		m    proto.Message
		want []errs.Violation
	}{
		{"nothing", nil, nil},
		{"a good message", message(), nil},
		{"4096 letters", text(strings.Repeat("a", 4096)), nil},
		{"4097 letters", text(strings.Repeat("a", 4097)), []errs.Violation{{Field: "text", Message: "must be at most 4096 characters", Code: "string.max_len"}}},
		{"4096 letters of two bytes", text(strings.Repeat("ä", 4096)), nil},
		{"4096 letters of three bytes", text(strings.Repeat("€", 4096)), nil},
		{"2048 emoji", text(strings.Repeat(emoji, 2048)), nil},
		{"2049 emoji", text(strings.Repeat(emoji, 2049)), []errs.Violation{{Field: "text", Message: say("", "4096"), Code: "string.max_len"}}},
		{"4097 emoji are one violation", text(strings.Repeat(emoji, 4097)), []errs.Violation{{Field: "text", Message: "must be at most 4096 characters", Code: "string.max_len"}}},
		{"a rule of the whole message", text(""), []errs.Violation{{Message: "text or payload must not be empty", Code: "send_message.content"}}},
		{"a field with two words", send(func(m *axpchatv1.SendMessageRequest) { m.ClientMessageId = "" }),
			[]errs.Violation{{Field: "clientMessageId", Message: "must be at least 1 characters", Code: "string.min_len"}}},
		{"a long value in a map", data("k", strings.Repeat("v", 257)), []errs.Violation{{Field: `customData["k"]`, Message: "must be at most 256 characters", Code: "string.max_len"}}},
		{"a long value in a map, in units", data("k", strings.Repeat(emoji, 129)), []errs.Violation{{Field: `customData["k"]`, Message: say("", "256"), Code: "string.max_len"}}},
		{"an empty key of a map", data("", "v"), []errs.Violation{{Field: `customData[""]`, Message: "key: must be at least 1 characters", Code: "string.min_len"}}},
		{"a long key of a map", data(strings.Repeat("k", 65), "v"),
			[]errs.Violation{{Field: `customData["` + strings.Repeat("k", 65) + `"]`, Message: "key: must be at most 64 characters", Code: "string.max_len"}}},
		{"a long key of a map, in units", data(strings.Repeat(emoji, 33), "v"),
			[]errs.Violation{{Field: `customData["` + strings.Repeat(emoji, 33) + `"]`, Message: say("key: ", "64"), Code: "string.max_len"}}},
		{"a key and its value, in units", data(strings.Repeat(emoji, 33), strings.Repeat(emoji, 129)), []errs.Violation{
			{Field: `customData["` + strings.Repeat(emoji, 33) + `"]`, Message: say("key: ", "64"), Code: "string.max_len"},
			{Field: `customData["` + strings.Repeat(emoji, 33) + `"]`, Message: say("", "256"), Code: "string.max_len"}}},
		{"an item of a list within a map", identifiers("a", ""),
			[]errs.Violation{{Field: `customerIdentifiers["email_addresses"].values[1]`, Message: "must be at least 1 characters", Code: "string.min_len"}}},
		{"an item of a list within a map, in units", identifiers("a", strings.Repeat(emoji, 129)),
			[]errs.Violation{{Field: `customerIdentifiers["email_addresses"].values[1]`, Message: say("", "256"), Code: "string.max_len"}}},
		{"a message within a frame, in units", &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_SendMessage{
			SendMessage: text(strings.Repeat(emoji, 2049)).(*axpchatv1.SendMessageRequest)}},
			[]errs.Violation{{Field: "sendMessage.text", Message: say("", "4096"), Code: "string.max_len"}}},
		{"a broken rule and a long text, in units", send(func(m *axpchatv1.SendMessageRequest) {
			m.EngagementId, m.SenderName = "", strings.Repeat(emoji, 36)
		}), []errs.Violation{
			{Field: "engagementId", Message: "does not match regex pattern `^[A-Za-z0-9_-]{1,64}$`", Code: "string.pattern"},
			{Field: "senderName", Message: say("", "70"), Code: "string.max_len"}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := v.Validate(c.m)
			if len(c.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			got := errs.From(err)
			if got.Reason != axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(c.want, got.Violations); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTextsAreJudgedByTheirUTF16Length compares with the standard library.
func TestTextsAreJudgedByTheirUTF16Length(t *testing.T) {
	v, err := grpcx.NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringOfN(rapid.Rune(), 0, 80, -1).Draw(t, "name")
		length := len(utf16.Encode([]rune(name)))
		if got := grpcx.UTF16Len(name); got != length {
			t.Fatalf("UTF16Len is %d, want %d", got, length)
		}
		err := v.Validate(&axpchatv1.CreateSessionRequest{DisplayName: name})
		if (err == nil) != (length <= 70) {
			t.Fatalf("%d units: %v", length, err)
		}
		if err != nil && len(errs.From(err).Violations) != 1 {
			t.Fatalf("got %v", err)
		}
	})
}

// TestManyMistakesUnderALongKeyCostLittle: each violation names the key, so that
// one for each value would take the square of the message.
func TestManyMistakesUnderALongKeyCostLittle(t *testing.T) {
	v, err := grpcx.NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	const size = 256 << 10 // GRPC_MAX_RECV_BYTES
	wide := make([]string, 300)
	for i := range wide {
		wide[i] = strings.Repeat(emoji, 200)
	}
	for name, values := range map[string][]string{
		"empty values":                      make([]string, size/4),
		"values too long in UTF-16":         wide,
		"values too long in code points":    slices.Repeat([]string{strings.Repeat("v", 257)}, 300),
		"values in order, but too many":     slices.Repeat([]string{"v"}, size/6),
		"values in order, the key too long": {"v"},
	} {
		t.Run(name, func(t *testing.T) {
			key := strings.Repeat("k", size/2)
			m := &axpchatv1.AppendCustomerIdentifiersRequest{CustomerIdentifiers: map[string]*axpchatv1.CustomerIdentifierValues{key: {Values: values}}}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := errs.From(v.Validate(m))
			runtime.ReadMemStats(&after)
			if n := len(got.Violations); n == 0 || n > errs.MaxViolations {
				t.Errorf("%d violations", n)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
				t.Errorf("%d MiB were needed for a message of %d KiB", used>>20, proto.Size(m)>>10)
			}
		})
	}
}

func BenchmarkValidate(b *testing.B) {
	v, err := grpcx.NewValidator()
	if err != nil {
		b.Fatal(err)
	}
	m := message()
	m.Text = strings.Repeat("ä", 1000)
	m.CustomData = map[string]string{"a": "b", "c": "d"}
	for b.Loop() {
		if err := v.Validate(m); err != nil {
			b.Fatal(err)
		}
	}
}
