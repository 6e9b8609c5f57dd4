package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

// ErrErased is returned where something of an erased session would be stored.
var ErrErased = errors.New("bus: the session was erased")

const (
	erasedPrefix  = "erased."
	erasingPrefix = "erasing."
)

// ErasedKey is the key of a session's erasure in the bucket INDEX.
func ErasedKey(account, session string) string { return erasedPrefix + account + "." + session }

// ErasingKey is the key of an order to erase a customer.
func ErasingKey(account, subject string) string { return indexKey("erasing", account, subject) }

// ErasedSessions matches the keys of all erasures of sessions, and
// ErasingCustomers those of all orders to erase a customer.
const (
	ErasedSessions   = erasedPrefix + ">"
	ErasingCustomers = erasingPrefix + ">"
)

// erased knows which sessions were erased: the tombstones of some weeks, which
// are few.
type erased struct {
	mu       sync.Mutex
	sessions map[string]struct{} // by the tombstone's key
	watcher  jetstream.KeyWatcher
	cancel   context.CancelFunc
	done     chan struct{}
}

// FollowErased begins to keep what was erased from being stored again by this
// process: PublishEvent, PublishOutbox and SetTimer fail with ErrErased. It
// returns when the tombstones that are there are known; new ones follow within
// milliseconds. Calls after the first do nothing; Close ends it.
//
// It is for who may read all of the bucket INDEX.
func (b *Bus) FollowErased(ctx context.Context) error {
	b.erased.mu.Lock()
	defer b.erased.mu.Unlock()
	if b.erased.watcher != nil {
		return nil
	}
	kv, err := b.Erasures.open(ctx)
	if err != nil {
		return err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w, err := kv.Watch(life, ErasedSessions)
	if err != nil {
		cancel()
		return fmt.Errorf("follow erasures: %w", err)
	}
	known := map[string]struct{}{}
	for {
		select {
		case e := <-w.Updates():
			if e != nil {
				note(known, e)
				continue
			}
			b.erased.sessions, b.erased.watcher, b.erased.cancel, b.erased.done = known, w, cancel, make(chan struct{})
			go b.erased.follow(w, b.erased.done)
			return nil
		case <-ctx.Done():
			cancel()
			return errors.Join(fmt.Errorf("follow erasures: %w", ctx.Err()), w.Stop())
		}
	}
}

// follow ends with the watcher.
func (s *erased) follow(w jetstream.KeyWatcher, done chan<- struct{}) {
	defer close(done)
	for e := range w.Updates() {
		if e == nil {
			continue
		}
		s.mu.Lock()
		note(s.sessions, e)
		s.mu.Unlock()
	}
}

// note takes over a tombstone. One that can't be read counts: what was erased
// must not come back.
func note(sessions map[string]struct{}, e jetstream.KeyValueEntry) {
	if e.Operation() != jetstream.KeyValuePut {
		delete(sessions, e.Key())
		return
	}
	rec := &busv1.ErasureRecord{}
	if err := proto.Unmarshal(e.Value(), rec); err == nil && rec.GetState() == busv1.ErasureState_ERASURE_STATE_CLOSING {
		return // its end is still to be told
	}
	sessions[e.Key()] = struct{}{}
}

func (s *erased) close() {
	s.mu.Lock()
	w, cancel, done := s.watcher, s.cancel, s.done
	s.watcher = nil
	s.mu.Unlock()
	if w == nil {
		return
	}
	_ = w.Stop() // it fails only when the connection is gone
	cancel()
	<-done
}

// WasErased tells whether a session was erased, or is being erased, as far as
// this process has heard. It is always false before FollowErased.
func (b *Bus) WasErased(account, session string) bool {
	b.erased.mu.Lock()
	defer b.erased.mu.Unlock()
	_, ok := b.erased.sessions[ErasedKey(account, session)]
	return ok
}

// EraseSubject overwrites and removes all messages of a stream whose subjects
// match, and returns how many there were.
func (b *Bus) EraseSubject(ctx context.Context, stream, filter string) (int, error) {
	s, err := b.JS.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("erase from %s: %w", stream, err)
	}
	n := 0
	for at := uint64(0); ; n++ {
		m, err := s.GetMsg(ctx, at, jetstream.WithGetMsgSubject(filter))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return n, fmt.Errorf("erase from %s: %w", stream, err)
		}
		if err := overwrite(ctx, s, m.Sequence); err != nil {
			return n, fmt.Errorf("erase from %s: %w", stream, err)
		}
		at = m.Sequence + 1
	}
	// Whatever a replica that is behind did not show.
	if err := s.Purge(ctx, jetstream.WithPurgeSubject(filter)); err != nil {
		return n, fmt.Errorf("erase from %s: %w", stream, err)
	}
	return n, nil
}

// EraseMessage overwrites and removes one message of a stream; nil as well where
// it is gone already.
func (b *Bus) EraseMessage(ctx context.Context, stream string, sequence uint64) error {
	s, err := b.JS.Stream(ctx, stream)
	if err == nil {
		err = overwrite(ctx, s, sequence)
	}
	if err != nil {
		return fmt.Errorf("erase from %s: %w", stream, err)
	}
	return nil
}

// overwrite removes a message; its bytes on the disk are overwritten, too.
func overwrite(ctx context.Context, s jetstream.Stream, sequence uint64) error {
	err := s.SecureDeleteMsg(ctx, sequence)
	if err == nil {
		return nil
	}
	// What is not there can't be deleted, which is told in several ways.
	if _, look := s.GetMsg(ctx, sequence); errors.Is(look, jetstream.ErrMsgNotFound) {
		return nil
	}
	return err
}

// CountSubject is how many messages of a stream have subjects that match. The
// stream's leader answers.
func (b *Bus) CountSubject(ctx context.Context, stream, filter string) (int, error) {
	s, err := b.JS.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("count in %s: %w", stream, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return 0, fmt.Errorf("count in %s: %w", stream, err)
	}
	n := 0
	for _, of := range info.State.Subjects {
		n += int(of)
	}
	return n, nil
}

// Erase removes a key with its value; nothing of it can be read any more, and no
// mark is left either. It tells whether there was a value. Unlike messages, what a
// bucket has held is not overwritten on the disk at once: NATS does not allow that.
func (s *Store[T]) Erase(ctx context.Context, key string) (bool, error) {
	kv, err := s.open(ctx)
	if err != nil {
		return false, err
	}
	stream, err := s.js.Stream(ctx, "KV_"+s.bucket)
	if err != nil {
		return false, fmt.Errorf("erase from bucket %s: %w", s.bucket, err)
	}
	_, err = kv.Get(ctx, key)
	found := err == nil
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return false, fmt.Errorf("erase from bucket %s: %w", s.bucket, err)
	}
	if err := kv.Purge(ctx, key); err != nil { // wakes who waits for a change
		return false, fmt.Errorf("erase from bucket %s: %w", s.bucket, err)
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject("$KV."+s.bucket+"."+key)); err != nil {
		return false, fmt.Errorf("erase from bucket %s: %w", s.bucket, err)
	}
	return found, nil
}

// Traces lists the keys that match, with those that only the mark of a deletion is
// left of. The stream's leader answers.
func (s *Store[T]) Traces(ctx context.Context, filter string) ([]string, error) {
	stream, err := s.js.Stream(ctx, "KV_"+s.bucket)
	if err != nil {
		return nil, fmt.Errorf("list bucket %s: %w", s.bucket, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter("$KV."+s.bucket+"."+filter))
	if err != nil {
		return nil, fmt.Errorf("list bucket %s: %w", s.bucket, err)
	}
	keys := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		keys = append(keys, strings.TrimPrefix(subject, "$KV."+s.bucket+"."))
	}
	return keys, nil
}

// unroutedBatch keeps the answer to one question small: a body may have a MiB.
const unroutedBatch = 16

// ScanUnrouted calls f with every callback of an account that was set aside after
// a place in the stream UNROUTED.
func (b *Bus) ScanUnrouted(ctx context.Context, account string, after uint64, f func(sequence uint64, rec *busv1.UnroutedRecord) error) error {
	if !ValidToken(account) {
		return ErrInvalidToken
	}
	for more := true; more; {
		msgs, pending, err := b.directGet(ctx, UnroutedStream, getRequest{
			Seq: after + 1, NextBySubject: unroutedPrefix + account, Batch: unroutedBatch,
		})
		if err != nil {
			return err
		}
		for _, m := range msgs {
			if after, err = strconv.ParseUint(m.Header.Get(headerSequence), 10, 64); err != nil {
				return fmt.Errorf("bus: unrouted callback without sequence: %w", err)
			}
			rec := &busv1.UnroutedRecord{}
			if err := proto.Unmarshal(m.Data, rec); err != nil {
				return fmt.Errorf("decode unrouted callback: %w", err)
			}
			if err := f(after, rec); err != nil {
				return err
			}
		}
		more = pending > 0 && len(msgs) > 0
	}
	return nil
}

// SentKeys matches the keys of what a session's client_message_ids stood for.
func SentKeys(account, session string) string { return "sent." + account + "." + session + ".*" }

// MediaKeys matches the keys of the media that a session may open.
func MediaKeys(account, session string) string { return "media." + account + "." + session + ".*" }

// OutboxOf matches what is in the outbox of a session.
func OutboxOf(account, session string) string {
	return outboxPrefix + "*." + account + "." + session
}

// TimersOf matches the timers of a session, those that are due as well.
func TimersOf(account, session string) string { return "timer.*.*." + account + "." + session }

// ParseEventSubject reads whose event a message of the stream EVENTS is.
func ParseEventSubject(subject string) (SessionKey, bool) {
	rest, ours := strings.CutPrefix(subject, eventPrefix)
	account, session, ok := strings.Cut(rest, ".")
	return SessionKey{account, session}, ours && ok
}
