package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/status"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// sendLimit is how long a client waits for one answer.
const sendLimit = 12 * time.Second

// outgoing is a message of a customer.
type outgoing struct {
	clientID string
	text     string
	id       string // the connector's, once accepted
	final    axpchatv1.MessageStatus
	counted  bool // in a row of the report
}

// told notes how far a message has come; mu is held.
func (c *client) told(id string, status axpchatv1.MessageStatus) {
	m := c.byID[id]
	if m == nil {
		// The event has overtaken the answer to the call.
		m = &outgoing{id: id}
		c.byID[id] = m
	}
	switch status {
	case axpchatv1.MessageStatus_MESSAGE_STATUS_SENT, axpchatv1.MessageStatus_MESSAGE_STATUS_DELIVERED,
		axpchatv1.MessageStatus_MESSAGE_STATUS_READ, axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED:
		m.final = max(m.final, status)
	}
}

// talk writes messages, one after the other, while the gate is open: every so
// often on average, until ctx ends.
func (c *client) talk(ctx context.Context, g *gate, every time.Duration, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, uint64(c.id)<<8|1)) //nolint:gosec // to be repeatable
	for n := 0; ; n++ {
		pause(ctx, time.Duration((0.2+1.6*rng.Float64())*float64(every)))
		if !g.enter(ctx) {
			return
		}
		c.mu.Lock()
		c.saying = fmt.Sprintf("c%d-%d", c.id, n)
		c.mu.Unlock()
		c.say(ctx, fmt.Sprintf("c%d-%d", c.id, n))
		g.leave()
	}
}

// say sends one message until it is accepted, as an app with an outbox of its
// own does: what it has no answer to it sends again under the same id.
func (c *client) say(ctx context.Context, id string) {
	m := &outgoing{clientID: id, text: "words of " + id}
	began := time.Now()
	req := &axpchatv1.SendMessageRequest{SessionId: c.session, EngagementId: c.chat, ClientMessageId: id, Text: m.text}
	for ctx.Err() == nil {
		a, ok := c.way(ctx)
		if !ok {
			return
		}
		sendCtx, cancel := context.WithTimeout(ctx, sendLimit)
		stop := context.AfterFunc(ctx, cancel)
		got, err := a.send(sendCtx, req)
		stop()
		cancel()
		if err == nil {
			c.accepted(m, got.GetMessageId(), time.Since(began))
			return
		}
		c.refused(err)
		pause(ctx, 300*time.Millisecond)
	}
}

// way waits for an attachment that can send.
func (c *client) way(ctx context.Context) (*attachment, bool) {
	for {
		c.mu.Lock()
		a, changed := c.attached, c.changed
		ready := a != nil && a.send != nil
		c.mu.Unlock()
		if ready {
			return a, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false
		}
	}
}

func (c *client) accepted(m *outgoing, id string, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.id = id
	if early := c.byID[id]; early != nil {
		m.final = early.final
	}
	c.byID[id] = m
	c.sent, c.saying = append(c.sent, m), ""
	c.tally.Accept = max(c.tally.Accept, took)
}

// refused notes an answer that tells the client not to try again: a right
// request must never get one.
func (c *client) refused(err error) {
	var reason axpchatv1.ErrorReason
	var told *problem
	var http *suitetest.StatusError
	switch {
	case errors.As(err, &told):
		reason = told.reason
	case errors.As(err, &http):
		reason = reasonOf([]byte(http.Body))
	default:
		if _, ok := status.FromError(err); !ok {
			return // the connection, not the connector
		}
		reason = errs.From(err).Reason
	}
	if reason == axpchatv1.ErrorReason_ERROR_REASON_UNSPECIFIED || errs.Retryable(reason) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals["send: "+errs.Name(reason)]++
}

// problem is a failure told in a frame.
type problem struct{ reason axpchatv1.ErrorReason }

// Error implements error.
func (p *problem) Error() string { return errs.Name(p.reason) }
