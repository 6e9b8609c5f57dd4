package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

const (
	// arrivals is how many customers log in at the same time.
	arrivals = 16
	// desks is how many agents talk at the same time; each has many chats.
	desks = 4
)

// gather logs every customer in and starts a chat with an agent in it.
func (r *run) gather(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(arrivals)
	for i := range r.o.Clients {
		c := newClient(i, r.stage, r.o.Seed)
		r.clients = append(r.clients, c)
		group.Go(func() error { return c.arrive(groupCtx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	byName := map[string]*client{}
	for _, c := range r.clients {
		byName[c.name] = c
		r.group.Go(func() { c.follow(r.life) })
	}
	waitCtx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return suitetest.Await(waitCtx, "agents in all chats", func(ctx context.Context) (bool, error) {
		chats, err := r.desk.Chats(ctx)
		if err != nil {
			return false, err
		}
		there := 0
		for _, chat := range chats {
			c := byName[chat.Customer.DisplayName]
			switch {
			case c == nil || chat.Status != "ACTIVE":
			case chat.Waiting:
				if err := r.desk.Accept(ctx, chat.DialogID); err != nil {
					return false, err
				}
			default:
				c.dialog = chat.DialogID
				there++
			}
		}
		return there == len(r.clients), nil
	})
}

// arrive opens the session and the chat.
func (c *client) arrive(ctx context.Context) error {
	var err error
	if c.token, err = suitetest.Token(ctx, c.stage.sandboxURL, c.name, fmt.Sprintf("customer-%d", c.id)); err != nil {
		return err
	}
	session := &axpchatv1.CreateSessionResponse{}
	err = c.insist(ctx, "/v1/sessions", func() error {
		return c.rest(ctx, http.MethodPost, c.base(c.pod)+"/v1/sessions", &axpchatv1.CreateSessionRequest{RequestId: fmt.Sprintf("session-%d", c.id)}, session)
	})
	if err != nil {
		return err
	}
	c.session = session.GetSession().GetSessionId()
	chat := &axpchatv1.CreateEngagementResponse{}
	err = c.insist(ctx, "/engagements", func() error {
		return c.rest(ctx, http.MethodPost, c.base(c.pod)+"/v1/sessions/"+c.session+"/engagements",
			&axpchatv1.CreateEngagementRequest{RequestId: fmt.Sprintf("chat-%d", c.id)}, chat)
	})
	c.chat = chat.GetEngagement().GetEngagementId()
	return err
}

// insist repeats a call, which is safe to repeat, for half a minute.
func (c *client) insist(ctx context.Context, what string, call func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var last error
	err := suitetest.Await(ctx, what, func(context.Context) (bool, error) {
		if last = call(); last != nil {
			pause(ctx, 300*time.Millisecond)
		}
		return last == nil, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("%s: %w", c.name, last)
	}
	return err
}

// serve lets an agent talk in a share of the chats until ctx ends.
func (r *run) serve(ctx context.Context, share int) {
	rng := rand.New(rand.NewPCG(r.o.Seed, 1<<40+uint64(share))) //nolint:gosec // to be repeatable
	every := r.o.Every * desks / time.Duration(len(r.clients))
	for n := 0; ; n++ {
		pause(ctx, time.Duration((0.2+1.6*rng.Float64())*float64(every)))
		if !r.gate.enter(ctx) {
			return
		}
		c := r.clients[rng.IntN(len(r.clients))]
		if err := r.desk.Say(ctx, c.dialog, fmt.Sprintf("a%d-%d to %s", share, n, c.name)); err != nil && ctx.Err() == nil {
			r.complain("an agent can't talk: %v", err)
		}
		r.gate.leave()
	}
}

// talkers starts everybody's talking; the gate says when.
func (r *run) talkers() {
	for _, c := range r.clients {
		r.group.Go(func() { c.talk(r.life, r.gate, r.o.Every, r.o.Seed) })
	}
	for i := range desks {
		r.group.Go(func() { r.serve(r.life, i) })
	}
}
