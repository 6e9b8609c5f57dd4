// Package autoagent owns the automatic agent: it accepts waiting chats and
// answers customers, so that a demonstration needs nobody at the desk. It can
// be switched off at any time; then it leaves nothing half done.
package autoagent

import (
	"context"
	"fmt"
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
	Accept(dialogID, agent string) *world.Refusal
	Say(dialogID string, m world.AgentMessage) *world.Refusal
	Leave(dialogID string) *world.Refusal
	End(dialogID string) *world.Refusal
	Chats() []world.Chat
	Watch(f func(world.Chat)) (stop func())
}

// Agent is the automatic agent. It is safe for concurrent use.
type Agent struct {
	cfg  Config
	desk Desk

	mu       sync.Mutex
	on       bool
	mine     map[string]int // dialogs it serves, and up to which message it has answered
	accepted map[string]bool
	wake     chan struct{}
}

// New makes the agent.
func New(cfg Config, desk Desk, on bool) *Agent {
	return &Agent{cfg: cfg, desk: desk, on: on, mine: map[string]int{}, accepted: map[string]bool{}, wake: make(chan struct{}, 1)}
}

// Enabled tells whether the agent is on.
func (a *Agent) Enabled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.on
}

// Enable switches the agent.
func (a *Agent) Enable(on bool) {
	a.mu.Lock()
	a.on = on
	a.mu.Unlock()
	a.poke()
}

func (a *Agent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) {
	defer a.desk.Watch(func(world.Chat) { a.poke() })()
	var group sync.WaitGroup
	defer group.Wait()
	for {
		for _, chat := range a.desk.Chats() {
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
		delete(a.mine, chat.DialogID)
		delete(a.accepted, chat.DialogID)
		return nil, 0
	}
	if !a.on || chat.Status != world.Active {
		return nil, 0
	}
	answered, mine := a.mine[chat.DialogID]
	switch {
	case chat.Waiting && !a.accepted[chat.DialogID]:
		a.accepted[chat.DialogID] = true
		delete(a.mine, chat.DialogID)
		return func() { a.accept(chat) }, a.cfg.AcceptDelay
	case !mine:
		return nil, 0
	}
	for _, m := range chat.Messages {
		if m.Index > answered && m.SenderType == world.Customer {
			a.mine[chat.DialogID] = m.Index
			return func() { a.reply(chat, m.Text); a.poke() }, a.cfg.ReplyDelay
		}
	}
	return nil, 0
}

func (a *Agent) accept(chat world.Chat) {
	if a.desk.Accept(chat.DialogID, a.cfg.Name) != nil {
		a.mu.Lock()
		delete(a.accepted, chat.DialogID) // somebody was faster, or it is over
		a.mu.Unlock()
		return
	}
	written := 0
	last := ""
	for _, m := range chat.Messages {
		if m.SenderType == world.Customer {
			written, last = m.Index, m.Text
		}
	}
	a.mu.Lock()
	a.mine[chat.DialogID] = written
	a.mu.Unlock()
	a.say(chat.DialogID, greeting(chat, a.cfg.Name, last))
	a.poke()
}

func greeting(chat world.Chat, agent, last string) string {
	name := strings.TrimSpace(chat.Customer.DisplayName)
	if name == "" {
		name = "there"
	}
	text := fmt.Sprintf("Hello %s, this is %s.", name, agent)
	if page := chat.SessionParameters["page"]; page != "" {
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

func (a *Agent) say(dialog, text string) {
	_ = a.desk.Say(dialog, world.AgentMessage{Body: world.Body{ElementType: "text", ElementText: &world.Text{Text: text, TextFormat: "PLAINTEXT"}}}) // the chat may have ended meanwhile
}

// reply answers a customer's message by its words.
func (a *Agent) reply(chat world.Chat, text string) {
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
		a.say(chat.DialogID, "You are welcome. Have a good day!")
		if has("bye") {
			_ = a.desk.End(chat.DialogID) // it may have ended meanwhile
		}
	case has("option", "carousel", "show me", "product"):
		_ = a.desk.Say(chat.DialogID, Options()) // as above
	case has("hour", "open"):
		a.say(chat.DialogID, "We are open Monday to Saturday, 9 to 18 o'clock.")
	case has("price", "cost", "how much"):
		a.say(chat.DialogID, "Prices include delivery. Write \"options\" and I will show you what we have.")
	case has("colleague", "transfer", "someone else"):
		a.say(chat.DialogID, "I will ask a colleague to go on. Please stay in the chat.")
		_ = a.desk.Leave(chat.DialogID) // as above
	default:
		a.say(chat.DialogID, fmt.Sprintf("Thank you, I have noted \"%s\". Is there anything else that I should know?", shorten(text)))
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
