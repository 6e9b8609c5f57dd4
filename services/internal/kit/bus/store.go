package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

var (
	// ErrNotFound is returned where there is no such key.
	ErrNotFound = errors.New("bus: no such key")
	// ErrExists is returned by Create where the key is there already.
	ErrExists = errors.New("bus: key exists")
	// ErrConflict is returned where the key has changed since it was read.
	ErrConflict = errors.New("bus: key has changed")
	// ErrNoChange is returned by the function given to Modify to leave the key as it is.
	ErrNoChange = errors.New("bus: no change")
)

// modifyAttempts bounds the compare-and-set loop of Modify; each lost round
// means that somebody else has won, so this many losses mean a fault.
const modifyAttempts = 50

// Store is a bucket whose values are messages of one type. Every change is a
// compare-and-set. It is safe for concurrent use.
type Store[T proto.Message] struct {
	js     jetstream.JetStream
	api    string // prefix of JetStream's API
	bucket string
	// changes is the prefix of ChangesSubject.
	changes string
	empty   func() T

	mu sync.Mutex
	kv jetstream.KeyValue
}

func (b *Bus) openStores() {
	b.Sessions = newStore(b, SessionsBucket, func() *busv1.SessionRecord { return &busv1.SessionRecord{} })
	b.Sessions.changes = changedPrefix + SessionsBucket + "."
	b.Engagements = newStore(b, EngagementsBucket, func() *busv1.EngagementRecord { return &busv1.EngagementRecord{} })
	b.Index = newStore(b, IndexBucket, func() *busv1.IndexRecord { return &busv1.IndexRecord{} })
	b.Sent = newStore(b, IndexBucket, func() *busv1.SentRecord { return &busv1.SentRecord{} })
	b.Tickets = newStore(b, TicketsBucket, func() *busv1.TicketRecord { return &busv1.TicketRecord{} })
	b.Secrets = newStore(b, IndexBucket, func() *busv1.SecretAgreement { return &busv1.SecretAgreement{} })
	b.Erasures = newStore(b, IndexBucket, func() *busv1.ErasureRecord { return &busv1.ErasureRecord{} })
}

func newStore[T proto.Message](b *Bus, bucket string, empty func() T) *Store[T] {
	return &Store[T]{js: b.JS, api: b.apiPrefix(), bucket: bucket, changes: "$KV." + bucket + ".", empty: empty}
}

// open binds the bucket at first use: it may be provisioned after Connect.
func (s *Store[T]) open(ctx context.Context) (jetstream.KeyValue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kv != nil {
		return s.kv, nil
	}
	kv, err := s.js.KeyValue(ctx, s.bucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", s.bucket, err)
	}
	s.kv = kv
	return kv, nil
}

// Get reads a value and its revision; ErrNotFound where there is none. Any
// replica may answer, so a value can be a moment old; that there is none is the
// leader's word alone, since callers tell clients never to come back.
func (s *Store[T]) Get(ctx context.Context, key string) (v T, rev uint64, err error) {
	err = patiently(ctx, func(ctx context.Context) error {
		v, rev, err = s.get(ctx, key)
		return err
	})
	return v, rev, err
}

func (s *Store[T]) get(ctx context.Context, key string) (T, uint64, error) {
	var zero T
	kv, err := s.open(ctx)
	if err != nil {
		return zero, 0, err
	}
	var data []byte
	var rev uint64
	e, err := kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrInvalidKey):
		return zero, 0, ErrNotFound
	case errors.Is(err, jetstream.ErrKeyNotFound):
		data, rev, err = s.askLeader(ctx, key)
	case err == nil:
		data, rev = e.Value(), e.Revision()
	}
	if errors.Is(err, ErrNotFound) {
		return zero, 0, err
	}
	if err != nil {
		return zero, 0, fmt.Errorf("read from bucket %s: %w", s.bucket, err)
	}
	v := s.empty()
	if err := proto.Unmarshal(data, v); err != nil {
		return zero, 0, fmt.Errorf("decode value of bucket %s: %w", s.bucket, err)
	}
	return v, rev, nil
}

// askLeader reads from the leader of the bucket's stream, which the client
// library can't be told to do.
func (s *Store[T]) askLeader(ctx context.Context, key string) (data []byte, rev uint64, err error) {
	req, err := json.Marshal(map[string]string{"last_by_subj": "$KV." + s.bucket + "." + key})
	if err != nil {
		return nil, 0, err
	}
	answer, err := s.js.Conn().RequestWithContext(ctx, s.api+"STREAM.MSG.GET.KV_"+s.bucket, req)
	if err != nil {
		return nil, 0, err
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Sequence uint64 `json:"seq"`
			Header   []byte `json:"hdrs"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return nil, 0, err
	}
	switch {
	case got.Error != nil && got.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, 0, ErrNotFound
	case got.Error != nil:
		return nil, 0, got.Error
	}
	if len(got.Message.Header) > 0 {
		h, err := nats.DecodeHeadersMsg(got.Message.Header)
		if err != nil {
			return nil, 0, err
		}
		if h.Get("KV-Operation") != "" || h.Get("Nats-Marker-Reason") != "" {
			return nil, 0, ErrNotFound // the mark that a deletion leaves
		}
	}
	return got.Message.Data, got.Message.Sequence, nil
}

// Create stores a value under a new key; ErrExists where the key is there. A
// ttl, at least 1 s, lets the key expire. As with Update an answer that does not
// come is not waited for: where the very same value is there then, it is ours.
func (s *Store[T]) Create(ctx context.Context, key string, v T, ttl ...time.Duration) (uint64, error) {
	kv, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	data, err := proto.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("encode value of bucket %s: %w", s.bucket, err)
	}
	var opts []jetstream.KVCreateOpt
	if len(ttl) > 0 {
		opts = append(opts, jetstream.KeyTTL(ttl[0]))
	}
	rev, err := certainly(ctx, func(ctx context.Context) (uint64, error) {
		rev, err := kv.Create(ctx, key, data, opts...)
		if errors.Is(err, jetstream.ErrKeyExists) {
			err = ErrExists
		}
		return rev, err
	}, func(ctx context.Context) (uint64, error) { return s.created(ctx, key, data) })
	if errors.Is(err, ErrExists) {
		return 0, ErrExists
	}
	if err != nil {
		return 0, fmt.Errorf("create in bucket %s: %w", s.bucket, err)
	}
	return rev, nil
}

// certainly writes, and where the answer does not come finds out what became of
// it before it writes again: look returns the revision, 0 where nothing was
// written, and the error of a lost race where another value is there. An attempt
// after the first may lose against the first.
func certainly(ctx context.Context, write, look func(context.Context) (uint64, error)) (rev uint64, err error) {
	tried := false
	err = patiently(ctx, func(ctx context.Context) error {
		if tried {
			if rev, err = look(ctx); err != nil || rev > 0 {
				return err
			}
		}
		rev, err = write(ctx)
		if tried && (errors.Is(err, ErrExists) || errors.Is(err, ErrConflict)) {
			rev, err = look(ctx)
		}
		tried = true
		return err
	})
	return rev, err
}

// created finds out what became of a creation without an answer: it returns the
// revision where the value is there, 0 where there is none, and ErrExists where
// it is another one.
func (s *Store[T]) created(ctx context.Context, key string, data []byte) (uint64, error) {
	have, rev, err := s.askLeader(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case bytes.Equal(have, data):
		return rev, nil
	default:
		return 0, ErrExists
	}
}

// Update replaces the value of a revision; ErrConflict where it has changed.
// A time to live that Create gave the key ends with it. An answer that does not
// come, as after a change of leader, is not waited for until ctx ends: the value
// shows whether it was stored.
func (s *Store[T]) Update(ctx context.Context, key string, v T, rev uint64) (uint64, error) {
	kv, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	data, err := proto.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("encode value of bucket %s: %w", s.bucket, err)
	}
	next, err := certainly(ctx, func(ctx context.Context) (uint64, error) {
		next, err := kv.Update(ctx, key, data, rev)
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) || errors.Is(err, jetstream.ErrKeyExists) {
			err = ErrConflict
		}
		return next, err
	}, func(ctx context.Context) (uint64, error) { return s.stored(ctx, key, data, rev) })
	if errors.Is(err, ErrConflict) {
		return 0, ErrConflict
	}
	if err != nil {
		return 0, fmt.Errorf("update in bucket %s: %w", s.bucket, err)
	}
	return next, nil
}

// stored finds out what became of an update without an answer: it returns the
// revision where the value is there, 0 where that before it still is, and
// ErrConflict where it is another one.
func (s *Store[T]) stored(ctx context.Context, key string, data []byte, before uint64) (uint64, error) {
	have, rev, err := s.askLeader(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return 0, ErrConflict
	case err != nil:
		return 0, err
	case rev == before:
		return 0, nil
	case bytes.Equal(have, data):
		return rev, nil
	default:
		return 0, ErrConflict
	}
}

// Modify reads a value, lets f change it and stores it, again and again until
// nobody else was faster. f may run several times and must not keep what it is
// given. Where f returns ErrNoChange the value is returned as it is; any other
// error ends Modify with that error.
func (s *Store[T]) Modify(ctx context.Context, key string, f func(T) error) (T, error) {
	var zero T
	for range modifyAttempts {
		v, rev, err := s.Get(ctx, key)
		if err != nil {
			return zero, err
		}
		switch err := f(v); {
		case errors.Is(err, ErrNoChange):
			return v, nil
		case err != nil:
			return zero, err
		}
		_, err = s.Update(ctx, key, v, rev)
		if err == nil {
			return v, nil
		}
		if !errors.Is(err, ErrConflict) {
			return zero, err
		}
	}
	return zero, fmt.Errorf("bucket %s: %w %d times in a row", s.bucket, ErrConflict, modifyAttempts)
}

// Delete removes a key; with a revision above 0 only if it has not changed
// since, else ErrConflict. Of several callers with one revision one succeeds.
func (s *Store[T]) Delete(ctx context.Context, key string, rev uint64) error {
	kv, err := s.open(ctx)
	if err != nil {
		return err
	}
	var opts []jetstream.KVDeleteOpt
	if rev > 0 {
		opts = append(opts, jetstream.LastRevision(rev))
	}
	err = kv.Delete(ctx, key, opts...)
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) || isWrongSequence(err) {
		return ErrConflict
	}
	if err != nil {
		return fmt.Errorf("delete from bucket %s: %w", s.bucket, err)
	}
	return nil
}

func isWrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == 10164)
}

// Keys lists the keys that begin with prefix and a dot.
func (s *Store[T]) Keys(ctx context.Context, prefix string) ([]string, error) {
	kv, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	lister, err := kv.ListKeysFiltered(ctx, strings.TrimSuffix(prefix, ".")+".>")
	if err != nil {
		return nil, fmt.Errorf("list bucket %s: %w", s.bucket, err)
	}
	var keys []string
	for k := range lister.Keys() {
		keys = append(keys, k)
	}
	return keys, nil
}

// All calls f with every value that the bucket holds, in no order. It is for the
// rare moments when a process takes over, never for a request.
func (s *Store[T]) All(ctx context.Context, f func(T)) error {
	return s.Scan(ctx, func(_ string, v T, _ time.Time) { f(v) })
}

// Scan is All with the keys, and when each value was stored, by NATS's clock.
func (s *Store[T]) Scan(ctx context.Context, f func(key string, v T, stored time.Time)) error {
	return s.ScanOf(ctx, ">", f)
}

// ScanOf is Scan for the keys that match.
func (s *Store[T]) ScanOf(ctx context.Context, filter string, f func(key string, v T, stored time.Time)) error {
	kv, err := s.open(ctx)
	if err != nil {
		return err
	}
	w, err := kv.Watch(ctx, filter, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("read bucket %s: %w", s.bucket, err)
	}
	defer func() { _ = w.Stop() }() // it fails only when the connection is gone
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("read bucket %s: %w", s.bucket, ctx.Err())
		case e, open := <-w.Updates():
			if !open {
				return fmt.Errorf("read bucket %s: %w", s.bucket, nats.ErrConnectionClosed)
			}
			if e == nil { // that was all
				return nil
			}
			v := s.empty()
			if err := proto.Unmarshal(e.Value(), v); err != nil {
				return fmt.Errorf("decode value of bucket %s: %w", s.bucket, err)
			}
			f(e.Key(), v, e.Created())
		}
	}
}

// ChangesSubject is where every change of a key of this bucket passes by, for
// a plain subscription that only wants to be woken. Those of sessions come without
// the value, once it is stored, and may get lost with a change of leader.
func (s *Store[T]) ChangesSubject() string { return s.changes + ">" }
