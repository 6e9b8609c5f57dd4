package bench

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/keyring"
)

// account is the same on both sides; thin has no other.
const account = "BENCHX"

func sessionID(i int) string    { return fmt.Sprintf("0197a1b2-0000-7000-8000-%012d", i) }
func engagementID(i int) string { return fmt.Sprintf("0197a1b2-1111-7000-8000-%012d", i) }

// callbacks writes callbacks of messages of an agent, each with an id of its own.
type callbacks struct {
	prefix string // of the ids: no two runs share one
	dialog []string
}

func newCallbacks(keys *keyring.Keyring, sessions int) *callbacks {
	c := &callbacks{prefix: "bench-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-"}
	for i := range sessions {
		c.dialog = append(c.dialog, keys.MintDialogID(account, sessionID(i), engagementID(i)))
	}
	return c
}

// id is AXP's id of the message of event n.
func (c *callbacks) id(n int) string { return c.prefix + strconv.Itoa(n) }

// body is the callback of event n, about 1.1 KB: what AXP sends of an agent's
// answer of two lines.
func (c *callbacks) body(b []byte, n int) []byte {
	i := n % len(c.dialog)
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	return fmt.Appendf(b, `{"eventType":"MESSAGES","correlationId":"7f3a1c52-9d0e-4b6a-8c1f-%012d","eventDate":"%s",`+
		`"messageId":"%s","accountId":"BENCHX","dialogId":"0c9be21e-7713-4c8a-8f52-%012d",`+
		`"engagementId":"4d1f7a60-2c35-4b0e-9a7d-%012d","status":"DELIVERED","sessionId":"77e0c4d8-19ab-4d6f-b3c1-%012d",`+
		`"businessAccountName":"fjord-bikes","channelProviderId":"fjord-bikes-webchat","channelId":"Chat",`+
		`"senderParticipantId":"c2f94e80-1d57-4b36-ae08-3b9d7f6512c9","senderParticipantName":"Bram Visser","senderParticipantType":"AGENT",`+
		`"body":{"elementType":"text","elementText":{"text":"Thanks for waiting! The blue frame in size M is back in stock from Thursday on.\nShall I put one aside for you until Saturday, and book the fitting as well?","textFormat":"PLAINTEXT"}},`+
		`"messageIndex":%d,"recipientParticipants":[{"participantId":"5a61c0de-83f2-4f0b-9d1a-c7e4b2f06a15","participantType":"CUSTOMER","displayName":"Ines Duarte","connectionId":"b8d02f47-6e9c-4a13-8c55-90a7f1e3d264","providerParticipantId":"visitor-31","channelProviderId":"fjord-bikes-webchat"}],`+
		`"providerDialogId":"%s","receivedAt":"%s","lastUpdatedAt":"%s"}`,
		n, now, c.id(n), i, i, i, n, c.dialog[i], now, now)
}

// number tells which callback an event came of; false where it is none of ours.
func (c *callbacks) number(ev *axpchatv1.Event) (int, bool) {
	id := ev.GetEventId() // thin keeps AXP's own
	if m := ev.GetMessageArrived(); m != nil {
		id = m.GetMessageId()
	}
	text, ok := strings.CutPrefix(id, c.prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}
