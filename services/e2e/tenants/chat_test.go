package tenants

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc/metadata"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// chat is one customer's chat with an agent of its tenant, over one stream that
// is never opened again: what ends it, or comes twice or in another order, is a
// fault.
type chat struct {
	d          *deployment
	te         *tenant
	name       string
	token      string
	session    *axpchatv1.Session
	engagement string
	dialog     string

	mu      sync.Mutex
	events  []*axpchatv1.Event
	problem error
	changed chan struct{}
}

func (c *chat) auth(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
}

// logIn opens a session and follows it until the test ends. Customers of all
// tenants have the same subjects.
func logIn(ctx context.Context, t *testing.T, d *deployment, te *tenant, subject string) (*chat, error) {
	c := &chat{d: d, te: te, name: subject + " of " + te.account, changed: make(chan struct{})}
	var err error
	if c.token, err = suitetest.Token(ctx, te.axp, c.name, subject); err != nil {
		return nil, err
	}
	created, err := d.api.CreateSession(c.auth(ctx), &axpchatv1.CreateSessionRequest{})
	if err != nil {
		return nil, err
	}
	c.session = created.GetSession()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stream, err := d.api.Connect(c.auth(life))
	if err != nil {
		end()
		return nil, err
	}
	hello := &axpchatv1.Hello{SessionId: c.session.GetSessionId()}
	if err := stream.Send(&axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Hello{Hello: hello}}); err != nil {
		end()
		return nil, err
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			f, err := stream.Recv()
			if err != nil {
				c.note(nil, err)
				return
			}
			if f.GetClose() != nil {
				c.note(nil, fmt.Errorf("the stream was closed: %v", f.GetClose()))
			}
			c.note(f.GetEvent(), nil)
		}
	})
	t.Cleanup(func() { end(); group.Wait() })
	return c, nil
}

// note takes in an event, or why there are no more.
func (c *chat) note(e *axpchatv1.Event, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.events); e != nil && n > 0 && e.GetSequence() <= c.events[n-1].GetSequence() {
		err = fmt.Errorf("event %d came after %d", e.GetSequence(), c.events[n-1].GetSequence())
	}
	if e != nil {
		c.events = append(c.events, e)
	}
	if c.problem == nil {
		c.problem = err
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// start starts a chat and has an agent take it.
func (c *chat) start(ctx context.Context) error {
	made, err := c.d.api.CreateEngagement(c.auth(ctx), &axpchatv1.CreateEngagementRequest{SessionId: c.session.GetSessionId()})
	if err != nil {
		return err
	}
	c.engagement = made.GetEngagement().GetEngagementId()
	waiting, err := c.te.desk.Find(ctx, c.name, func(d suitetest.DeskChat) bool { return d.Waiting && d.Status == "ACTIVE" })
	if err != nil {
		return err
	}
	c.dialog = waiting.DialogID
	if err := c.te.desk.Accept(ctx, c.dialog); err != nil {
		return err
	}
	return c.until(ctx, "the chat to be active", func(e *axpchatv1.Event) bool { return e.GetEngagementActive() != nil })
}

// say sends a message; it is accepted when it returns.
func (c *chat) say(ctx context.Context, text string) (id string, err error) {
	sent, err := c.d.api.SendMessage(c.auth(ctx), &axpchatv1.SendMessageRequest{
		SessionId: c.session.GetSessionId(), EngagementId: c.engagement, ClientMessageId: text, Text: text,
	})
	return sent.GetMessage().GetMessageId(), err
}

// delivered waits until AXP has shown a message.
func (c *chat) delivered(ctx context.Context, id string) error {
	return c.until(ctx, "message "+id+" to be delivered", func(e *axpchatv1.Event) bool { return e.GetMessageDelivered().GetMessageId() == id })
}

// heard waits for a text of the agent's.
func (c *chat) heard(ctx context.Context, text string) error {
	return c.until(ctx, "the agent's "+text, func(e *axpchatv1.Event) bool { return textOf(e) == text })
}

func textOf(e *axpchatv1.Event) string {
	return e.GetMessageArrived().GetBody().GetElementText().GetText()
}

// until waits for an event.
func (c *chat) until(ctx context.Context, what string, is func(*axpchatv1.Event) bool) error {
	for {
		c.mu.Lock()
		changed, problem := c.changed, c.problem
		there := slices.ContainsFunc(c.events, is)
		c.mu.Unlock()
		if there {
			return problem
		}
		if problem != nil {
			return fmt.Errorf("%s: waiting for %s: %w", c.name, what, problem)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: waiting for %s: %w", c.name, what, ctx.Err())
		}
	}
}

// agentTexts are what the agent said, in the order of the stream.
func (c *chat) agentTexts() (texts []string, problem error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if text := textOf(e); text != "" {
			texts = append(texts, text)
		}
	}
	return texts, c.problem
}

var errCrossed = errors.New("something crossed between tenants")

// tell tells a whole chat: messages both ways, its end, and that nothing in it is
// another tenant's.
func (c *chat) tell(ctx context.Context, messages int) error {
	if err := c.start(ctx); err != nil {
		return err
	}
	for i := range messages {
		id, err := c.say(ctx, fmt.Sprintf("%s writes %d", c.name, i))
		if err != nil {
			return err
		}
		if err := c.delivered(ctx, id); err != nil {
			return err
		}
		answer := fmt.Sprintf("answer %d to %s", i, c.name)
		if err := c.te.desk.Say(ctx, c.dialog, answer); err != nil {
			return err
		}
		if err := c.heard(ctx, answer); err != nil {
			return err
		}
	}
	at, err := c.te.desk.Find(ctx, c.name, func(suitetest.DeskChat) bool { return true })
	if err != nil {
		return err
	}
	if got := len(at.CustomerTexts()); got != messages {
		return fmt.Errorf("%w: the desk shows %d messages of %s, want %d", errCrossed, got, c.name, messages)
	}
	if texts, problem := c.agentTexts(); problem != nil || len(texts) != messages {
		return fmt.Errorf("%w: %s heard %q, %w", errCrossed, c.name, texts, problem)
	}
	if _, err := c.d.api.EndEngagement(c.auth(ctx), &axpchatv1.EndEngagementRequest{SessionId: c.session.GetSessionId(), EngagementId: c.engagement}); err != nil {
		return err
	}
	return c.until(ctx, "the end", func(e *axpchatv1.Event) bool { return e.GetEngagementTerminated() != nil })
}
