package normalise

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// identify derives the event's id from what identifies the event for AXP, which
// gives its events no id of their own:
//
//   - a message by messageId, status and lastUpdatedAt, for the same messageId
//     with other ones is an update; without messageId by dialog and messageIndex,
//     then by dialog and providerMessageId. Without lastUpdatedAt nothing but the
//     content tells an update, so all of it counts but what describes the call;
//   - a participant's event by its state: type, dialog, connection and eventDate;
//   - the creation of an engagement by its dialog;
//   - an engagement's error by what failed, how, and the request that it belongs
//     to, without which its date has to do;
//   - all else, and what lacks these fields, by its whole content. Order of keys,
//     white space and the way a character is escaped do not count; how a number
//     is written does, and of a repeated key only the last value.
//
// Where two rules were possible it is the narrower one: an id that two events
// share loses one of them, while a copy with an id of its own only tells a client
// again what it knows. It reads o and takes nothing.
func identify(o *object, eventType string, raw []byte) string {
	parts := identity(o, eventType)
	if parts == nil {
		parts = []string{"content", canonical((*node)(o))}
	}
	for _, part := range parts {
		if strings.ContainsRune(part, utf8.RuneError) {
			// What is no text has become U+FFFD, which all such bytes share.
			parts = append(parts, "raw", string(raw))
			break
		}
	}
	if eventType == "" {
		eventType = "unknown"
	}
	return newID(eventType, parts...)
}

// names are the fields that name things. Where one has a type that no name has,
// nothing is said about what it names: then all of the event counts.
const names = "messageId messageIndex providerMessageId dialogId providerDialogId connectionId engagementId sessionId correlationId"

// identity lists the parts of an event's id; nil where they are not there.
func identity(o *object, eventType string) []string {
	if o.odd(names) {
		return nil
	}
	dialog := dialogOf(o)
	switch eventType {
	case typeMessages:
		if which := whichMessage(o); which != nil {
			return append([]string{o.value("status"), version(o)}, which...)
		}
	case typeParticipantAdded, typeParticipantDisconnected:
		date := instant(o, "eventDate")
		if connection := o.peek("connectionId"); dialog != "" && connection != "" && date != "" {
			return []string{dialog, connection, date}
		}
	case typeEngagementCreated:
		if dialog != "" {
			return []string{dialog}
		}
	case typeEngagementError:
		if dialog == "" && o.peek("sessionId") == "" {
			return nil
		}
		correlation, date := o.peek("correlationId"), ""
		if correlation == "" {
			date = instant(o, "eventDate")
		}
		return []string{
			o.value("type"), o.value("title"), o.value("detail"), o.peek("providerDialogId"), o.peek("dialogId"),
			o.peek("engagementId"), o.peek("sessionId"), correlation, date,
		}
	}
	return nil
}

// whichMessage tells messages apart, but not the states of one; nil where AXP
// does not say which message it is.
func whichMessage(o *object) []string {
	dialog := dialogOf(o)
	switch {
	case o.peek("messageId") != "":
		return []string{"id", o.peek("messageId")}
	case dialog != "" && o.peek("messageIndex") != "":
		return []string{"index", dialog, position(o)}
	case o.peek("providerMessageId") != "":
		// It is unique for its provider only.
		return []string{"provider", dialog, o.peek("providerMessageId")}
	}
	return nil
}

// version tells the states of a message with one status apart.
func version(o *object) string {
	if date := instant(o, "lastUpdatedAt"); date != "" {
		return date
	}
	rest := *o
	rest.inner = slices.Clone(o.inner)
	for _, ofTheCall := range []string{"correlationId", "eventDate", "receivedAt"} {
		rest.drop(ofTheCall)
	}
	if index := position(o); index != "" {
		if n := rest.find("messageIndex"); n != nil {
			n.kind, n.spelling = text, index
		}
	}
	return "content " + canonical((*node)(&rest))
}

// dialogOf names the dialog; the key says whose name it is, for AXP and a
// provider may give the same one to different dialogs.
func dialogOf(o *object) string {
	for _, key := range []string{"dialogId", "providerDialogId"} {
		if id := o.peek(key); id != "" {
			return key + " " + id
		}
	}
	return ""
}

// messageID is the id under which clients know the message: the connector's own
// for what a customer sent through it, else AXP's. Where AXP gives none, one is
// derived that stays the same when the message's status changes.
func messageID(o *object, fromCustomer bool) string {
	provider := o.peek("providerMessageId")
	if fromCustomer && looksLikeOurs(provider) {
		return provider
	}
	if id := o.peek("messageId"); id != "" {
		return id
	}
	if which := whichMessage(o); which != nil {
		return newID("derived", which...)
	}
	return newID("derived", "content", canonical((*node)(o)))
}

// looksLikeOurs tells whether a providerMessageId can be a message id of the
// connector, which are UUIDs. It need not be certain: the worst that a stranger
// with a UUID can do is to name its own message by it.
func looksLikeOurs(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i, c := range []byte(id) {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if hyphen != (c == '-') || !hyphen && !hex {
			return false
		}
	}
	return true
}

// newID hashes the parts, each with its length in front, so that no two lists of
// parts look alike. The result has at most 57 characters out of [a-z0-9A-Z_-].
func newID(kind string, parts ...string) string {
	size := 0
	for _, part := range parts {
		size += 8 + len(part)
	}
	all := make([]byte, 0, size)
	for _, part := range parts {
		all = binary.BigEndian.AppendUint64(all, uint64(len(part)))
		all = append(all, part...)
	}
	sum := sha256.Sum256(all)
	return strings.ToLower(kind) + "-" + base64.RawURLEncoding.EncodeToString(sum[:24])
}

// position is the messageIndex as text; 7, "7" and 7.0 are one.
func position(o *object) string {
	text := strings.TrimSpace(o.peek("messageIndex"))
	whole := text
	if i := strings.IndexByte(text, '.'); i >= 0 && strings.Trim(text[i+1:], "0") == "" {
		whole = text[:i]
	}
	if n, err := strconv.ParseInt(whole, 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	return text
}

// instant is a time as a text that does not depend on how its zone was written;
// what can't be read as a time counts as it is.
func instant(o *object, key string) string {
	if n := o.find(key); n != nil && n.kind == text {
		if t, ok := parseTime(n.spelling); ok {
			return "at " + strconv.FormatInt(t.GetSeconds(), 10) + "." + strconv.Itoa(int(t.GetNanos())) + finer(n.spelling)
		}
	}
	if v := o.value(key); v != "" {
		return "as " + v
	}
	return ""
}

// finer is what a time says beyond its nanoseconds.
func finer(text string) string {
	i := strings.IndexAny(text, ".,")
	if i < 0 {
		return ""
	}
	digits := text[i+1:]
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	if len(digits) <= 9 {
		return ""
	}
	return strings.TrimRight(digits[9:], "0")
}
