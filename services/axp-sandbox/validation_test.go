package sandbox_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Codes that AXP has published.
const (
	missing = 20002
	pattern = 20006
)

// form is an operation with a sound body of which one part can be changed.
type form struct {
	method, path string
	status       int
	body         func() object
}

// forms lists the operations that take fields, for a chat.
func forms(t talk) map[string]form {
	return map[string]form{
		"createSession": {http.MethodPost, chat + "/sessions", 201, func() object { return newSession("Maren") }},
		"createEngagement": {http.MethodPost, chat + "/engagements", 201, func() object {
			return object{"sessionId": t.session, "channelId": "Chat"}
		}},
		"join":        {http.MethodPost, t.path(":join"), 200, t.ids},
		"disconnect":  {http.MethodPost, t.path(":disconnect"), 200, t.ids},
		"sendMessage": {http.MethodPost, t.path("/messages"), 202, func() object { return t.message("Hello") }},
		"subscribe": {http.MethodPost, hooks, 201, func() object {
			return object{"channelProviderId": provider, "callbackUrl": "https://example.com/x", "eventTypes": []string{"MESSAGES"}}
		}},
		"upload": {http.MethodPost, signUpload, 200, func() object {
			return object{"mediaName": "a", "mediaContentType": "b", "mediaSize": 1}
		}},
	}
}

// set changes one field, by its path; a nil function value removes it.
func set(body object, path string, value any) object {
	at := body
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		next, ok := at[name].(object)
		if !ok {
			next = object{}
			at[name] = next
		}
		at = next
	}
	if value == absent {
		delete(at, names[len(names)-1])
	} else {
		at[names[len(names)-1]] = value
	}
	return body
}

type nothing struct{}

var absent = nothing{}

func long(n int) string { return strings.Repeat("x", n) }

// many is a map with n names.
func many(n int, value any) object {
	m := object{}
	for i := range n {
		m[fmt.Sprintf("name%02d", i)] = value
	}
	return m
}

func values(n int, length int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = long(length)
	}
	return out
}

func TestEachLimitIsKeptToTheCharacter(t *testing.T) {
	b := start(t, nil)
	tk := b.talk(b.session("Maren"))
	ops := forms(tk)
	for _, c := range []struct {
		op, field string
		most      int
	}{
		{"createSession", "displayName", 70}, {"createSession", "providerCustomerId", 256}, {"createSession", "correlationId", 256},
		{"createEngagement", "conversation", 256}, {"createEngagement", "providerDialogId", 256}, {"createEngagement", "correlationId", 256},
		{"join", "correlationId", 256},
		{"sendMessage", "fallbackText", 256}, {"sendMessage", "senderParticipantName", 70}, {"sendMessage", "parentMessageId", 256},
		{"sendMessage", "providerMessageId", 256}, {"sendMessage", "providerParentMessageId", 256}, {"sendMessage", "correlationId", 256},
		{"sendMessage", "body.elementType", 50}, {"sendMessage", "body.elementText.text", 4096}, {"sendMessage", "body.payload", 4096},
		{"sendMessage", "headers.priority", 32}, {"sendMessage", "headers.sensitivity", 32}, {"sendMessage", "headers.encoding", 32},
		{"sendMessage", "headers.subject", 256}, {"sendMessage", "headers.from", 256}, {"sendMessage", "headers.replyTo", 256},
		{"sendMessage", "headers.clientDeviceTag", 256}, {"sendMessage", "headers.messageSourceServerTag", 256},
		{"upload", "mediaName", 255}, {"upload", "mediaContentType", 255},
	} {
		t.Run(c.op+" "+c.field, func(t *testing.T) {
			b := b.in(t)
			op := ops[c.op]
			b.call(op.method, op.path, set(op.body(), c.field, long(c.most))).want(op.status)
			b.call(op.method, op.path, set(op.body(), c.field, strings.Repeat("😀", c.most/2))).want(op.status)
			b.call(op.method, op.path, set(op.body(), c.field, long(c.most+1))).refused(c.field)
			// UTF-16 units count: half as many of these are too many.
			b.call(op.method, op.path, set(op.body(), c.field, strings.Repeat("😀", c.most/2+1))).refused(c.field)
			b.call(op.method, op.path, set(op.body(), c.field, 7)).refused(c.field)
			b.call(op.method, op.path, set(op.body(), c.field, nil)).refused(c.field)
		})
	}
}

func TestEachRequiredFieldIsRequired(t *testing.T) {
	b := start(t, nil)
	ops := forms(b.talk(b.session("Maren")))
	for op, fields := range map[string][]string{
		"createSession":    {"channelProviderId", "customerIdentifiers"},
		"createEngagement": {"sessionId", "channelId"},
		"join":             {"sessionId", "dialogId"},
		"disconnect":       {"sessionId", "dialogId"},
		"sendMessage":      {"sessionId", "dialogId", "body", "body.elementType", "body.elementText.text"},
		"subscribe":        {"channelProviderId", "callbackUrl", "eventTypes"},
		"upload":           {"mediaName", "mediaContentType", "mediaSize"},
	} {
		for _, field := range fields {
			t.Run(op+" "+field, func(t *testing.T) {
				b := b.in(t)
				for _, value := range []any{absent, nil} {
					if code := b.call(ops[op].method, ops[op].path, set(ops[op].body(), field, value)).refused(field); code != missing {
						t.Errorf("%v: code %d, want %d", value, code, missing)
					}
				}
			})
		}
	}
}

func TestEachOtherRuleIsKept(t *testing.T) {
	b := start(t, nil)
	tk := b.talk(b.session("Maren"))
	ops := forms(tk)
	good := "\x00" // the request is taken
	for _, c := range []struct {
		op, field string
		value     any
		refused   string
	}{
		{"createSession", "accountId", absent, good},
		{"createSession", "accountId", "OTHERS", "accountId"},
		{"createSession", "accountId", "x", "accountId"},
		{"createSession", "channelProviderId", "no", "channelProviderId"},
		{"createSession", "channelProviderId", long(257), "channelProviderId"},
		{"createSession", "channelProviderId", "unknown-provider", "channelProviderId"},
		{"createSession", "customerIdentifiers", object{}, "customerIdentifiers"},
		{"createSession", "customerIdentifiers", many(10, []string{"v"}), good},
		{"createSession", "customerIdentifiers", many(11, []string{"v"}), "customerIdentifiers"},
		{"createSession", "customerIdentifiers", object{long(50): values(5, 256)}, good},
		{"createSession", "customerIdentifiers", object{long(51): []string{"v"}}, "customerIdentifiers." + long(51)},
		{"createSession", "customerIdentifiers", object{"a": values(6, 1)}, "customerIdentifiers.a"},
		{"createSession", "customerIdentifiers", object{"a": []string{""}}, "customerIdentifiers.a[0]"},
		{"createSession", "customerIdentifiers", object{"a": []string{"v", long(257)}}, "customerIdentifiers.a[1]"},
		{"createSession", "customerIdentifiers", object{"a": "v"}, "customerIdentifiers.a"},
		{"createSession", "sessionParameters", many(20, long(256)), good},
		{"createSession", "sessionParameters", object{long(64): ""}, good},
		{"createSession", "sessionParameters", many(21, "v"), "sessionParameters"},
		{"createSession", "sessionParameters", object{long(65): "v"}, "sessionParameters." + long(65)},
		{"createSession", "sessionParameters", object{"a": long(257)}, "sessionParameters.a"},
		{"createSession", "sessionParameters", object{"a": 1}, "sessionParameters.a"},
		{"createEngagement", "sessionId", "x", "sessionId"},
		{"createEngagement", "channelId", "no", "channelId"},
		{"createEngagement", "channelId", long(51), "channelId"},
		{"createEngagement", "channelId", "Email", "channelId"},
		{"createEngagement", "channelId", "chat", good},
		{"createEngagement", "engagementParameters", many(20, long(256)), good},
		{"createEngagement", "engagementParameters", many(21, "v"), "engagementParameters"},
		{"createEngagement", "engagementParameters", object{long(65): "v"}, "engagementParameters." + long(65)},
		{"createEngagement", "engagementParameters", object{"a": long(257)}, "engagementParameters.a"},
		{"join", "dialogId", "x", "dialogId"},
		{"disconnect", "sessionId", "x", "sessionId"},
		{"disconnect", "reason", "BORED", "reason"},
		{"disconnect", "correlationId", long(257), "correlationId"},
		{"sendMessage", "dialogId", "x", "dialogId"},
		{"sendMessage", "body", "hello", "body"},
		{"sendMessage", "body.elementType", "", "body.elementType"},
		{"sendMessage", "body.elementText.textFormat", "RTF", "body.elementText.textFormat"},
		{"sendMessage", "body.elementText.textFormat", "MARKDOWN", good},
		{"sendMessage", "customData", many(20, long(256)), good},
		{"sendMessage", "customData", many(21, "v"), "customData"},
		{"sendMessage", "customData", object{long(65): "v"}, "customData." + long(65)},
		{"sendMessage", "customData", object{"a": long(257)}, "customData.a"},
		{"sendMessage", "headers.to", values(20, 256), good},
		{"sendMessage", "headers.to", values(21, 1), "headers.to"},
		{"sendMessage", "headers.cc", values(1, 257), "headers.cc[0]"},
		{"sendMessage", "headers.bcc", values(21, 1), "headers.bcc"},
		{"sendMessage", "headers.providerTimestamp", "2026-03-11T09:12:23.610Z", good},
		{"sendMessage", "headers.providerTimestamp", "yesterday", "headers.providerTimestamp"},
		{"sendMessage", "headers.additionalHeaders", many(10, long(256)), good},
		{"sendMessage", "headers.additionalHeaders", many(11, "v"), "headers.additionalHeaders"},
		{"sendMessage", "headers.additionalHeaders", object{long(65): "v"}, "headers.additionalHeaders." + long(65)},
		{"sendMessage", "somethingNew", 1, good},
		{"subscribe", "channelProviderId", "unknown-provider", "channelProviderId"},
		{"subscribe", "callbackUrl", "ftp://example.com/", "callbackUrl"},
		{"subscribe", "callbackUrl", "https:///x", "callbackUrl"},
		{"subscribe", "callbackUrl", "https://example.com/" + long(2048-20), good},
		{"subscribe", "callbackUrl", "https://example.com/" + long(2049-20), "callbackUrl"},
		{"subscribe", "eventTypes", []string{}, "eventTypes"},
		{"subscribe", "eventTypes", []string{"CUSTOMER_MESSAGES", "CC_MESSAGES", "PARTICIPANT_ADDED", "PARTICIPANT_DISCONNECTED", "ENGAGEMENT_CREATED", "ENGAGEMENT_ERROR"}, good},
		{"subscribe", "eventTypes", []string{"ALL", "ALL", "ALL", "ALL", "ALL", "ALL", "ALL"}, "eventTypes"},
		{"subscribe", "eventTypes", []string{"MESSAGES", "READ"}, "eventTypes[1]"},
		{"subscribe", "subscriptionId", nobody, "subscriptionId"},
		{"upload", "mediaName", "", "mediaName"},
		{"upload", "mediaSize", 0, "mediaSize"},
		{"upload", "mediaSize", 1.5, "mediaSize"},
		{"upload", "mediaSize", "1", "mediaSize"},
	} {
		t.Run(fmt.Sprintf("%s %s %.40v", c.op, c.field, c.value), func(t *testing.T) {
			b := b.in(t)
			op := ops[c.op]
			got := b.call(op.method, op.path, set(op.body(), c.field, c.value))
			if c.refused == good {
				got.want(op.status)
				return
			}
			got.refused(c.refused)
		})
	}
}

func TestBodiesThatAreNoFieldsAreNamed(t *testing.T) {
	b := start(t, nil)
	s := chat + "/sessions/" + b.session("Maren")
	b.post(s+":appendIdentifiers", object{}).refused("customerIdentifiers")
	b.post(s+":appendIdentifiers", object{"a": values(6, 1)}).refused("a")
	b.post(s+":updateSessionParameters", many(21, "v")).refused("sessionParameters")
	b.post(s+":updateSessionParameters", object{"a": nil}).refused("a")
	b.post(chat+"/sessions", []string{}).refused("body")
	for _, body := range []string{"", "{", "{} {}"} {
		b.post(chat+"/sessions", body).want(400)
	}
	b.call(http.MethodPost, chat+"/sessions", newSession("Nils"), header("Content-Type", "text/plain")).want(400)
	b.call(http.MethodPost, chat+"/sessions", newSession("Nils"), header("Content-Type", "application/json; charset=utf-8")).want(201)
	b.post(chat+"/sessions", `{"displayName":"`+long(1<<20)+`"}`).want(400)
}

func TestQueriesAndIdsAreChecked(t *testing.T) {
	b := start(t, nil)
	s := b.session("Maren")
	tk := b.talk(s)
	code := func(want, got int) {
		t.Helper()
		if got != want {
			t.Errorf("code %d, want %d", got, want)
		}
	}
	code(missing, b.call(http.MethodDelete, chat+"/sessions/"+s, nil).refused("reason"))
	b.call(http.MethodDelete, chat+"/sessions/"+s+"?reason=BORED", nil).refused("reason")
	code(missing, b.get(chat+"/engagements").refused("sessionId"))
	code(pattern, b.get(chat+"/engagements?sessionId=x").refused("sessionId"))
	code(pattern, b.get(chat+"/sessions/x").refused("sessionId"))
	b.get(chat + "/engagements/x").refused("engagementId")
	b.get(hooks + "/x").refused("subscriptionId")
	b.get(store + "/accounts/" + account + "/media/x/signed-download-uri").refused("mediaId")
	b.get(hooks + "?channelProviderId=").refused("channelProviderId")
	list := tk.path("/messages?sessionId=" + s + "&dialogId=" + tk.dialog)
	code(missing, b.get(tk.path("/messages?sessionId="+s)).refused("dialogId"))
	for _, q := range []string{"pageSize=0", "pageSize=51", "pageSize=x", "pageSize="} {
		b.get(list + "&" + q).refused("pageSize")
	}
	for _, q := range []string{"pageNumber=0", "pageNumber=-1", "pageNumber=x"} {
		b.get(list + "&" + q).refused("pageNumber")
	}
	b.get(list + "&pageSize=50&pageNumber=1").want(200)
}
