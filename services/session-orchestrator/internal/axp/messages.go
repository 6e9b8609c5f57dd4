package axp

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strconv"
)

const (
	// MaxPageSize is the largest page of messages that AXP gives.
	MaxPageSize = 50
	// maxPages bounds ListAllMessages.
	maxPages = 100
)

// SendMessage sends a customer's message into a dialog. AXP's answer often
// lacks the messageId; it comes with the echo event, as does our
// ProviderMessageID. After an Unknown outcome wait for that event, or look in
// ListAllMessages once, before sending again.
func (c *Client) SendMessage(ctx context.Context, engagementID string, r SendMessage) (*Message, error) {
	op := c.operations[OpSendMessage]
	switch {
	case r.SessionID == "" || r.DialogID == "":
		return nil, invalidRequest(op, "sessionId or dialogId is missing")
	case r.Body.ElementType == "":
		return nil, invalidRequest(op, "body.elementType is missing")
	}
	out := new(Message)
	if err := c.do(ctx, op.Name, input{ids: []string{engagementID}, body: r, out: out}); err != nil {
		return nil, err
	}
	return out, nil
}

// ListMessages reads one page of an active dialog's messages. pageNumber
// counts from 1, pageSize is 1 to 50. It is not for polling: what is new comes
// by callback.
func (c *Client) ListMessages(ctx context.Context, engagementID, dialogID, sessionID string, pageNumber, pageSize int) (*MessagePage, error) {
	op := c.operations[OpListMessages]
	switch {
	case sessionID == "" || dialogID == "":
		return nil, invalidRequest(op, "sessionId or dialogId is missing")
	case pageNumber < 1 || pageSize < 1 || pageSize > MaxPageSize:
		return nil, invalidRequest(op, "the page number or size is out of range")
	}
	out := new(MessagePage)
	err := c.do(ctx, op.Name, input{
		ids: []string{engagementID},
		query: url.Values{
			"dialogId":   {dialogID},
			"sessionId":  {sessionID},
			"pageSize":   {strconv.Itoa(pageSize)},
			"pageNumber": {strconv.Itoa(pageNumber)},
		},
		out: out,
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// ListAllMessages reads every page and gives the messages once each, in the
// order of messageIndex (those without one last), then of receivedAt. It counts
// pages itself: links and page sizes of AXP are not reliable. complete is false
// if it stopped at its bound of 100 pages; the messages are good all the same.
// On an error it gives what was read before.
func (c *Client) ListAllMessages(ctx context.Context, engagementID, dialogID, sessionID string) (messages []Message, complete bool, err error) {
	type identity struct {
		message, provider string
		index             Int
	}
	seen := make(map[identity]bool)
	for number := 1; number <= maxPages && !complete; number++ {
		page, err := c.ListMessages(ctx, engagementID, dialogID, sessionID, number, MaxPageSize)
		if err != nil {
			return sorted(messages), false, err
		}
		added := 0
		for _, m := range page.Messages {
			// A message that arrives while pages are read may push others onto
			// the next page, where they come a second time.
			id := identity{m.MessageID, m.ProviderMessageID, m.MessageIndex}
			if seen[id] && (id.message != "" || id.provider != "") {
				continue
			}
			seen[id] = true
			messages = append(messages, m)
			added++
		}
		total := page.Pagination.Total
		// A page with nothing new also ends it: a server that does not know
		// pageNumber would give the same page for ever.
		complete = added == 0 || (total.Known && int64(len(messages)) >= total.Value)
	}
	return sorted(messages), complete, nil
}

func sorted(messages []Message) []Message {
	slices.SortStableFunc(messages, func(a, b Message) int {
		switch {
		case a.MessageIndex.Known && b.MessageIndex.Known && a.MessageIndex.Value != b.MessageIndex.Value:
			return cmp.Compare(a.MessageIndex.Value, b.MessageIndex.Value)
		case a.MessageIndex.Known != b.MessageIndex.Known:
			if a.MessageIndex.Known {
				return -1
			}
			return 1
		default:
			return a.ReceivedAt.Compare(b.ReceivedAt.Time)
		}
	})
	return messages
}
