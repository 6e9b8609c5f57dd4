package chaos

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// totals are counts since the beginning.
type totals struct {
	tally
	Accepted, Twice, Refused int // callbacks
	Sent                     int // customers' messages
}

// axp is what AXP says of itself.
type axp struct {
	Chats    []suitetest.DeskChat `json:"chats"`
	Webhooks struct {
		Pending   int `json:"pending"`
		GivenUp   int `json:"givenUp"`
		Swallowed int `json:"swallowed"`
	} `json:"webhooks"`
}

func (r *run) axp(ctx context.Context) (axp, error) {
	var out axp
	err := suitetest.CallJSON(ctx, http.MethodGet, r.stage.sandboxURL+"/control/state", "", nil, &out)
	return out, err
}

// slowArrival is when the report begins to name what has not arrived.
const slowArrival = 5 * time.Second

// settle waits until everything that was said has arrived everywhere; it returns
// what is missing where that does not come to be.
func (r *run) settle(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, r.o.Settle)
	defer cancel()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	began, told := time.Now(), 0
	for {
		missing := r.missing(ctx)
		if missing == "" {
			return ""
		}
		// What takes long is worth a look even where it comes in the end.
		if waited := int(time.Since(began) / slowArrival); waited > told {
			told = waited
			r.complain("after %s still missing: %s", slowArrival*time.Duration(waited), missing)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			within, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer stop()
			for _, line := range r.stage.cluster.consumers(within, "OUTBOX") {
				r.complain("%s", line)
			}
			return missing
		}
	}
}

// missing names the first thing that has not come yet.
func (r *run) missing(ctx context.Context) string {
	if !r.gate.empty() {
		return "the answer to " + r.unanswered()
	}
	for _, c := range r.clients {
		if what := c.missing(r.stage.hooks); what != "" {
			return c.name + ": " + what
		}
	}
	state, err := r.axp(ctx)
	if err != nil {
		return err.Error()
	}
	if state.Webhooks.Pending > 0 {
		return fmt.Sprintf("%d callbacks that AXP could not deliver", state.Webhooks.Pending)
	}
	// What AXP has delivered since the clients were looked at.
	for _, c := range r.clients {
		if what := c.missing(r.stage.hooks); what != "" {
			return c.name + ": " + what
		}
	}
	if r.o.BackFill {
		for _, chat := range state.Chats {
			if c := r.clientOf(chat); c != nil && len(c.unseen(chat)) > 0 {
				return c.name + ": " + "a message that AXP did not call back about"
			}
		}
	}
	return ""
}

// unanswered names the messages that nobody has accepted yet.
func (r *run) unanswered() string {
	var all []string
	for _, c := range r.clients {
		c.mu.Lock()
		if c.saying != "" {
			all = append(all, fmt.Sprintf("%s by %s from pod %d", c.saying, c.transport, c.pod))
		}
		c.mu.Unlock()
	}
	const some = 4
	if len(all) > some {
		all = append(all[:some], fmt.Sprintf("and %d more", len(all)-some))
	}
	return strings.Join(all, ", ")
}

func (r *run) clientOf(chat suitetest.DeskChat) *client {
	var id int
	if _, err := fmt.Sscanf(chat.Customer.DisplayName, "Customer %d", &id); err != nil || id >= len(r.clients) {
		return nil
	}
	return r.clients[id]
}

// missing names what the client has not been told yet.
func (c *client) missing(h *hooks) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := h.of(c.session, c.checked)
	for _, key := range news {
		if !c.keys[key] {
			return "callback " + key
		}
		c.checked++
	}
	for _, m := range c.sent {
		if m.final == axpchatv1.MessageStatus_MESSAGE_STATUS_UNSPECIFIED {
			return "the fate of message " + m.clientID
		}
	}
	return ""
}

// lost are the accepted callbacks that the client never got.
func (c *client) lost(h *hooks) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, key := range h.of(c.session, 0) {
		if !c.keys[key] {
			out = append(out, key)
		}
	}
	return out
}

// unseen are the messages in AXP's list that the client never got.
func (c *client) unseen(chat suitetest.DeskChat) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, m := range chat.Messages {
		if !c.messages[m.MessageID] {
			out = append(out, m.MessageID)
		}
	}
	return out
}

// count makes the row of what has happened since the row before.
func (r *run) count(ctx context.Context, name string) Row {
	row := Row{Name: name}
	var now totals
	refusals := map[string]int{}
	for _, c := range r.clients {
		c.mu.Lock()
		now.add(c.tally)
		c.tally.Pause, c.tally.Accept = 0, 0 // the longest is a row's own
		now.Sent += len(c.sent)
		for what, n := range c.refusals {
			refusals[what] += n
		}
		c.refusals = map[string]int{}
		c.mu.Unlock()
	}
	now.Accepted, now.Twice, now.Refused = r.stage.hooks.counts()
	row.Events = Events{
		Accepted: now.Accepted - r.seen.Accepted, Delivered: now.Delivered - r.seen.Delivered,
		Repeated: now.Repeated - r.seen.Repeated, OutOfOrder: now.OutOfOrder - r.seen.OutOfOrder,
		BackFilled: now.BackFilled - r.seen.BackFilled, Dropped: now.Dropped - r.seen.Dropped,
		IndexOrder: now.IndexOrder - r.seen.IndexOrder, Resets: now.Resets - r.seen.Resets,
		Twice: now.Twice - r.seen.Twice, Refused: now.Refused - r.seen.Refused, Pause: now.Pause,
	}
	row.Streams, row.Moves, row.Slow = now.Streams-r.seen.Streams, now.Moves-r.seen.Moves, now.Slow-r.seen.Slow
	row.Messages.Accepted, row.Messages.Wait = now.Sent-r.seen.Sent, now.Accept
	for _, what := range slices.Sorted(maps.Keys(refusals)) {
		row.Wrong += refusals[what]
		row.Notes = append(row.Notes, fmt.Sprintf("%d times: %s", refusals[what], what))
	}
	for _, c := range r.clients {
		for _, key := range c.lost(r.stage.hooks) {
			if r.blame(&row, "lost event", c, key) {
				row.Events.Lost++
			}
		}
	}
	state, err := r.axp(ctx)
	if err != nil {
		row.Notes = append(row.Notes, err.Error())
	}
	for _, chat := range state.Chats {
		if c := r.clientOf(chat); c != nil {
			r.compare(&row, c, chat)
		}
	}
	r.seen = now
	r.mu.Lock()
	defer r.mu.Unlock()
	row.Notes = append(row.Notes, r.notes...)
	row.Wrong += r.wrong
	r.notes, r.wrong = nil, 0
	return row
}

// blame notes a wrong once, in the row in which it was found.
func (r *run) blame(row *Row, what string, c *client, which string) bool {
	id := fmt.Sprintf("%s: %s (session %s): %s", what, c.name, c.session, which)
	if r.blamed[id] {
		return false
	}
	r.blamed[id] = true
	if len(row.Notes) < 30 {
		row.Notes = append(row.Notes, id)
	}
	return true
}

// compare holds what a customer wrote against what AXP has.
func (r *run) compare(row *Row, c *client, chat suitetest.DeskChat) {
	if r.o.BackFill {
		for _, id := range c.unseen(chat) {
			if r.blame(row, "lost event", c, "MESSAGES "+id+" (never called back)") {
				row.Events.Lost++
			}
		}
	}
	c.mu.Lock()
	sent := slices.Clone(c.sent)
	c.mu.Unlock()
	place := map[string]int{}
	for i, m := range chat.Messages {
		if m.SenderType != "CUSTOMER" {
			continue
		}
		if _, twice := place[m.ProviderMessageID]; twice {
			if r.blame(row, "message in AXP twice", c, fmt.Sprint(m.ProviderMessageID, " at ", i)) {
				row.Messages.Twice++
			}
			continue
		}
		place[m.ProviderMessageID] = i + 1
	}
	last := 0
	for _, m := range sent {
		at := place[m.id]
		failed := m.final == axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED
		switch {
		case at == 0 && !failed:
			if r.blame(row, "message not in AXP", c, m.clientID+" "+m.id) {
				row.Messages.Lost++
			}
		case at > 0 && failed:
			if r.blame(row, "message FAILED, but in AXP", c, m.clientID+" "+m.id) {
				row.Messages.FailedButThere++
			}
		case at > 0 && at < last:
			if r.blame(row, "message out of order in AXP", c, m.clientID+" "+m.id) {
				row.Messages.OutOfOrder++
			}
		}
		last = max(last, at)
		r.fate(row, c, m, at > 0)
	}
}

// fate counts how each message ended, in the row in which it did.
func (r *run) fate(row *Row, c *client, m *outgoing, there bool) {
	c.mu.Lock()
	final, counted := m.final, m.counted
	m.counted = true
	c.mu.Unlock()
	if counted {
		return
	}
	if there {
		row.Messages.InAXP++
	}
	switch final {
	case axpchatv1.MessageStatus_MESSAGE_STATUS_UNSPECIFIED:
		row.Messages.Untold++
		row.Notes = append(row.Notes, fmt.Sprintf("%s was never told what became of %s (%s)", c.name, m.clientID, m.id))
	case axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED:
		row.Messages.Failed++
	default:
		row.Messages.Told++
	}
}

// lastLook reads every journal from its beginning and holds it against what the
// client saw: what the connector itself says counts as much as AXP's events.
func (r *run) lastLook(ctx context.Context) error {
	for _, c := range r.clients {
		var all []*axpchatv1.Event
		err := c.insist(ctx, "journal", func() error {
			var err error
			all, err = c.journal(ctx, c.id%pods)
			return err
		})
		if err != nil {
			return fmt.Errorf("last look: %w", err)
		}
		r.report.Journal += len(all)
		known := map[string]bool{}
		for _, e := range all {
			if known[e.GetEventId()] {
				r.report.JournalTwice++
			}
			known[e.GetEventId()] = true
		}
		within, cancel := context.WithTimeout(ctx, 15*time.Second)
		var unseen []string
		_ = suitetest.Await(within, "the tail", func(context.Context) (bool, error) { // what is missing then is in unseen
			unseen = c.notIn(all)
			return len(unseen) == 0, nil
		})
		cancel()
		r.report.Unseen = append(r.report.Unseen, unseen...)
	}
	return nil
}

// notIn names the events that the client has not seen.
func (c *client) notIn(all []*axpchatv1.Event) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, e := range all {
		if !c.events[e.GetEventId()] {
			out = append(out, fmt.Sprintf("%s (session %s) never saw event %s, sequence %d", c.name, c.session, e.GetEventId(), e.GetSequence()))
		}
	}
	return out
}
