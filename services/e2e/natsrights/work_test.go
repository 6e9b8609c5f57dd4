package natsrights

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

// world are the services, connected, another pod of the gateway, and an operator.
// The options of the provisioner's connection are kept for its next one.
type world struct {
	orchestrator, gateway, pod, ingest, operator *bus.Bus
	provisioner                                  []nats.Option
}

// close ends all connections: a server that leaves waits for its clients.
func (w *world) close() {
	for _, b := range []*bus.Bus{w.orchestrator, w.gateway, w.pod, w.ingest, w.operator} {
		_ = b.Close() // the test's end does it again
	}
}

// step is something that a service does, by the bus's own ways.
type step struct {
	name string
	do   func(ctx context.Context, w *world) error
}

// serial makes ids that no step has used.
var serial atomic.Int64

func fresh(prefix string) string { return fmt.Sprint(prefix, serial.Add(1)) }

func event(session string) *busv1.EventRecord {
	return &busv1.EventRecord{Account: account, Event: &axpchatv1.Event{
		EventId: fresh("e"), SessionId: session,
		Payload: &axpchatv1.Event_MessageArrived{MessageArrived: &axpchatv1.Message{MessageId: "m"}},
	}}
}

func publish(ctx context.Context, b *bus.Bus, session string) error {
	_, err := b.PublishEvent(ctx, event(session))
	return err
}

// received waits for a message of a subscription that cause brings about.
func received(ctx context.Context, b *bus.Bus, subscribe func(chan *nats.Msg) (*nats.Subscription, error), cause func() error) error {
	ch := make(chan *nats.Msg, 8)
	sub, err := subscribe(ch)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := b.NC.FlushWithContext(ctx); err != nil {
		return err
	}
	if err := cause(); err != nil {
		return err
	}
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// missing expects that there is no such key, which the leader alone may say.
func missing(err error) error {
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("want that there is no such key: %w", err)
}

// reads are what the gateway and the orchestrator both read of the journal.
func reads(of func(*world) *bus.Bus) []step {
	return []step{
		{"state of the journal", func(ctx context.Context, w *world) error { _, err := of(w).Journal(ctx); return err }},
		{"read a session's events", func(ctx context.Context, w *world) error {
			session := fresh("s")
			if err := publish(ctx, w.orchestrator, session); err != nil {
				return err
			}
			events, _, err := of(w).ReadEvents(ctx, account, session, 0, 10)
			if err == nil && len(events) != 1 {
				err = fmt.Errorf("%d events, want 1", len(events))
			}
			return err
		}},
		{"compare the newest events", func(ctx context.Context, w *world) error {
			_, err := of(w).LastSequences(ctx, []bus.SessionKey{{Account: account, Session: fresh("s")}}, 1)
			return err
		}},
	}
}

func gatewaySteps() []step {
	own := func(w *world) *bus.Bus { return w.gateway }
	return append(reads(own),
		step{"follow a session", func(ctx context.Context, w *world) error {
			session := fresh("s")
			return received(ctx, w.gateway, func(ch chan *nats.Msg) (*nats.Subscription, error) {
				return w.gateway.SubscribeLive(account, session, ch)
			},
				func() error { return publish(ctx, w.ingest, session) })
		}},
		step{"follow journals together", func(ctx context.Context, w *world) error {
			a, b := fresh("s"), fresh("s")
			return scan(ctx, w, jetstream.OrderedConsumerConfig{FilterSubjects: []string{bus.EventSubject(account, a), bus.EventSubject(account, b)}}, a)
		}},
		step{"pass over the journal", func(ctx context.Context, w *world) error {
			return scan(ctx, w, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: 1}, fresh("s"))
		}},
		step{"begin a pass anew", func(ctx context.Context, w *world) error {
			session := fresh("s")
			if err := errors.Join(publish(ctx, w.orchestrator, session), publish(ctx, w.orchestrator, session)); err != nil {
				return err
			}
			c, err := w.gateway.JS.OrderedConsumer(ctx, bus.EventsStream, jetstream.OrderedConsumerConfig{FilterSubjects: []string{bus.EventSubject(account, session)}})
			if err != nil {
				return err
			}
			for range 2 { // the second begins with another consumer, and deletes the first
				if _, err := c.Next(jetstream.FetchContext(ctx)); err != nil {
					return err
				}
			}
			return nil
		}},
		step{"read a session", func(ctx context.Context, w *world) error {
			key := bus.SessionKeyOf(account, fresh("s"))
			if _, err := w.orchestrator.Sessions.Create(ctx, key, &busv1.SessionRecord{}); err != nil {
				return err
			}
			_, _, err := w.gateway.Sessions.Get(ctx, key)
			return err
		}},
		step{"look for a session that is not there", func(ctx context.Context, w *world) error {
			_, _, err := w.gateway.Sessions.Get(ctx, bus.SessionKeyOf(account, fresh("s")))
			return missing(err)
		}},
		step{"be woken when a session changes", func(ctx context.Context, w *world) error {
			key := bus.SessionKeyOf(account, fresh("s"))
			subject := strings.TrimSuffix(w.gateway.Sessions.ChangesSubject(), ">") + key
			return received(ctx, w.gateway, func(ch chan *nats.Msg) (*nats.Subscription, error) { return w.gateway.NC.ChanSubscribe(subject, ch) },
				func() error { _, err := w.orchestrator.Sessions.Create(ctx, key, &busv1.SessionRecord{}); return err })
		}},
		step{"read an engagement", func(ctx context.Context, w *world) error {
			key := bus.EngagementKey(account, fresh("s"), "e")
			if _, err := w.orchestrator.Engagements.Create(ctx, key, &busv1.EngagementRecord{}); err != nil {
				return err
			}
			_, _, err := w.gateway.Engagements.Get(ctx, key)
			return err
		}},
		step{"look for an engagement that is not there", func(ctx context.Context, w *world) error {
			_, _, err := w.gateway.Engagements.Get(ctx, bus.EngagementKey(account, fresh("s"), "e"))
			return missing(err)
		}},
		step{"make and take a ticket", func(ctx context.Context, w *world) error {
			key := fresh("ticket")
			if _, err := w.gateway.Tickets.Create(ctx, key, &busv1.TicketRecord{Account: account}, time.Minute); err != nil {
				return err
			}
			_, rev, err := w.gateway.Tickets.Get(ctx, key)
			if err != nil {
				return err
			}
			if err := w.gateway.Tickets.Delete(ctx, key, rev); err != nil {
				return err
			}
			if err := w.gateway.Tickets.Delete(ctx, key, rev); !errors.Is(err, bus.ErrConflict) {
				return fmt.Errorf("a ticket is taken twice: %w", err)
			}
			return nil
		}},
		step{"look for a ticket that is not there", func(ctx context.Context, w *world) error {
			_, _, err := w.gateway.Tickets.Get(ctx, fresh("ticket"))
			return missing(err)
		}},
		step{"say that a client is there", present},
		step{"tell other pods what was taken of limits", func(ctx context.Context, w *world) error {
			return received(ctx, w.pod, func(ch chan *nats.Msg) (*nats.Subscription, error) { return w.pod.NC.ChanSubscribe("chat.usage.*", ch) },
				func() error { return w.gateway.NC.Publish("chat.usage."+fresh("pod"), nil) })
		}},
	)
}

// present asks for a client that one of two pods serves.
func present(ctx context.Context, w *world) error {
	session := fresh("s")
	stop, err := w.gateway.AnswerPresence(func(k bus.SessionKey) bool { return k.Session == session })
	if err != nil {
		return err
	}
	defer stop()
	other, err := w.pod.AnswerPresence(func(bus.SessionKey) bool { return false })
	if err != nil {
		return err
	}
	defer other()
	if err := errors.Join(w.gateway.NC.FlushWithContext(ctx), w.pod.NC.FlushWithContext(ctx)); err != nil {
		return err
	}
	here, err := w.orchestrator.Present(ctx, account, session)
	if err == nil && !here {
		err = errors.New("the client is not found")
	}
	return err
}

// scan reads by an ordered consumer until an event of the session has come.
func scan(ctx context.Context, w *world, cfg jetstream.OrderedConsumerConfig, session string) error {
	if err := publish(ctx, w.orchestrator, session); err != nil {
		return err
	}
	c, err := w.gateway.JS.OrderedConsumer(ctx, bus.EventsStream, cfg)
	if err != nil {
		return err
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(512))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	defer messages.Stop()
	for {
		m, err := messages.Next()
		if err != nil {
			return errors.Join(err, ctx.Err())
		}
		if m.Subject() == bus.EventSubject(account, session) {
			return nil
		}
	}
}

// secrets has a service report its secrets to the orchestrator.
func secrets(ctx context.Context, w *world, from *bus.Bus) error {
	id, heard := fresh("r"), make(chan struct{}, 1)
	stop, err := w.orchestrator.SubscribeSecrets(func(r *busv1.SecretReport) {
		if r.GetReplica() == id {
			heard <- struct{}{}
		}
	})
	if err != nil {
		return err
	}
	defer stop()
	if err := w.orchestrator.NC.FlushWithContext(ctx); err != nil {
		return err
	}
	if err := from.ReportSecrets(&busv1.SecretReport{Replica: id}); err != nil {
		return err
	}
	select {
	case <-heard:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func ingestSteps() []step {
	return []step{
		{"store a callback, once", func(ctx context.Context, w *world) error {
			e := event(fresh("s"))
			if _, err := w.ingest.PublishEvent(ctx, e); err != nil {
				return err
			}
			ack, err := w.ingest.PublishEvent(ctx, e)
			if err == nil && !ack.Duplicate {
				err = errors.New("stored twice")
			}
			return err
		}},
		{"set a callback aside", func(ctx context.Context, w *world) error {
			_, err := w.ingest.PublishUnrouted(ctx, &busv1.UnroutedRecord{Account: account}, fresh("u"))
			return err
		}},
		{"count what was set aside", func(ctx context.Context, w *world) error {
			s, err := w.ingest.JS.Stream(ctx, bus.UnroutedStream)
			if err == nil && s.CachedInfo().State.Msgs == 0 {
				err = errors.New("nothing was set aside")
			}
			return err
		}},
		{"tell which secrets it has", func(ctx context.Context, w *world) error { return secrets(ctx, w, w.ingest) }},
		{"look which secret is in force", func(ctx context.Context, w *world) error {
			if _, err := w.orchestrator.Secrets.Create(ctx, bus.SecretsKey, &busv1.SecretAgreement{Current: "a"}); err != nil && !errors.Is(err, bus.ErrExists) {
				return err
			}
			_, _, err := w.ingest.Secrets.Get(ctx, bus.SecretsKey)
			return err
		}},
		{"look whose a dialog is", func(ctx context.Context, w *world) error {
			key := bus.IndexDialog(account, fresh("d"))
			if _, err := w.orchestrator.Index.Create(ctx, key, &busv1.IndexRecord{}); err != nil {
				return err
			}
			_, _, err := w.ingest.Index.Get(ctx, key)
			return err
		}},
		{"look for a dialog that is nobody's", func(ctx context.Context, w *world) error {
			_, _, err := w.ingest.Index.Get(ctx, bus.IndexDialog(account, fresh("d")))
			return missing(err)
		}},
	}
}
