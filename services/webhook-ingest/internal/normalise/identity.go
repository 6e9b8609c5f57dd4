package normalise

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
)

// identify derives the event's id from what identifies the event for AXP, which
// gives its events no id of their own:
//
//   - a message by messageId, status and lastUpdatedAt, for the same messageId
//     with other ones is an update; without messageId by dialog and messageIndex,
//     then by providerMessageId;
//   - a participant's event by its state: type, dialog, connection and eventDate;
//   - the creation of an engagement by its dialog;
//   - an engagement's error by what failed and the request that it belongs to;
//   - all else, and what lacks these fields, by its whole content.
//
// It reads o and takes nothing.
func identify(o *object, eventType string) string {
	dialog := firstOf(o.peek("dialogId"), o.peek("providerDialogId"))
	switch eventType {
	case typeMessages:
		version := []string{o.peek("status"), instant(o, "lastUpdatedAt")}
		switch {
		case o.peek("messageId") != "":
			return newID(eventType, append(version, "id", o.peek("messageId"))...)
		case dialog != "" && o.peek("messageIndex") != "":
			return newID(eventType, append(version, "index", dialog, position(o))...)
		case o.peek("providerMessageId") != "":
			return newID(eventType, append(version, "provider", o.peek("providerMessageId"))...)
		}
	case typeParticipantAdded, typeParticipantDisconnected:
		date := instant(o, "eventDate")
		if connection := o.peek("connectionId"); dialog != "" && connection != "" && date != "" {
			return newID(eventType, dialog, connection, date)
		}
	case typeEngagementCreated:
		if dialog != "" {
			return newID(eventType, dialog)
		}
	case typeEngagementError:
		subject := firstOf(o.peek("providerDialogId"), o.peek("dialogId"), o.peek("sessionId"))
		if subject != "" {
			return newID(eventType, o.peek("type"), subject, o.peek("correlationId"))
		}
	case typeTyping:
	default:
		eventType = "unknown"
	}
	return newID(eventType, "content", canonical(o.fields))
}

// messageID is the id under which clients know the message: the connector's own
// for what a customer sent through it, else AXP's. Where AXP gives none, one is
// derived that stays the same when the message's status changes.
func messageID(o *object, fromCustomer bool) string {
	provider := o.peek("providerMessageId")
	if fromCustomer && looksLikeOurs(provider) {
		return provider
	}
	dialog := firstOf(o.peek("dialogId"), o.peek("providerDialogId"))
	switch {
	case o.peek("messageId") != "":
		return o.peek("messageId")
	case dialog != "" && o.peek("messageIndex") != "":
		return newID("derived", "index", dialog, position(o))
	case provider != "":
		return newID("derived", "provider", provider)
	}
	return newID("derived", "content", canonical(o.fields))
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
	h := sha256.New()
	for _, part := range parts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	return strings.ToLower(kind) + "-" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:24])
}

// position is the messageIndex as text; 7, "7" and 7.0 are one.
func position(o *object) string {
	if n, ok := newObject(o.fields).integer("messageIndex"); ok {
		return strconv.FormatInt(n, 10)
	}
	return o.peek("messageIndex")
}

// instant is a time as a text that does not depend on how its zone was written.
func instant(o *object, key string) string {
	text := o.peek(key)
	if t, ok := parseTime(text); ok {
		return strconv.FormatInt(t.GetSeconds(), 10) + "." + strconv.Itoa(int(t.GetNanos()))
	}
	return text
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
