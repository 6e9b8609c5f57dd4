package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

const (
	publishTimeout = 5 * time.Second // where the caller's context has no deadline
	attemptTimeout = time.Second
	firstPause     = 20 * time.Millisecond
	longestPause   = 400 * time.Millisecond
)

// ErrInvalidToken is returned for an id that may not be part of a subject.
var ErrInvalidToken = errors.New("bus: id is not made of 1 to 64 letters, digits, _ and -")

// Ack says where a message is stored.
type Ack struct {
	Sequence  uint64
	Duplicate bool // it was stored before, under the same id
}

// PublishEvent stores an event in its session's journal. It returns when the
// event is stored, and repeats under the same id until ctx ends (5 s where it
// has no deadline): a change of leader stops storing for some seconds. It fails
// with ErrErased where the session was erased.
func (b *Bus) PublishEvent(ctx context.Context, rec *busv1.EventRecord) (Ack, error) {
	ev := rec.GetEvent()
	if !ValidToken(rec.GetAccount()) || !ValidToken(ev.GetSessionId()) {
		return Ack{}, ErrInvalidToken
	}
	if ev.GetEventId() == "" {
		return Ack{}, errors.New("bus: event has no id")
	}
	if b.WasErased(rec.GetAccount(), ev.GetSessionId()) {
		return Ack{}, ErrErased
	}
	data, err := proto.Marshal(rec)
	if err != nil {
		return Ack{}, fmt.Errorf("encode event: %w", err)
	}
	msg := nats.NewMsg(EventSubject(rec.GetAccount(), ev.GetSessionId()))
	msg.Data = data
	msg.Header.Set(HeaderEvent, EventKind(rec))
	return b.publish(ctx, msg, rec.GetAccount()+"."+ev.GetSessionId()+"."+ev.GetEventId())
}

// EventKind is the name of the event's payload field, such as message_arrived.
func EventKind(rec *busv1.EventRecord) string {
	m := rec.GetEvent().ProtoReflect()
	fd := m.WhichOneof(m.Descriptor().Oneofs().ByName("payload"))
	if fd == nil {
		return ""
	}
	return string(fd.Name())
}

// PublishOutbox stores an entry in the outbox, in the partition of its session.
// It fails with ErrErased where the session was erased, and stores nothing where
// the outbox has another number of partitions by now.
func (b *Bus) PublishOutbox(ctx context.Context, e *busv1.OutboxEntry, msgID string) (Ack, error) {
	if !ValidToken(e.GetAccount()) || !ValidToken(e.GetSessionId()) {
		return Ack{}, ErrInvalidToken
	}
	if b.WasErased(e.GetAccount(), e.GetSessionId()) {
		return Ack{}, ErrErased
	}
	data, err := proto.Marshal(e)
	if err != nil {
		return Ack{}, fmt.Errorf("encode outbox entry: %w", err)
	}
	msg := nats.NewMsg(OutboxSubject(Partition(e.GetSessionId(), b.cfg.Partitions), b.cfg.Partitions, e.GetAccount(), e.GetSessionId()))
	msg.Data = data
	return b.publish(ctx, msg, msgID)
}

// PublishUnrouted keeps a callback that no session could be found for.
func (b *Bus) PublishUnrouted(ctx context.Context, rec *busv1.UnroutedRecord, msgID string) (Ack, error) {
	if !ValidToken(rec.GetAccount()) {
		return Ack{}, ErrInvalidToken
	}
	data, err := proto.Marshal(rec)
	if err != nil {
		return Ack{}, fmt.Errorf("encode unrouted callback: %w", err)
	}
	msg := nats.NewMsg(unroutedPrefix + rec.GetAccount())
	msg.Data = data
	return b.publish(ctx, msg, msgID)
}

func (b *Bus) publish(ctx context.Context, msg *nats.Msg, id string) (Ack, error) {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, publishTimeout)
		defer cancel()
	}
	b.propagator.Inject(ctx, headerCarrier(msg.Header))
	opts := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
	if id != "" {
		opts = append(opts, jetstream.WithMsgID(id))
	}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		tryCtx, cancel := context.WithTimeout(ctx, attemptTimeout)
		ack, err := b.JS.PublishMsg(tryCtx, msg, opts...)
		cancel()
		if err == nil {
			return Ack{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
		}
		if !repeatable(err) || !wait(ctx, pause) {
			return Ack{}, fmt.Errorf("publish on %s: %w", streamOf(msg.Subject), err)
		}
	}
}

// streamOf keeps session ids out of error texts.
func streamOf(subject string) string {
	for _, p := range []struct{ prefix, stream string }{{eventPrefix, EventsStream}, {outboxPrefix, OutboxStream}, {timerSet, TimersStream}, {asidePrefix, AsideStream}} {
		if len(subject) > len(p.prefix) && subject[:len(p.prefix)] == p.prefix {
			return p.stream
		}
	}
	return UnroutedStream
}

// errCodeDuplicateInProcess is what a cluster answers while an earlier attempt
// under the same id is stored but not yet applied: the outcome is open, and one
// of the next attempts is told.
const errCodeDuplicateInProcess jetstream.ErrorCode = 10158

func repeatable(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code >= 500 || api.ErrorCode == errCodeDuplicateInProcess
	}
	return !errors.Is(err, nats.ErrMaxPayload) && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubject)
}

type headerCarrier nats.Header

var _ propagation.TextMapCarrier = headerCarrier{}

func (c headerCarrier) Get(key string) string { return nats.Header(c).Get(key) }
func (c headerCarrier) Set(key, value string) { nats.Header(c).Set(key, value) }
func (c headerCarrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}

// TraceContext continues the trace that a message carries.
func (b *Bus) TraceContext(ctx context.Context, h nats.Header) context.Context {
	return b.propagator.Extract(ctx, headerCarrier(h))
}
