package delivery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/axpchat/connector/services/internal/kit/bus"
)

// When a pod starts again, or NATS comes back, thousands of subscriptions want
// to read the journal at the same moment. One by one that would take the server
// a millisecond and more for each; together it takes one question for a thousand
// sessions, and, for those that have missed something, one pass over the part of
// the journal that they have missed.

const (
	// scanWorth is how many messages of a pass cost as much as one read of a
	// single session: some 9 µs for a message against some 2 ms for a read.
	scanWorth = 200
	// scanLeast is the least number of subscriptions that a pass is made for.
	scanLeast = 32
	// scanTimeout bounds a pass; who has not been served by then reads alone.
	scanTimeout = 20 * time.Second
	scanPull    = 512
)

// crowd are the subscriptions that wait for a common look at the journal.
// Guarded by the engine's mutex.
type crowd struct {
	waiting []*arrival
	working bool
}

// arrival is one of them.
type arrival struct {
	sub     *Subscription
	nothing bool          // there is nothing new for it
	looked  chan struct{} // closed when the look is over
}

// gather is called before a subscription reads the journal. Where reads can
// begin at once it returns false: the subscription shall read. Else it waits for
// the next common look and tells whether that has found nothing new.
func (e *Engine) gather(s *Subscription) (nothing bool) {
	if len(e.turns) < cap(e.turns) {
		return false
	}
	a := &arrival{sub: s, looked: make(chan struct{})}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return false
	}
	e.crowd.waiting = append(e.crowd.waiting, a)
	if !e.crowd.working {
		e.crowd.working = true
		e.work.Go(e.serveCrowd)
	}
	e.mu.Unlock()
	select {
	case <-a.looked:
		return a.nothing
	case <-s.ctx.Done():
		return false
	}
}

// serveCrowd looks for everybody who waits, again and again until nobody does.
// While one look is under way the next ones gather.
func (e *Engine) serveCrowd() {
	for {
		e.mu.Lock()
		all := e.crowd.waiting
		e.crowd.waiting = nil
		if len(all) == 0 {
			e.crowd.working = false
			e.mu.Unlock()
			return
		}
		e.mu.Unlock()
		e.look(all)
	}
}

// look asks for the newest events of all sessions at once, and reads what is
// worth reading in one pass. What goes wrong is left to each one's own reading.
func (e *Engine) look(all []*arrival) {
	defer func() {
		_ = e.panics.Note(e.ctx, "common look", recover())
		for _, a := range all {
			close(a.looked)
		}
	}()
	ctx, cancel := context.WithTimeout(e.ctx, readTimeout)
	defer cancel()
	select {
	case e.turns <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-e.turns }()
	keys := map[bus.SessionKey]struct{}{}
	var since uint64
	for _, a := range all {
		keys[a.sub.key] = struct{}{}
		if at := a.sub.position() + 1; since == 0 || at < since {
			since = at
		}
	}
	newest, err := e.bus.LastSequences(ctx, slices.Collect(maps.Keys(keys)), since)
	if err != nil {
		e.log.WarnContext(ctx, "the journal's tail can't be compared", "sessions", len(keys), "error", err)
		return
	}
	var behind []reading
	for _, a := range all {
		at := a.sub.position()
		if newest[a.sub.key] <= at {
			a.nothing = true
			continue
		}
		behind = append(behind, reading{sub: a.sub, at: at, last: newest[a.sub.key]})
	}
	e.metrics.looked(ctx, len(all), len(behind))
	if part := worthScanning(behind); len(part) > 0 {
		if err := e.scan(part); err != nil && e.ctx.Err() == nil {
			e.log.WarnContext(ctx, "a pass over the journal ended early", "subscriptions", len(part), "error", err)
		}
	}
}

// reading is a subscription that a pass serves.
type reading struct {
	sub  *Subscription
	at   uint64 // everything up to here it has
	last uint64 // what it shall have in the end
}

// worthScanning chooses the subscriptions for which one pass is cheaper than
// reads of their own: those nearest to the journal's end.
func worthScanning(behind []reading) []reading {
	slices.SortFunc(behind, func(a, b reading) int {
		switch {
		case a.at > b.at:
			return -1
		case a.at < b.at:
			return 1
		default:
			return 0
		}
	})
	var last uint64
	for _, r := range behind {
		last = max(last, r.last)
	}
	best := 0
	for i, r := range behind {
		if n := i + 1; n >= scanLeast && last-r.at <= scanWorth*uint64(n) {
			best = n
		}
	}
	return behind[:best]
}

// scan reads the journal once for all of them. A subscription whose queue is
// full is left out from then on: it reads the rest alone, at its client's pace.
func (e *Engine) scan(part []reading) error {
	ctx, cancel := context.WithTimeout(e.ctx, scanTimeout)
	defer cancel()
	first, last := part[len(part)-1].at+1, uint64(0)
	consumer, err := e.bus.JS.OrderedConsumer(ctx, bus.EventsStream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: first, InactiveThreshold: scanTimeout,
	})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	info, err := e.bus.JournalSince(ctx, time.Now())
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	bySubject := make(map[string][]*Subscription, len(part))
	for _, r := range part {
		if !r.sub.holds(info, r.at) {
			continue // it reads alone, and finds out
		}
		last = max(last, r.last)
		subject := bus.EventSubject(r.sub.key.Account, r.sub.key.Session)
		bySubject[subject] = append(bySubject[subject], r.sub)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(scanPull))
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	defer messages.Stop()
	for at := max(first, info.First) - 1; at < last; {
		msg, err := messages.Next()
		if err != nil {
			return errors.Join(err, ctx.Err())
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		if err := e.contiguous(ctx, at, meta.Sequence.Stream); err != nil {
			return err
		}
		at = meta.Sequence.Stream
		if subs := bySubject[msg.Subject()]; len(subs) > 0 {
			bySubject[msg.Subject()] = e.serve(subs, msg, meta.Sequence.Stream)
		}
		if meta.NumPending == 0 {
			return nil
		}
	}
	return nil
}

// contiguous fails with errDropped where the journal may have dropped what was
// between an event and the next one of a pass. What was erased is missing as well.
func (e *Engine) contiguous(ctx context.Context, at, next uint64) error {
	if next == at+1 {
		return nil
	}
	info, err := e.bus.JournalSince(ctx, time.Now())
	if err == nil && info.First > at+1 {
		err = errDropped
	}
	return err
}

// serve hands one message of a pass to the session's subscriptions and returns
// those that had room for it.
func (e *Engine) serve(subs []*Subscription, msg jetstream.Msg, seq uint64) []*Subscription {
	it := e.item(bus.Stored(seq, msg.Data()), subs[0].start.epoch, subs[0].key)
	e.metrics.caughtUp(e.ctx, 1)
	return slices.DeleteFunc(subs, func(s *Subscription) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.ended || !s.queue.fits(it.bytes) {
			return true
		}
		s.splice.advance(it)
		return false
	})
}
