package bus

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// Names of streams, buckets and consumers.
const (
	EventsStream      = "EVENTS"
	OutboxStream      = "OUTBOX"
	UnroutedStream    = "UNROUTED"
	AsideStream       = "ASIDE"
	TimersStream      = "TIMERS"
	SessionsBucket    = "SESSIONS"
	EngagementsBucket = "ENGAGEMENTS"
	IndexBucket       = "INDEX"
	TicketsBucket     = "TICKETS"
	ProjectorConsumer = "projector"
	TimersConsumer    = "timers"
	OutboxGroup       = "orchestrator"
)

// HeaderEvent names the kind of event (the field of Event's payload), so that
// a reader can skip what it has no use for without decoding it.
const HeaderEvent = "Axpchat-Event"

const (
	eventPrefix    = "chat.event."
	livePrefix     = "chat.live."
	outboxPrefix   = "chat.outbox."
	unroutedPrefix = "chat.unrouted."
	asidePrefix    = "chat.aside."
	presencePrefix = "chat.presence."
	usagePrefix    = "chat.usage."
	secretPrefix   = "chat.secret."
	changedPrefix  = "chat.changed."
	timerSet       = "timer.set."
	timerDue       = "timer.due."
)

// maxToken is the longest account, session or engagement id in a subject.
const maxToken = 64

// SessionKey names a session of an account.
type SessionKey struct {
	Account string
	Session string
}

// String is the session's key in the bucket SESSIONS.
func (k SessionKey) String() string { return k.Account + "." + k.Session }

// ValidToken tells whether s may be part of a subject: wildcards, dots and
// spaces would reach other sessions or none.
func ValidToken(s string) bool {
	if s == "" || len(s) > maxToken {
		return false
	}
	outside := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}
	return strings.IndexFunc(s, outside) < 0
}

// EventSubject is where events of a session are stored.
func EventSubject(account, session string) string { return eventPrefix + account + "." + session }

// LiveSubject is where the stored events of a session are republished.
func LiveSubject(account, session string) string { return livePrefix + account + "." + session }

// OutboxSubject is where messages of a session wait for AXP, in one of n
// partitions.
func OutboxSubject(partition, n int, account, session string) string {
	return outboxPartition(partition, n) + account + "." + session
}

// outboxPartition begins the subjects of a partition. It names n as well, so that
// the stream takes nothing of who counts otherwise.
func outboxPartition(partition, n int) string {
	return outboxPrefix + strconv.Itoa(partition) + "of" + strconv.Itoa(n) + "."
}

// OutboxConsumer is the durable consumer of one of n partitions.
func OutboxConsumer(partition, n int) string { return fmt.Sprintf("outbox-%d-%d", n, partition) }

// Partition spreads sessions over n partitions; all messages of a session
// share one, so that their order holds.
func Partition(session string, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(session)) // never fails
	return int(h.Sum32() % uint32(n))
}

// SessionKeyOf is the key of a session in the bucket SESSIONS.
func SessionKeyOf(account, session string) string { return account + "." + session }

// EngagementKey is the key of an engagement in the bucket ENGAGEMENTS.
func EngagementKey(account, session, engagement string) string {
	return account + "." + session + "." + engagement
}

// IndexDialog is the key of one of AXP's dialogs in the bucket INDEX.
func IndexDialog(account, dialogID string) string { return indexKey("dialog", account, dialogID) }

// IndexEngagement is the key of one of AXP's engagements.
func IndexEngagement(account, engagementID string) string {
	return indexKey("engagement", account, engagementID)
}

// IndexSession is the key of one of AXP's sessions.
func IndexSession(account, sessionID string) string { return indexKey("session", account, sessionID) }

// IndexCorrelation is the key of a correlation id that we sent.
func IndexCorrelation(account, correlationID string) string {
	return indexKey("correlation", account, correlationID)
}

// IndexMedia is the key of a media id that a session may open.
func IndexMedia(account, session, mediaID string) string {
	return indexKey("media", account+"."+session, mediaID)
}

// SentKey is the key of what a client_message_id stood for.
func SentKey(account, session, clientMessageID string) string {
	return indexKey("sent", account+"."+session, clientMessageID)
}

// indexKey hashes the id: AXP's ids are opaque and may hold anything.
func indexKey(kind, scope, id string) string {
	sum := sha256.Sum256([]byte(id))
	return kind + "." + scope + "." + base64.RawURLEncoding.EncodeToString(sum[:16])
}
