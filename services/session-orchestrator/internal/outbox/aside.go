package outbox

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/panics"
	"github.com/axpchat/connector/services/session-orchestrator/internal/journal"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
)

// errGivenUp is returned by a Handler that can't work an entry and has told nobody.
var errGivenUp = errors.New("outbox: an entry that can't be worked")

const (
	asideMin = 200 * time.Millisecond
	asideMax = 10 * time.Second
)

// setAside takes an entry out of the way that nobody can work, not even to fail it:
// it is kept for an operator, and its customer is told. That is tried until it is
// done, for the entry was accepted; what is behind it in its session waits meanwhile.
func (w *Worker) setAside(ctx context.Context, it *Item, cause error) error {
	w.log.ErrorContext(ctx, "an outbox entry can't be worked; it is set aside", "sequence", it.delivery.sequence, "error", cause)
	for n := 1; ; n++ {
		err := w.panics.Do(ctx, "outbox set aside", func() error { return w.lastResort(ctx, it, cause) })
		if err == nil {
			w.meters.poison(ctx)
			return nil
		}
		w.log.WarnContext(ctx, "an outbox entry could not be set aside; it is tried again", "sequence", it.delivery.sequence, "error", err)
		if err := it.pause(ctx, patience.Backoff(n, asideMin, asideMax, 0), nil); err != nil {
			return err
		}
	}
}

// lastResort needs nothing but the bus: neither sender nor records are to be trusted
// with this entry.
func (w *Worker) lastResort(ctx context.Context, it *Item, cause error) error {
	err := w.bus.SetAside(ctx, bus.OutboxStream, it.delivery.msg, causeOf(cause))
	if errors.Is(err, bus.ErrErased) {
		return nil // nobody is left to be told
	}
	if err != nil {
		return err
	}
	key, _ := bus.SubjectOwner(it.delivery.key) // it has been set aside under it
	it.Entry.Account, it.Entry.SessionId = key.Account, key.Session
	message := it.Entry.GetMessage().GetMessageId()
	if message == "" {
		return nil // the end of a chat, or nobody knows of which message
	}
	done, err := w.settled(ctx, key, it.Entry)
	if err != nil || done {
		return err
	}
	now := timestamppb.Now()
	_, err = w.bus.PublishEvent(ctx, &busv1.EventRecord{Account: key.Account, Event: &axpchatv1.Event{
		EventId: journal.FailedID(message), SessionId: key.Session, EngagementId: it.Entry.GetEngagementId(), EventTime: now, ReceiveTime: now,
		Payload: &axpchatv1.Event_MessageStatusChanged{MessageStatusChanged: &axpchatv1.MessageStatusChanged{
			MessageId: message, ClientMessageId: it.Entry.GetMessage().GetRequest().GetClientMessageId(),
			Status: axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED, Failure: brokenFailure(),
		}},
	}})
	if errors.Is(err, bus.ErrErased) {
		return nil
	}
	if err == nil {
		w.meters.failed(ctx, brokenFailure().GetReason())
	}
	return err
}

// settled tells whether the customer knows already how a message ended, and sees to it
// that he knows of the message. Where asking panics, he is told that it failed.
func (w *Worker) settled(ctx context.Context, key bus.SessionKey, e *busv1.OutboxEntry) (done bool, err error) {
	err = w.panics.Do(ctx, "outbox set aside", func() error {
		j := journal.New(w.bus, time.Now)
		known, err := j.Find(ctx, key.Account, key.Session, e.GetMessage().GetMessageId())
		if err == nil && !known.Accepted && !known.Settled {
			err = j.Accepted(ctx, e)
		}
		done = known.Settled
		return err
	})
	if errors.Is(err, panics.Err) {
		return false, nil
	}
	return done, err
}

// causeOf tells a cause without what may repeat the entry's own words.
func causeOf(err error) string {
	switch {
	case errors.Is(err, panics.Err):
		return "panic"
	case errors.Is(err, errGivenUp):
		return "given up"
	default:
		return "unreadable"
	}
}

// read fills in the entry; of one that can't be read whole it fills in what it can.
func (it *Item) read(data []byte) error {
	it.Entry = &busv1.OutboxEntry{}
	if err := proto.Unmarshal(data, it.Entry); err != nil {
		return err
	}
	return readable(it.Entry)
}
