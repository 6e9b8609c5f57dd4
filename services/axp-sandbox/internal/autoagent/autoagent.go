// Package autoagent owns the automatic agent: it accepts waiting chats and
// answers customers, so that a demonstration needs nobody at the desk. It can
// be switched off at any time; then it leaves nothing half done.
package autoagent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/axpchat/connector/services/axp-sandbox/internal/world"
)

// Config is how the agent behaves.
type Config struct {
	Name        string
	AcceptDelay time.Duration
	ReplyDelay  time.Duration
}

// Desk is what the agent works with.
type Desk interface {
	Accept(dialogID, agent string) (participantID string, refusal *world.Refusal)
	Say(dialogID string, m world.AgentMessage) *world.Refusal
	Leave(dialogID string) *world.Refusal
	End(dialogID string) *world.Refusal
	Chats() []world.Chat
	Watch(f func(world.Chat)) (stop func())
}

// Colleague is who comes where a customer asks for somebody else.
const Colleague = "Kim"

// care is what the agent knows of a chat that it deals with.
type care struct {
	coming   bool   // it will accept the chat
	serving  string // as which participant it is in the chat; empty: it is not
	relieved bool   // somebody at the desk took it out: it does not come again
	answered int    // up to which message
	name     string // by which it comes
}

// Agent is the automatic agent. It is safe for concurrent use.
type Agent struct {
	cfg  Config
	desk Desk
	wake chan struct{}

	mu      sync.Mutex
	on      bool
	all     bool                  // every chat has to be looked at
	changed map[string]world.Chat // those that have to be looked at
	chats   map[string]*care
}

// New makes the agent.
func New(cfg Config, desk Desk, on bool) *Agent {
	return &Agent{
		cfg: cfg, desk: desk, on: on, all: true, wake: make(chan struct{}, 1), changed: map[string]world.Chat{}, chats: map[string]*care{},
	}
}

// Enabled tells whether the agent is on.
func (a *Agent) Enabled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.on
}

// Enable switches the agent. Off, it accepts and answers nothing any more;
// chats that it serves stay with it until somebody at the desk writes, leaves
// or ends them.
func (a *Agent) Enable(on bool) {
	a.mu.Lock()
	a.on, a.all = on, true
	a.mu.Unlock()
	a.poke()
}

func (a *Agent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// see notes a chat that has changed; it must not block.
func (a *Agent) see(chat world.Chat) {
	a.mu.Lock()
	if chat.DialogID == "" { // the world was emptied
		clear(a.changed)
		clear(a.chats)
		a.all = true
	} else {
		a.changed[chat.DialogID] = chat
	}
	a.mu.Unlock()
	a.poke()
}

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	defer a.desk.Watch(a.see)()
	var group sync.WaitGroup
	defer group.Wait()
	for {
		for _, chat := range a.due() {
			if f, delay := a.next(chat); f != nil {
				group.Go(func() { after(ctx, delay, f) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
	}
}

// due lists the chats that have to be looked at.
func (a *Agent) due() []world.Chat {
	a.mu.Lock()
	all, changed := a.all, a.changed
	a.all, a.changed = false, map[string]world.Chat{}
	a.mu.Unlock()
	if all {
		return a.desk.Chats() // not under the lock: the desk calls see under its own
	}
	return slices.Collect(maps.Values(changed))
}

func after(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
		f()
	}
}

// next says what to do about a chat now.
func (a *Agent) next(chat world.Chat) (f func(), delay time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if chat.Status == world.Terminated {
		delete(a.chats, chat.DialogID)
		return nil, 0
	}
	if !a.on || chat.Status != world.Active {
		return nil, 0
	}
	c := a.chats[chat.DialogID]
	if c == nil {
		c = &care{name: a.cfg.Name}
		a.chats[chat.DialogID] = c
	}
	if c.serving == "" {
		if !chat.Waiting || c.coming || c.relieved {
			return nil, 0
		}
		c.coming = true
		return func() { a.accept(chat, c) }, a.cfg.AcceptDelay
	}
	for _, m := range chat.Messages {
		if m.Index > c.answered && m.SenderType == world.Customer {
			c.answered = m.Index
			return func() { a.reply(chat, c, m.Text) }, a.cfg.ReplyDelay
		}
	}
	return nil, 0
}

func (a *Agent) accept(chat world.Chat, c *care) {
	a.mu.Lock()
	c.coming = false
	on, name := a.on, c.name
	a.mu.Unlock()
	if !on {
		return
	}
	id, refusal := a.desk.Accept(chat.DialogID, name)
	if refusal != nil {
		return // somebody was faster, or it is over
	}
	last := ""
	a.mu.Lock()
	c.serving = id
	for _, m := range chat.Messages {
		if m.SenderType == world.Customer {
			c.answered, last = m.Index, m.Text
		}
	}
	a.mu.Unlock()
	a.say(chat, c, plain(greeting(chat, name, last)))
}

func greeting(chat world.Chat, agent, last string) string {
	name := strings.TrimSpace(chat.Customer.DisplayName)
	if name == "" {
		name = "there"
	}
	text := fmt.Sprintf("Hello %s, this is %s.", name, agent)
	if page := cmp.Or(chat.SessionParameters["page"], chat.SessionParameters["currentPage"]); page != "" { // the web chat's is the latter
		text += fmt.Sprintf(" I see that you are looking at %s.", page)
	}
	if last != "" {
		return text + fmt.Sprintf(" You wrote: \"%s\". Let me help you with that.", shorten(last))
	}
	return text + " What can I do for you?"
}

func shorten(s string) string {
	r := []rune(s)
	if len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return s
}

func plain(text string) world.AgentMessage {
	return world.AgentMessage{Body: world.Body{ElementType: "text", ElementText: &world.Text{Text: text, TextFormat: "PLAINTEXT"}}}
}

// say speaks, where the agent is still the one who serves the chat.
func (a *Agent) say(chat world.Chat, c *care, m world.AgentMessage) bool {
	a.mu.Lock()
	m.As = c.serving
	a.mu.Unlock()
	if m.As == "" {
		return false
	}
	if a.desk.Say(chat.DialogID, m) == nil {
		return true
	}
	a.mu.Lock()
	c.serving, c.relieved = "", true
	a.mu.Unlock()
	return false
}

// reply answers a customer's message by its words.
func (a *Agent) reply(chat world.Chat, c *care, text string) {
	if !a.Enabled() {
		return
	}
	lower := strings.ToLower(text)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(lower, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("bye", "thank", "that is all", "that's all"):
		if a.say(chat, c, plain("You are welcome. Have a good day!")) && has("bye") {
			_ = a.desk.End(chat.DialogID) // it may have ended meanwhile
		}
	case has("option", "carousel", "show me", "product"):
		a.say(chat, c, Options())
	case has("hour", "open"):
		a.say(chat, c, plain("We are open Monday to Saturday, 9 to 18 o'clock."))
	case has("price", "cost", "how much"):
		a.say(chat, c, plain("Prices include delivery. Write \"options\" and I will show you what we have."))
	case has("colleague", "transfer", "someone else"):
		if a.say(chat, c, plain("I will ask a colleague to go on. Please stay in the chat.")) {
			a.mu.Lock()
			c.serving, c.name = "", Colleague
			a.mu.Unlock()
			_ = a.desk.Leave(chat.DialogID) // as above
		}
	default:
		a.say(chat, c, plain(fmt.Sprintf("Thank you, I have noted \"%s\". Is there anything else that I should know?", shorten(text))))
	}
}

// Options is a rich message: two products with buttons.
func Options() world.AgentMessage {
	item := func(title, description, code string) map[string]any {
		return map[string]any{
			"title": title, "description": description,
			"actions": []any{
				map[string]any{"type": "postback", "text": "Take this one", "payload": "PICK:" + code},
				map[string]any{"type": "link", "text": "Details", "uri": "https://www.example.com/" + code},
			},
		}
	}
	return world.AgentMessage{
		FallbackText: "Ridge 2 or Ridge 4?",
		Body: world.Body{
			ElementType: "carousel", ElementText: &world.Text{Text: "These two would fit:", TextFormat: "PLAINTEXT"},
			RichMediaPayload: map[string]any{"items": []any{
				item("Ridge 2", "Tent for two, 2.1 kg", "ridge-2"), item("Ridge 4", "Tent for four, 4.8 kg", "ridge-4"),
			}},
		},
	}
}
