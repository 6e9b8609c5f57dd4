package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

// A session that has joined an engagement of another one follows two journals as
// one. Live copies and direct gets can't do that: a copy that is lost on one
// subject shows only after later events of the other one have been handed on,
// and order is the promise. An ordered consumer gives both subjects in the order
// of the stream. It costs the server some 50 KiB, which is why only these rare
// subscriptions have one.

const (
	mergedBatch     = 64
	mergedHeartbeat = 5 * time.Second
	mergedExpiry    = 15 * time.Second
)

// attachMerged begins a subscription that follows several journals.
func (e *Engine) attachMerged(ctx context.Context, r Request, at cursor, reset *axpchatv1.Reset) (*Subscription, error) {
	engagements := make(map[bus.SessionKey]map[string]bool, len(r.Joined))
	for _, j := range r.Joined {
		if engagements[j.Session] == nil {
			engagements[j.Session] = map[string]bool{}
		}
		engagements[j.Session][j.Engagement] = true
	}
	delete(engagements, r.Session)
	s := newSubscription(e, r, at, reset)
	if !e.spawn(func() { s.followMerged(engagements) }) {
		s.cancel()
		return nil, unavailable(errClosed)
	}
	e.mu.Lock()
	e.merged[s] = struct{}{}
	e.mu.Unlock()
	e.metrics.attached(ctx, 1)
	return s, nil
}

func (e *Engine) leaveMerged(s *Subscription) {
	e.mu.Lock()
	delete(e.merged, s)
	e.mu.Unlock()
	e.metrics.attached(s.ctx, -1)
}

// followMerged reads until the subscription ends. What fails is begun again
// after the last event that was handed on.
func (s *Subscription) followMerged(engagements map[bus.SessionKey]map[string]bool) {
	defer func() { s.broken(recover()) }()
	progress, pause := time.Now(), firstPause
	for s.ctx.Err() == nil {
		before := s.position()
		err := s.consume(engagements, func() { progress, pause = time.Now(), firstPause })
		switch {
		case s.ctx.Err() != nil:
			return
		case errors.Is(err, errDropped):
			s.finish(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE) // its cursor is judged when it comes back
			return
		case s.position() > before:
			progress, pause = time.Now(), firstPause
		case time.Since(progress) > s.engine.cfg.GiveUp:
			s.engine.log.WarnContext(s.ctx, "journals can't be read on, client is sent away", "error", err)
			s.finish(axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE)
			return
		}
		if !wait(s.ctx, pause) {
			return
		}
		pause = min(2*pause, longestPause)
	}
}

// consume hands on events in the order of the stream until something fails.
// alive is called whenever the server shows that nothing is wrong.
func (s *Subscription) consume(engagements map[bus.SessionKey]map[string]bool, alive func()) error {
	subjects := []string{bus.EventSubject(s.key.Account, s.key.Session)}
	for key := range engagements {
		subjects = append(subjects, bus.EventSubject(key.Account, key.Session))
	}
	from := s.position()
	consumer, err := s.engine.bus.JS.OrderedConsumer(s.ctx, bus.EventsStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: subjects, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from + 1,
		InactiveThreshold: time.Minute,
	})
	if err != nil {
		return fmt.Errorf("follow journals: %w", err)
	}
	if err := s.followable(from); err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(mergedBatch), jetstream.PullHeartbeat(mergedHeartbeat), jetstream.PullExpiry(mergedExpiry))
	if err != nil {
		return fmt.Errorf("follow journals: %w", err)
	}
	stop := context.AfterFunc(s.ctx, messages.Stop)
	defer stop()
	defer messages.Stop()
	alive()
	if info := consumer.CachedInfo(); info != nil && info.NumPending == 0 {
		s.markCaughtUp()
	}
	for {
		msg, err := messages.Next()
		if err != nil {
			if errors.Is(err, jetstream.ErrMsgIteratorClosed) && s.ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("follow journals: %w", err)
		}
		alive()
		if err := s.handOn(msg, engagements); err != nil {
			return err
		}
	}
}

// followable fails with errDropped where the consumer that was made just now may have
// begun behind a hole.
func (s *Subscription) followable(from uint64) error {
	info, err := s.engine.bus.JournalSince(s.ctx, time.Now())
	if err == nil && !s.holds(info, from) {
		err = errDropped
	}
	return err
}

// handOn emits an event if it concerns the session. Of one that can't be read nobody
// knows whether it does; that there is one is told.
func (s *Subscription) handOn(msg jetstream.Msg, engagements map[bus.SessionKey]map[string]bool) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("follow journals: %w", err)
	}
	stored := bus.Stored(meta.Sequence.Stream, msg.Data())
	owner := bus.SessionKey{Account: stored.Record.GetAccount(), Session: stored.Record.GetEvent().GetSessionId()}
	if stored.Record == nil || owner == s.key || engagements[owner][stored.Record.GetEvent().GetEngagementId()] {
		it := s.engine.item(stored, s.start.epoch, s.key)
		if !s.room(it.bytes) {
			return nil
		}
		s.advance(it)
	}
	if meta.NumPending == 0 {
		s.markCaughtUp()
	}
	return nil
}
