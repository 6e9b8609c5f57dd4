package api

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"time"
	"unicode/utf16"
)

// Violation is one broken rule, as AXP reports it. 20002 and 20006 are AXP's
// published codes; the others are the sandbox's own, in the same range.
type Violation struct {
	Field   string `json:"field"`
	Message string `json:"message"`
	Code    int    `json:"code"`
}

const (
	codeType    = 20001
	codeMissing = 20002
	codeLength  = 20003
	codeEnum    = 20004
	codeSize    = 20005
	codePattern = 20006
)

// rule checks one JSON value. What AXP's documents do not call nullable must
// not be null: each rule refuses it by the value's type.
type rule func(path string, v any) []Violation

// join names a field of path; the path of the body itself is empty.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// named gives a body that is not made of fields a name of its own, so that
// violations of the whole of it name something.
func named(name string, r rule) rule {
	return func(_ string, v any) []Violation {
		vs := r("", v)
		for i := range vs {
			if vs[i].Field == "" {
				vs[i].Field = name
			}
		}
		return vs
	}
}

func sorted(vs []Violation) []Violation {
	slices.SortStableFunc(vs, func(a, b Violation) int { return cmp.Compare(a.Field, b.Field) })
	return vs
}

func fail(path string, code int, format string, args ...any) []Violation {
	return []Violation{{Field: path, Message: fmt.Sprintf(format, args...), Code: code}}
}

// length counts UTF-16 units, the smaller reading of AXP's limits.
func length(s string) int { return len(utf16.Encode([]rune(s))) }

func text(least, most int) rule {
	return func(path string, v any) []Violation {
		s, ok := v.(string)
		switch {
		case !ok:
			return fail(path, codeType, "must be a string")
		case length(s) < least || length(s) > most:
			return fail(path, codeLength, "length must be %d to %d", least, most)
		}
		return nil
	}
}

func matching(re *regexp.Regexp) rule {
	return func(path string, v any) []Violation {
		s, ok := v.(string)
		if !ok {
			return fail(path, codeType, "must be a string")
		}
		if !re.MatchString(s) {
			return fail(path, codePattern, "must match %s", re)
		}
		return nil
	}
}

func oneOf(words ...string) rule {
	return func(path string, v any) []Violation {
		if s, ok := v.(string); !ok || !slices.Contains(words, s) {
			return fail(path, codeEnum, "must be one of %v", words)
		}
		return nil
	}
}

func instant(path string, v any) []Violation {
	s, ok := v.(string)
	if !ok {
		return fail(path, codeType, "must be a string")
	}
	if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
		return fail(path, codePattern, "must be a date-time")
	}
	return nil
}

// whole is a whole number, which AXP calls a long.
func whole(least float64) rule {
	return func(path string, v any) []Violation {
		n, ok := v.(float64)
		switch {
		case !ok || n != math.Trunc(n) || n > 1<<53:
			return fail(path, codeType, "must be a whole number")
		case n < least:
			return fail(path, codeSize, "must be at least %v", least)
		}
		return nil
	}
}

func list(least, most int, item rule) rule {
	return func(path string, v any) []Violation {
		items, ok := v.([]any)
		switch {
		case !ok:
			return fail(path, codeType, "must be an array")
		case len(items) < least || len(items) > most:
			return fail(path, codeSize, "must have %d to %d items", least, most)
		}
		var out []Violation
		for i, x := range items {
			out = append(out, item(fmt.Sprintf("%s[%d]", path, i), x)...)
		}
		return out
	}
}

func dictionary(least, most, key int, value rule) rule {
	return func(path string, v any) []Violation {
		m, ok := v.(map[string]any)
		switch {
		case !ok:
			return fail(path, codeType, "must be an object")
		case len(m) < least || len(m) > most:
			return fail(path, codeSize, "must have %d to %d properties", least, most)
		}
		var out []Violation
		for k, x := range m {
			if length(k) > key {
				out = append(out, fail(join(path, k), codeLength, "name must have at most %d characters", key)...)
			}
			out = append(out, value(join(path, k), x)...)
		}
		return sorted(out)
	}
}

// object checks known fields; unknown ones are ignored, as AXP documents
// nothing about them.
type object struct {
	required []string
	fields   map[string]rule
}

func (o object) check(path string, v any) []Violation {
	m, ok := v.(map[string]any)
	if !ok {
		return fail(path, codeType, "must be an object")
	}
	var out []Violation
	for _, name := range o.required {
		if x, ok := m[name]; !ok || x == nil {
			out = append(out, fail(join(path, name), codeMissing, "must not be null")...)
		}
	}
	for name, r := range o.fields {
		x, ok := m[name]
		if !ok || x == nil && slices.Contains(o.required, name) {
			continue
		}
		out = append(out, r(join(path, name), x)...)
	}
	return sorted(out)
}

var reasons = []string{"USER_CLOSED", "USER_INACTIVE", "SYSTEM_CLOSED", "UNKNOWN"} //nolint:gochecknoglobals // an enumeration of AXP's, never changed

var (
	accountPattern = regexp.MustCompile(`^[a-zA-Z]{6}$`)
	idPattern      = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
)

// address is where callbacks can go: AXP wants https.
func address(plainHTTP bool) rule {
	return func(path string, v any) []Violation {
		s, ok := v.(string)
		if !ok {
			return fail(path, codeType, "must be a string")
		}
		if length(s) < 1 || length(s) > 2048 {
			return fail(path, codeLength, "length must be 1 to 2048")
		}
		u, err := url.Parse(s)
		switch {
		case err != nil || u.Hostname() == "":
			return fail(path, codePattern, "must be an absolute URL")
		case u.Scheme == "https" || u.Scheme == "http" && plainHTTP:
			return nil
		}
		return fail(path, codePattern, "must begin with https://")
	}
}

// schemas of request bodies, after AXP's documents.
type schemas struct {
	createSession, identifiers, parameters, createEngagement, join, disconnect, sendMessage, subscription, upload rule
}

func newSchemas(plainHTTP bool) schemas {
	id := matching(idPattern)
	identifiers := dictionary(1, 10, 50, list(0, 5, text(1, 256)))
	parameters := dictionary(0, 20, 64, text(0, 256))
	headers := object{fields: map[string]rule{
		"priority": text(0, 32), "sensitivity": text(0, 32), "encoding": text(0, 32), "subject": text(0, 256), "from": text(0, 256),
		"replyTo": text(0, 256), "clientDeviceTag": text(0, 256), "messageSourceServerTag": text(0, 256), "providerTimestamp": instant,
		"to": list(0, 20, text(0, 256)), "cc": list(0, 20, text(0, 256)), "bcc": list(0, 20, text(0, 256)),
		"additionalHeaders": dictionary(0, 10, 64, text(0, 256)),
	}}
	words := object{required: []string{"text"}, fields: map[string]rule{"text": text(0, 4096), "textFormat": oneOf("PLAINTEXT", "HTML", "MARKDOWN")}}
	body := object{required: []string{"elementType"}, fields: map[string]rule{
		"elementType": text(1, 50), "elementText": words.check, "payload": text(0, 4096),
	}}
	return schemas{
		createSession: named("body", object{required: []string{"channelProviderId", "customerIdentifiers"}, fields: map[string]rule{
			"accountId": matching(accountPattern), "channelProviderId": text(3, 256), "customerIdentifiers": identifiers,
			"displayName": text(0, 70), "sessionParameters": parameters, "providerCustomerId": text(0, 256), "correlationId": text(0, 256),
		}}.check),
		identifiers: named("customerIdentifiers", identifiers),
		parameters:  named("sessionParameters", parameters),
		createEngagement: named("body", object{required: []string{"sessionId", "channelId"}, fields: map[string]rule{
			"sessionId": id, "channelId": text(3, 50), "conversation": text(0, 256), "providerDialogId": text(0, 256),
			"engagementParameters": parameters, "correlationId": text(0, 256),
		}}.check),
		join: named("body", object{required: []string{"sessionId", "dialogId"}, fields: map[string]rule{
			"sessionId": id, "dialogId": id, "correlationId": text(0, 256),
		}}.check),
		disconnect: named("body", object{required: []string{"sessionId", "dialogId"}, fields: map[string]rule{
			"sessionId": id, "dialogId": id, "reason": oneOf(reasons...), "correlationId": text(0, 256),
		}}.check),
		sendMessage: named("body", object{required: []string{"body", "sessionId", "dialogId"}, fields: map[string]rule{
			"sessionId": id, "dialogId": id, "body": body.check, "fallbackText": text(0, 256), "headers": headers.check, "customData": parameters,
			"senderParticipantName": text(0, 70), "parentMessageId": text(0, 256), "providerMessageId": text(0, 256),
			"providerParentMessageId": text(0, 256), "correlationId": text(0, 256),
		}}.check),
		subscription: named("body", object{required: []string{"channelProviderId", "callbackUrl", "eventTypes"}, fields: map[string]rule{
			"channelProviderId": text(3, 256), "callbackUrl": address(plainHTTP),
			"eventTypes": list(1, 6, oneOf("MESSAGES", "CUSTOMER_MESSAGES", "CC_MESSAGES", "PARTICIPANT_ADDED", "PARTICIPANT_DISCONNECTED",
				"ENGAGEMENT_CREATED", "ENGAGEMENT_ERROR", "TYPING", "ALL")),
		}}.check),
		upload: named("body", object{required: []string{"mediaName", "mediaContentType", "mediaSize"}, fields: map[string]rule{
			"mediaName": text(1, 255), "mediaContentType": text(1, 255), "mediaSize": whole(1),
		}}.check),
	}
}
