package natsrights

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

func orchestratorSteps() []step {
	own := func(w *world) *bus.Bus { return w.orchestrator }
	steps := append(reads(own),
		step{"write an event and project it", func(ctx context.Context, w *world) error {
			if err := publish(ctx, w.orchestrator, fresh("s")); err != nil {
				return err
			}
			return work(ctx, w, bus.EventsStream, bus.ProjectorConsumer)
		}},
		step{"work a partition of the outbox", workOutbox},
		step{"count, look at and remove what is in the outbox", func(ctx context.Context, w *world) error {
			session := fresh("s")
			ack, err := w.orchestrator.PublishOutbox(ctx, &busv1.OutboxEntry{Account: account, SessionId: session}, fresh("m"))
			if err != nil {
				return err
			}
			partition := bus.Partition(session, w.orchestrator.Config().Partitions)
			if _, found, err := w.orchestrator.OldestOutbox(ctx, partition); err != nil || !found {
				return fmt.Errorf("oldest: found %t: %w", found, err)
			}
			if n, err := w.orchestrator.CountOutbox(ctx, bus.OutboxSubject(partition, w.orchestrator.Config().Partitions, account, session)); err != nil || n != 1 {
				return fmt.Errorf("count: %d: %w", n, err)
			}
			// The second finds nothing, and looks whether that is so.
			return errors.Join(w.orchestrator.RemoveOutbox(ctx, ack.Sequence), w.orchestrator.RemoveOutbox(ctx, ack.Sequence))
		}},
		step{"set a timer and work it", func(ctx context.Context, w *world) error {
			t := bus.Timer{Kind: "idle", Account: account, Session: fresh("s")}
			if err := w.orchestrator.SetTimer(ctx, t, time.Now().Add(time.Hour)); err != nil {
				return err
			}
			if has, err := w.orchestrator.HasTimer(ctx, t); err != nil || !has {
				return fmt.Errorf("has timer: %t: %w", has, err)
			}
			if err := w.orchestrator.SetTimer(ctx, t, time.Now()); err != nil {
				return err
			}
			return work(ctx, w, bus.TimersStream, bus.TimersConsumer)
		}},
		step{"announce a replica", func(ctx context.Context, w *world) error {
			_, err := w.orchestrator.JS.Publish(ctx, "$KV."+bus.IndexBucket+".replica.outbox."+fresh("r"), nil, jetstream.WithMsgTTL(time.Minute))
			if err != nil {
				return err
			}
			keys, err := w.orchestrator.Index.Keys(ctx, "replica.outbox")
			if err == nil && len(keys) == 0 {
				err = errors.New("no replica is there")
			}
			return err
		}},
		step{"tell and hear which secrets replicas have", func(ctx context.Context, w *world) error { return secrets(ctx, w, w.orchestrator) }},
		step{"be woken when an engagement changes", func(ctx context.Context, w *world) error {
			return received(ctx, w.orchestrator, func(ch chan *nats.Msg) (*nats.Subscription, error) {
				return w.orchestrator.NC.ChanSubscribe(w.orchestrator.Engagements.ChangesSubject(), ch)
			}, func() error {
				_, err := w.orchestrator.Engagements.Create(ctx, bus.EngagementKey(account, fresh("s"), "e"), &busv1.EngagementRecord{})
				return err
			})
		}},
		step{"hear what is stored", func(ctx context.Context, w *world) error {
			return received(ctx, w.orchestrator, w.orchestrator.SubscribeAllLive, func() error { return publish(ctx, w.ingest, fresh("s")) })
		}},
		step{"ask whether a client is there", present},
	)
	return append(append(steps, erasing()...), keeping()...)
}

// keeping: the buckets as a whole. It takes longest and so comes last: taking a
// right away shows before it, mostly.
func keeping() []step {
	return []step{
		{"sessions", func(ctx context.Context, w *world) error {
			return keep(ctx, w.orchestrator.Sessions, bus.SessionKeyOf(account, fresh("s")), &busv1.SessionRecord{Subject: long})
		}},
		{"engagements", func(ctx context.Context, w *world) error {
			return keep(ctx, w.orchestrator.Engagements, bus.EngagementKey(account, fresh("s"), "e"), &busv1.EngagementRecord{Account: long})
		}},
		{"the index", func(ctx context.Context, w *world) error {
			return keep(ctx, w.orchestrator.Index, bus.IndexDialog(account, fresh("d")), &busv1.IndexRecord{SessionId: long})
		}},
	}
}

// erasing: whatever is kept of a session can be erased.
func erasing() []step {
	steps := []step{
		{"know what was erased", func(ctx context.Context, w *world) error { return w.orchestrator.FollowErased(ctx) }},
		{"erase keys", func(ctx context.Context, w *world) error {
			session, key := bus.SessionKeyOf(account, fresh("s")), fresh("k")
			_, err := w.orchestrator.Sessions.Create(ctx, session, &busv1.SessionRecord{})
			for _, erase := range []func() (bool, error){
				func() (bool, error) { return w.orchestrator.Sessions.Erase(ctx, session) },
				func() (bool, error) {
					return w.orchestrator.Engagements.Erase(ctx, bus.EngagementKey(account, fresh("s"), "e"))
				},
				func() (bool, error) { return w.orchestrator.Index.Erase(ctx, bus.IndexDialog(account, key)) },
			} {
				_, eraseErr := erase()
				err = errors.Join(err, eraseErr)
			}
			return err
		}},
		{"find and erase tickets", func(ctx context.Context, w *world) error {
			for i := range 13 {
				if _, err := w.pod.Tickets.Create(ctx, fresh("t"), &busv1.TicketRecord{Subject: long}, time.Minute); err != nil {
					return fmt.Errorf("ticket %d: %w", i, err)
				}
			}
			var keys []string
			if err := w.orchestrator.Tickets.Scan(ctx, func(key string, _ *busv1.TicketRecord, _ time.Time) { keys = append(keys, key) }); err != nil {
				return err
			}
			for _, key := range keys {
				if found, err := w.orchestrator.Tickets.Erase(ctx, key); err != nil || !found {
					return fmt.Errorf("found %t: %w", found, err)
				}
			}
			return nil
		}},
		{"find and erase what was set aside", func(ctx context.Context, w *world) error {
			if _, err := w.ingest.PublishUnrouted(ctx, &busv1.UnroutedRecord{Account: account}, fresh("u")); err != nil {
				return err
			}
			var found uint64
			if err := w.orchestrator.ScanUnrouted(ctx, account, 0, func(sequence uint64, _ *busv1.UnroutedRecord) error { found = sequence; return nil }); err != nil {
				return err
			}
			return w.orchestrator.EraseMessage(ctx, bus.UnroutedStream, found)
		}},
	}
	for stream, write := range map[string]func(ctx context.Context, w *world, session string) (filter string, err error){
		bus.EventsStream: func(ctx context.Context, w *world, session string) (string, error) {
			return bus.EventSubject(account, session), publish(ctx, w.orchestrator, session)
		},
		bus.OutboxStream: func(ctx context.Context, w *world, session string) (string, error) {
			_, err := w.orchestrator.PublishOutbox(ctx, &busv1.OutboxEntry{Account: account, SessionId: session}, fresh("m"))
			return bus.OutboxOf(account, session), err
		},
		bus.AsideStream: func(ctx context.Context, w *world, session string) (string, error) {
			return bus.AsideOf(account, session), setAside(ctx, w, session)
		},
		bus.TimersStream: func(ctx context.Context, w *world, session string) (string, error) {
			t := bus.Timer{Kind: "idle", Account: account, Session: session}
			return bus.TimersOf(account, session), w.orchestrator.SetTimer(ctx, t, time.Now().Add(time.Hour))
		},
	} {
		steps = append(steps, step{"erase a session from " + stream, func(ctx context.Context, w *world) error {
			filter, err := write(ctx, w, fresh("s"))
			if err != nil {
				return err
			}
			if n, err := w.orchestrator.EraseSubject(ctx, stream, filter); err != nil || n != 1 {
				return fmt.Errorf("erased %d: %w", n, err)
			}
			_, err = w.orchestrator.CountSubject(ctx, stream, filter)
			return err
		}})
	}
	return steps
}

// setAside sets an event of a session aside, and finds it.
func setAside(ctx context.Context, w *world, session string) error {
	if err := publish(ctx, w.orchestrator, session); err != nil {
		return err
	}
	c, err := w.orchestrator.JS.Consumer(ctx, bus.EventsStream, bus.ProjectorConsumer)
	if err != nil {
		return err
	}
	for {
		m, err := c.Next(jetstream.FetchContext(ctx))
		if err != nil {
			return err
		}
		if m.Subject() == bus.EventSubject(account, session) {
			err = w.orchestrator.SetAside(ctx, bus.EventsStream, m, "panic")
		}
		if err = errors.Join(err, m.DoubleAck(ctx)); err != nil {
			return err
		}
		if m.Subject() == bus.EventSubject(account, session) {
			break
		}
	}
	if _, _, found, err := w.orchestrator.NextAside(ctx, 1); err != nil || !found {
		return fmt.Errorf("found %t: %w", found, err)
	}
	return nil
}

// long makes a list of some of these values need flow control.
var long = strings.Repeat("x", 256<<10)

// keep does with a bucket all that the orchestrator does.
func keep[T proto.Message](ctx context.Context, s *bus.Store[T], key string, v T) error {
	if _, _, err := s.Get(ctx, key); !errors.Is(err, bus.ErrNotFound) {
		return missing(err)
	}
	rev, err := s.Create(ctx, key, v)
	if err != nil {
		return err
	}
	if _, _, err := s.Get(ctx, key); err != nil {
		return err
	}
	if rev, err = s.Update(ctx, key, v, rev); err != nil {
		return err
	}
	for i := range 12 {
		if _, err := s.Create(ctx, key+fmt.Sprint("-", i), v); err != nil {
			return err
		}
	}
	n := 0
	if err := s.All(ctx, func(T) { n++ }); err != nil || n < 13 {
		return fmt.Errorf("list: %d: %w", n, err)
	}
	if _, err := s.Keys(ctx, key[:strings.LastIndex(key, ".")]); err != nil {
		return err
	}
	return s.Delete(ctx, key, rev)
}

// work takes a message from a durable consumer and acknowledges it.
func work(ctx context.Context, w *world, stream, name string, opts ...jetstream.FetchOpt) error {
	c, err := w.orchestrator.JS.Consumer(ctx, stream, name)
	if err != nil {
		return err
	}
	m, err := c.Next(append(opts, jetstream.FetchContext(ctx))...)
	if err != nil {
		return err
	}
	if err := m.InProgress(); err != nil {
		return err
	}
	return m.DoubleAck(ctx)
}

func workOutbox(ctx context.Context, w *world) error {
	b, session := w.orchestrator, fresh("s")
	if _, err := b.PublishOutbox(ctx, &busv1.OutboxEntry{Account: account, SessionId: session}, fresh("m")); err != nil {
		return err
	}
	name := bus.OutboxConsumer(bus.Partition(session, b.Config().Partitions), b.Config().Partitions)
	if _, err := b.JS.ResetConsumer(ctx, bus.OutboxStream, name); err != nil {
		return err
	}
	if err := work(ctx, w, bus.OutboxStream, name, jetstream.FetchPriorityGroup(bus.OutboxGroup)); err != nil {
		return err
	}
	s, err := b.JS.Stream(ctx, bus.OutboxStream)
	if err != nil {
		return err
	}
	return s.UnpinConsumer(ctx, name, bus.OutboxGroup)
}
