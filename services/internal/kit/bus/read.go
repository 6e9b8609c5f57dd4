package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

const (
	// maxBatch is the most events that one direct get returns.
	maxBatch = 256
	// maxMultiLast is how many subjects one request asks for. The server allows
	// 1,024, but storing waits while it looks for them.
	maxMultiLast = 250
	// journalAge is how long what Journal read is used again.
	journalAge = time.Second
)

const (
	headerSequence = "Nats-Sequence"
	headerPrevious = "Nats-Last-Sequence"
	headerSubject  = "Nats-Subject"
	headerPending  = "Nats-Num-Pending"
	headerStatus   = "Status"
)

// StoredEvent is an event with its place in the stream.
type StoredEvent struct {
	// Sequence is the place in the stream; grows strictly within a session.
	Sequence uint64
	// Previous is the sequence of the session's event before this one, 0 where
	// none is retained. Only DecodeLive sets it.
	Previous uint64
	// Record is nil where what is stored can't be read: one such event must not keep
	// the others from who reads the journal.
	Record *busv1.EventRecord
}

// ReadEvents reads events of a session after a sequence, oldest first, at most
// limit (1 to 256). More tells whether there are further ones. Any replica may
// answer, so the newest events can be missing for a moment.
func (b *Bus) ReadEvents(ctx context.Context, account, session string, after uint64, limit int) (events []StoredEvent, more bool, err error) {
	if !ValidToken(account) || !ValidToken(session) {
		return nil, false, ErrInvalidToken
	}
	msgs, pending, err := b.directGet(ctx, EventsStream, getRequest{
		Seq: after + 1, NextBySubject: EventSubject(account, session), Batch: min(max(limit, 1), maxBatch),
	})
	if err != nil {
		return nil, false, err
	}
	events = make([]StoredEvent, 0, len(msgs))
	for _, m := range msgs {
		ev, err := decode(m)
		if err != nil {
			return nil, false, err
		}
		events = append(events, ev)
	}
	return events, pending > 0, nil
}

// Subscribe calls f, on NATS's goroutine, with every message that comes by. One that
// makes f panic is passed over.
func (b *Bus) Subscribe(subject string, f func(*nats.Msg)) (*nats.Subscription, error) {
	return b.NC.Subscribe(subject, func(m *nats.Msg) {
		defer func() { b.recovered(recover()) }()
		f(m)
	})
}

// SubscribeLive hands the session's newly stored events to ch. A full channel
// drops events: the reader finds the hole by Previous and reads the journal.
// Call NC.Flush before reading the journal, so that nothing falls in between.
func (b *Bus) SubscribeLive(account, session string, ch chan *nats.Msg) (*nats.Subscription, error) {
	if !ValidToken(account) || !ValidToken(session) {
		return nil, ErrInvalidToken
	}
	return b.NC.ChanSubscribe(LiveSubject(account, session), ch)
}

// SubscribeAllLive hands the newly stored events of every session to ch. Like
// SubscribeLive it promises nothing: what it tells is a hint, the journal is the
// truth.
func (b *Bus) SubscribeAllLive(ch chan *nats.Msg) (*nats.Subscription, error) {
	return b.NC.ChanSubscribe(livePrefix+"*.*", ch)
}

// DecodeLive reads a message of SubscribeLive.
func DecodeLive(m *nats.Msg) (StoredEvent, error) {
	ev, err := decode(m)
	if err != nil {
		return ev, err
	}
	ev.Previous, err = strconv.ParseUint(m.Header.Get(headerPrevious), 10, 64)
	if err != nil {
		return ev, fmt.Errorf("bus: live event without its predecessor: %w", err)
	}
	return ev, nil
}

// DecodeRecord reads the data of a message of the stream EVENTS.
func DecodeRecord(data []byte) (*busv1.EventRecord, error) {
	rec := &busv1.EventRecord{}
	if err := proto.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	return rec, nil
}

func decode(m *nats.Msg) (StoredEvent, error) {
	seq, err := strconv.ParseUint(m.Header.Get(headerSequence), 10, 64)
	if err != nil {
		return StoredEvent{}, fmt.Errorf("bus: event without sequence: %w", err)
	}
	return Stored(seq, m.Data), nil
}

// Stored is an event by what the stream holds at a sequence.
func Stored(sequence uint64, data []byte) StoredEvent {
	rec, err := DecodeRecord(data)
	if err != nil {
		rec = nil
	}
	return StoredEvent{Sequence: sequence, Record: rec}
}

// LastSequences returns the newest sequence of those of the sessions that have
// an event at or after since. One request serves a thousand sessions.
func (b *Bus) LastSequences(ctx context.Context, sessions []SessionKey, since uint64) (map[SessionKey]uint64, error) {
	last := make(map[SessionKey]uint64)
	for len(sessions) > 0 {
		n := min(len(sessions), maxMultiLast)
		part := sessions[:n]
		sessions = sessions[n:]
		subjects := make([]string, n)
		bySubject := make(map[string]SessionKey, n)
		for i, s := range part {
			subjects[i] = EventSubject(s.Account, s.Session)
			bySubject[subjects[i]] = s
		}
		msgs, _, err := b.directGet(ctx, EventsStream, getRequest{Seq: max(since, 1), MultiLast: subjects})
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			seq, err := strconv.ParseUint(m.Header.Get(headerSequence), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("bus: event without sequence: %w", err)
			}
			if s, ok := bySubject[m.Header.Get(headerSubject)]; ok {
				last[s] = seq
			}
		}
	}
	return last, nil
}

// JournalInfo says what the journal holds.
type JournalInfo struct {
	// Epoch changes when the stream is made anew, so that an old cursor is recognised.
	Epoch string
	First uint64
	Last  uint64
	// FirstTime is when the first event was stored, by NATS's clock; zero where there
	// is none.
	FirstTime time.Time
}

// Journal returns what the journal held at most a second ago.
func (b *Bus) Journal(ctx context.Context) (JournalInfo, error) {
	return b.JournalSince(ctx, time.Now().Add(-journalAge))
}

// JournalSince returns what the journal held at a moment that is not before t. The
// stream's leader answers; callers that ask at the same time share its answer.
func (b *Bus) JournalSince(ctx context.Context, t time.Time) (JournalInfo, error) {
	if info, ok := b.journalKnown(t); ok {
		return info, nil
	}
	select {
	case b.journalTurn <- struct{}{}:
		defer func() { <-b.journalTurn }()
	case <-ctx.Done():
		return JournalInfo{}, fmt.Errorf("read the journal's state: %w", ctx.Err())
	}
	if info, ok := b.journalKnown(t); ok {
		return info, nil
	}
	var asked time.Time
	var s jetstream.Stream
	err := patiently(ctx, func(ctx context.Context) (err error) {
		asked = time.Now()
		s, err = b.JS.Stream(ctx, EventsStream)
		return err
	})
	if err != nil {
		return JournalInfo{}, fmt.Errorf("read the journal's state: %w", err)
	}
	i := s.CachedInfo()
	info := JournalInfo{Epoch: strconv.FormatInt(i.Created.UnixMilli(), 36), First: i.State.FirstSeq, Last: i.State.LastSeq}
	if i.State.Msgs > 0 {
		info.FirstTime = i.State.FirstTime
	}
	b.mu.Lock()
	b.journal, b.journalAt = info, asked
	b.mu.Unlock()
	return info, nil
}

// journalKnown is what is known of the journal since a time.
func (b *Bus) journalKnown(since time.Time) (JournalInfo, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.journal, !b.journalAt.IsZero() && !b.journalAt.Before(since)
}

// JournalWithout tells up to where the journal, as its leader has it, holds nothing
// of any of the sessions; false where it holds something.
func (b *Bus) JournalWithout(ctx context.Context, sessions []SessionKey) (upTo uint64, ok bool, err error) {
	for i, k := range sessions {
		if !ValidToken(k.Account) || !ValidToken(k.Session) {
			return 0, false, ErrInvalidToken
		}
		var info *jetstream.StreamInfo
		err := patiently(ctx, func(ctx context.Context) error {
			s, err := b.JS.Stream(ctx, EventsStream)
			if err == nil {
				info, err = s.Info(ctx, jetstream.WithSubjectFilter(EventSubject(k.Account, k.Session)))
			}
			return err
		})
		if err != nil {
			return 0, false, fmt.Errorf("read the journal's state: %w", err)
		}
		// The server takes the last sequence first and then counts, so that what comes
		// in between is counted.
		if len(info.State.Subjects) > 0 {
			return 0, false, nil
		}
		if i == 0 || info.State.LastSeq < upTo {
			upTo = info.State.LastSeq
		}
	}
	return upTo, len(sessions) > 0, nil
}

// getRequest is the body of JetStream's direct get; the client library has no
// batched form of it.
type getRequest struct {
	Seq           uint64   `json:"seq,omitempty"`
	NextBySubject string   `json:"next_by_subj,omitempty"`
	Batch         int      `json:"batch,omitempty"`
	MultiLast     []string `json:"multi_last,omitempty"`
}

// longest is how many messages the answer may have, with its end. The queue for it
// is made for one request alone, such as one at each attach of a client.
func (r getRequest) longest() int { return max(r.Batch, len(r.MultiLast), 1) + 1 }

// directGet returns the messages and how many more the server holds.
func (b *Bus) directGet(ctx context.Context, stream string, req getRequest) (msgs []*nats.Msg, pending uint64, err error) {
	err = patiently(ctx, func(ctx context.Context) error {
		msgs, pending, err = b.directGetOnce(ctx, stream, req)
		return err
	})
	return msgs, pending, err
}

// readTimeout bounds one attempt to read. It is longer than that of publishing:
// an answer may be a megabyte.
const readTimeout = 2 * time.Second

// patiently repeats a read whose answer does not come. One that went with its
// connection, or with a leader, never does, however long it is waited for, while
// the next attempt may be served at once. It ends with ctx, after 5 s where that
// has no deadline.
func patiently(ctx context.Context, read func(context.Context) error) error {
	end, has := ctx.Deadline()
	if !has {
		end = time.Now().Add(publishTimeout)
	}
	for {
		last := time.Now().Add(readTimeout)
		tryCtx, cancel := context.WithDeadline(ctx, earlier(last, end))
		err := read(tryCtx)
		late := tryCtx.Err() != nil
		cancel()
		if err == nil || !late || ctx.Err() != nil || !time.Now().Before(end) {
			return err
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (b *Bus) directGetOnce(ctx context.Context, stream string, req getRequest) (msgs []*nats.Msg, pending uint64, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, 0, fmt.Errorf("encode direct get: %w", err)
	}
	inbox, answer := b.NC.NewRespInbox(), make(chan *nats.Msg, req.longest())
	sub, err := b.NC.ChanSubscribe(inbox, answer)
	if err != nil {
		return nil, 0, fmt.Errorf("direct get from %s: %w", stream, err)
	}
	defer func() { err = errors.Join(err, ignoreClosed(sub.Unsubscribe())) }()
	if err := b.NC.PublishRequest(b.apiPrefix()+"DIRECT.GET."+stream, inbox, body); err != nil {
		return nil, 0, fmt.Errorf("direct get from %s: %w", stream, err)
	}
	for {
		var m *nats.Msg
		select {
		case m = <-answer:
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("direct get from %s: %w", stream, ctx.Err())
		}
		switch status := m.Header.Get(headerStatus); status {
		case "":
			msgs = append(msgs, m)
		case "204": // end of batch
			pending, _ = strconv.ParseUint(m.Header.Get(headerPending), 10, 64)
			return msgs, pending, nil
		case "404": // nothing there
			return msgs, 0, nil
		case "503":
			return nil, 0, fmt.Errorf("direct get from %s: %w", stream, nats.ErrNoResponders)
		default:
			return nil, 0, fmt.Errorf("direct get from %s: %s %s", stream, status, m.Header.Get("Description"))
		}
	}
}

// ignoreClosed: a connection that closed meanwhile has no subscription left.
func ignoreClosed(err error) error {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrBadSubscription) {
		return nil
	}
	return err
}
