package journal

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
)

// Suffixes of event ids.
const (
	accepted   = ".accepted"
	sent       = ".sent"
	failed     = ".failed"
	held       = ".held"
	active     = ".active"
	terminated = ".terminated"
	idle       = ".idle."
	idleReset  = ".idle-reset."
	closed     = "session.closed"
	changed    = "session."
)

// page is how many events are read at a time; the bus allows no more.
const page = 256

// Journal writes events.
type Journal struct {
	bus *bus.Bus
	now func() time.Time
}

// New makes a journal over the bus; now is the clock.
func New(b *bus.Bus, now func() time.Time) *Journal { return &Journal{bus: b, now: now} }

// Now is the journal's clock.
func (j *Journal) Now() time.Time { return j.now() }

// Accepted tells that the connector holds a message durably.
func (j *Journal) Accepted(ctx context.Context, e *busv1.OutboxEntry) error {
	return j.ofMessage(ctx, e, accepted, &axpchatv1.Event{
		EventTime: e.GetAcceptTime(),
		Payload:   &axpchatv1.Event_MessageAccepted{MessageAccepted: Message(e)},
	})
}

// Sent tells that AXP took a message.
func (j *Journal) Sent(ctx context.Context, e *busv1.OutboxEntry) error {
	return j.status(ctx, e, sent, &axpchatv1.MessageStatusChanged{Status: axpchatv1.MessageStatus_MESSAGE_STATUS_SENT})
}

// Failed tells that a message will not arrive, and why.
func (j *Journal) Failed(ctx context.Context, e *busv1.OutboxEntry, f *axpchatv1.MessageFailure) error {
	return j.status(ctx, e, failed, &axpchatv1.MessageStatusChanged{
		Status: axpchatv1.MessageStatus_MESSAGE_STATUS_FAILED, Failure: f,
	})
}

// Held tells that AXP can't take a message now and that it is kept.
func (j *Journal) Held(ctx context.Context, e *busv1.OutboxEntry) error {
	return j.status(ctx, e, held, &axpchatv1.MessageStatusChanged{
		Status: axpchatv1.MessageStatus_MESSAGE_STATUS_ACCEPTED, Held: true,
	})
}

// FailedID is the id of the event by which Failed tells of a message.
func FailedID(messageID string) string { return messageID + failed }

func (j *Journal) status(ctx context.Context, e *busv1.OutboxEntry, suffix string, s *axpchatv1.MessageStatusChanged) error {
	s.MessageId = e.GetMessage().GetMessageId()
	s.ClientMessageId = e.GetMessage().GetRequest().GetClientMessageId()
	return j.ofMessage(ctx, e, suffix, &axpchatv1.Event{Payload: &axpchatv1.Event_MessageStatusChanged{MessageStatusChanged: s}})
}

func (j *Journal) ofMessage(ctx context.Context, e *busv1.OutboxEntry, suffix string, ev *axpchatv1.Event) error {
	ev.EventId = e.GetMessage().GetMessageId() + suffix
	ev.SessionId, ev.EngagementId = e.GetSessionId(), e.GetEngagementId()
	return j.publish(ctx, e.GetAccount(), ev)
}

// Active tells that messages flow in the engagement.
func (j *Journal) Active(ctx context.Context, rec *busv1.EngagementRecord) error {
	return j.ofEngagement(ctx, rec, active, rec.GetUntoldActiveTime(), &axpchatv1.Event{
		EventTime: rec.GetEngagement().GetActiveTime(),
		Payload:   &axpchatv1.Event_EngagementActive{EngagementActive: &axpchatv1.EngagementActive{Engagement: copyOf(rec)}},
	})
}

// Terminated tells that the engagement is over. However many see the end, it
// is one event.
func (j *Journal) Terminated(ctx context.Context, rec *busv1.EngagementRecord) error {
	return j.ofEngagement(ctx, rec, terminated, rec.GetUntoldEndTime(), &axpchatv1.Event{
		EventTime: rec.GetEngagement().GetEndTime(),
		Payload: &axpchatv1.Event_EngagementTerminated{EngagementTerminated: &axpchatv1.EngagementTerminated{
			Reason: rec.GetEngagement().GetEndReason(), Engagement: copyOf(rec),
		}},
	})
}

// IdleExpired warns that a chat is disconnected at a time. since, the time since
// when the customer has done nothing, makes the id: it is warned of once.
func (j *Journal) IdleExpired(ctx context.Context, rec *busv1.SessionRecord, engagement string, since, disconnect time.Time) error {
	return j.ofChat(ctx, rec, engagement, idle+strconv.FormatInt(since.UnixNano(), 10), &axpchatv1.Event{
		Payload: &axpchatv1.Event_IdleTimeoutExpired{IdleTimeoutExpired: &axpchatv1.IdleTimeoutExpired{
			EngagementId: engagement, GracePeriod: rec.GetSession().GetIdleRules().GetGracePeriod(), DisconnectTime: timestamppb.New(disconnect),
		}},
	})
}

// IdleReset takes a warning back. The time of the warning makes the id.
func (j *Journal) IdleReset(ctx context.Context, rec *busv1.SessionRecord, engagement string, warned time.Time) error {
	return j.ofChat(ctx, rec, engagement, idleReset+strconv.FormatInt(warned.UnixNano(), 10), &axpchatv1.Event{
		Payload: &axpchatv1.Event_IdleTimeoutReset{IdleTimeoutReset: &axpchatv1.IdleTimeoutReset{EngagementId: engagement}},
	})
}

func (j *Journal) ofChat(ctx context.Context, rec *busv1.SessionRecord, engagement, suffix string, ev *axpchatv1.Event) error {
	ev.EventId = engagement + suffix
	ev.SessionId, ev.EngagementId = rec.GetSession().GetSessionId(), engagement
	return j.publish(ctx, rec.GetSession().GetAccount(), ev)
}

// LastAgent is when a person on the company's side last wrote in an engagement;
// the zero time: not at all. It reads the whole journal of the session, so it is
// for the moments at which a chat seems idle.
func (j *Journal) LastAgent(ctx context.Context, account, session, engagement string) (time.Time, error) {
	var last time.Time
	err := j.each(ctx, account, session, func(ev *axpchatv1.Event) {
		if ev.GetEngagementId() != engagement {
			return
		}
		switch ev.GetMessageArrived().GetSender().GetParticipantType() {
		case axpchatv1.ParticipantType_PARTICIPANT_TYPE_AGENT, axpchatv1.ParticipantType_PARTICIPANT_TYPE_SUPERVISOR:
			at := ev.GetReceiveTime().AsTime()
			if said := ev.GetEventTime().AsTime(); ev.GetBackfilled() && said.Before(at) {
				at = said // it was fetched later
			}
			if at.After(last) {
				last = at
			}
		}
	})
	return last, err
}

// copyOf detaches what is published from the record, which goes on changing.
func copyOf(rec *busv1.EngagementRecord) *axpchatv1.Engagement {
	return proto.CloneOf(rec.GetEngagement())
}

// ofEngagement tells of a turn that was stored at a time. NATS knows copies for a
// while only, so a turn that was stored long ago is looked for first.
func (j *Journal) ofEngagement(ctx context.Context, rec *busv1.EngagementRecord, suffix string, stored *timestamppb.Timestamp, ev *axpchatv1.Event) error {
	e := rec.GetEngagement()
	ev.EventId, ev.SessionId, ev.EngagementId = e.GetEngagementId()+suffix, e.GetSessionId(), e.GetEngagementId()
	if stored != nil && j.now().Sub(stored.AsTime()) > j.bus.Config().DuplicateWindow/2 {
		told := false
		err := j.each(ctx, rec.GetAccount(), e.GetSessionId(), func(have *axpchatv1.Event) { told = told || have.GetEventId() == ev.GetEventId() })
		if err != nil || told {
			return err
		}
	}
	return j.publish(ctx, rec.GetAccount(), ev)
}

// SessionChanged tells what the session now is; the revision of its record
// makes the id.
func (j *Journal) SessionChanged(ctx context.Context, rec *busv1.SessionRecord, revision uint64) error {
	return j.ofSession(ctx, rec, changed+strconv.FormatUint(revision, 10))
}

// SessionClosed tells that the session is deleted.
func (j *Journal) SessionClosed(ctx context.Context, rec *busv1.SessionRecord) error {
	return j.ofSession(ctx, rec, closed)
}

func (j *Journal) ofSession(ctx context.Context, rec *busv1.SessionRecord, id string) error {
	s := rec.GetSession()
	return j.publish(ctx, s.GetAccount(), &axpchatv1.Event{
		EventId: id, SessionId: s.GetSessionId(), EventTime: s.GetUpdateTime(),
		Payload: &axpchatv1.Event_SessionChanged{SessionChanged: &axpchatv1.SessionChanged{Session: proto.CloneOf(s)}},
	})
}

func (j *Journal) publish(ctx context.Context, account string, ev *axpchatv1.Event) error {
	now := timestamppb.New(j.now())
	ev.ReceiveTime = now
	if ev.GetEventTime() == nil {
		ev.EventTime = now
	}
	_, err := j.bus.PublishEvent(ctx, &busv1.EventRecord{Account: account, Event: ev})
	if errors.Is(err, bus.ErrErased) {
		return nil // nobody is left to be told
	}
	return err
}

// Progress is what the journal knows of a message.
type Progress struct {
	// Accepted: the customer was told that it is held durably, so the outbox has
	// or had it.
	Accepted bool
	// Settled: it is sent, delivered or failed; nothing is left to do.
	Settled bool
}

// Find looks in the journal for what became of a message. It reads the whole
// journal of the session and is meant for the rare moments after a crash or a
// repeat, never for each message.
func (j *Journal) Find(ctx context.Context, account, session, messageID string) (Progress, error) {
	var p Progress
	err := j.each(ctx, account, session, func(ev *axpchatv1.Event) { p.note(ev, messageID) })
	if err != nil {
		return Progress{}, err
	}
	return p, nil
}

// each calls f with every event of a session's journal, oldest first.
func (j *Journal) each(ctx context.Context, account, session string, f func(*axpchatv1.Event)) error {
	for after, more := uint64(0), true; more; {
		var (
			events []bus.StoredEvent
			err    error
		)
		events, more, err = j.bus.ReadEvents(ctx, account, session, after, page)
		if err != nil {
			return err
		}
		for _, e := range events {
			after = e.Sequence
			f(e.Record.GetEvent())
		}
		more = more && len(events) > 0
	}
	return nil
}

func (p *Progress) note(ev *axpchatv1.Event, messageID string) {
	switch ev.GetEventId() {
	case messageID + accepted:
		p.Accepted = true
	case messageID + sent, messageID + failed:
		p.Settled = true
	}
	if ev.GetMessageDelivered().GetMessageId() == messageID {
		p.Settled = true
	}
}
