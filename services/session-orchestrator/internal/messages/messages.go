// Package messages owns the intake of customers' messages: a message that is
// answered ACCEPTED is durable in the outbox, once, whatever crashes and
// however often the app repeats it.
//
// What a client_message_id stood for is remembered before anything else. A
// repeat with the same content gets the same answer; whether the first time got
// as far as the outbox shows in the journal, where the outbox's worker also
// writes before it works on a message: so what is neither there nor still in
// the outbox was never accepted, and is stored now.
//
// It never calls AXP, but asks whether the account is served.
package messages

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/ident"
	"github.com/axpchat/connector/services/session-orchestrator/internal/journal"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// Service takes messages in. It is safe for concurrent use.
type Service struct {
	bus     *bus.Bus
	records *records.Records
	journal *journal.Journal
	served  *accounts.Registry
	log     *slog.Logger
	now     func() time.Time
	backlog *backlog
}

// Params is what New needs; all of it but Bounds is required.
type Params struct {
	Bus     *bus.Bus
	Records *records.Records
	Journal *journal.Journal
	// Accounts are those that are served.
	Accounts *accounts.Registry
	Log      *slog.Logger
	Now      func() time.Time
	// Bounds says how many messages may wait. Zero: as many as come.
	Bounds Bounds
}

// New makes the service.
func New(p Params) *Service {
	return &Service{
		bus: p.Bus, records: p.Records, journal: p.Journal, served: p.Accounts, log: p.Log, now: p.Now,
		backlog: newBacklog(p.Bus, p.Bounds, p.Now),
	}
}

// Send accepts a message. A repeat is answered like the first time, also after
// the engagement's end. Where too many messages wait for AXP a new one is
// refused with RATE_LIMITED: nothing is remembered of it, so it may be repeated
// as it is.
func (s *Service) Send(ctx context.Context, caller *orchestratorv1.Caller, req *axpchatv1.SendMessageRequest) (*axpchatv1.Message, error) {
	session, _, err := s.records.Session(ctx, caller, req.GetSessionId())
	if err != nil {
		return nil, err
	}
	hash, err := ident.Hash(req)
	if err != nil {
		return nil, err
	}
	key := bus.SentKey(caller.GetAccount(), req.GetSessionId(), req.GetClientMessageId())
	sent, _, err := s.bus.Sent.Get(ctx, key)
	switch {
	case err == nil:
		return s.repeat(ctx, session, req, sent, hash)
	case !errors.Is(err, bus.ErrNotFound):
		return nil, records.Unavailable(err)
	}
	rec, err := s.writable(ctx, session, req.GetEngagementId())
	if err != nil {
		return nil, err
	}
	if _, err := s.served.Client(rec.GetAccount()); err != nil {
		return nil, err // it would only wait to fail
	}
	if err := s.backlog.admit(ctx, rec.GetAccount(), rec.GetEngagement().GetSessionId()); err != nil {
		return nil, err
	}
	sent = &busv1.SentRecord{
		ContentHash: hash,
		MessageId:   ident.Derived("message", caller.GetAccount(), req.GetSessionId(), req.GetClientMessageId()),
		AcceptTime:  timestamppb.New(s.now()),
	}
	_, err = s.bus.Sent.Create(ctx, key, sent)
	if errors.Is(err, bus.ErrExists) { // the same message at the same moment
		sent, _, err = s.bus.Sent.Get(ctx, key)
		if err != nil {
			return nil, records.Unavailable(err)
		}
		return s.repeat(ctx, session, req, sent, hash)
	}
	if err != nil {
		return nil, records.Unavailable(err)
	}
	return s.store(ctx, entry(session, rec, req, sent))
}

// writable reads the engagement and refuses where it takes no more messages.
func (s *Service) writable(ctx context.Context, session *busv1.SessionRecord, engagement string) (*busv1.EngagementRecord, error) {
	if state.Closed(session.GetSession().GetStatus()) {
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED, "the session is closed; create a new one")
	}
	rec, err := s.records.Engagement(ctx, session, engagement)
	if err != nil {
		return nil, err
	}
	if !state.TakesMessages(rec.GetEngagement().GetStatus()) {
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_ENDED, "the chat is over; start a new one")
	}
	return rec, nil
}

// repeat answers a message that was sent before.
func (s *Service) repeat(ctx context.Context, session *busv1.SessionRecord, req *axpchatv1.SendMessageRequest, sent *busv1.SentRecord, hash []byte) (*axpchatv1.Message, error) {
	if !bytes.Equal(sent.GetContentHash(), hash) {
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED, "the client_message_id was used with other content").
			WithViolation("clientMessageId", "was used for another message", "IDEMPOTENCY_KEY_REUSED")
	}
	rec, err := s.records.Engagement(ctx, session, req.GetEngagementId())
	if err != nil {
		return nil, err
	}
	e := entry(session, rec, req, sent)
	known, err := s.journal.Find(ctx, e.GetAccount(), e.GetSessionId(), sent.GetMessageId())
	if err != nil {
		return nil, records.Unavailable(err)
	}
	if known.Accepted || known.Settled {
		return journal.Message(e), nil
	}
	return s.store(ctx, e)
}

// entry makes what the outbox keeps; from the same request and the same record
// of it always the same.
func entry(session *busv1.SessionRecord, rec *busv1.EngagementRecord, req *axpchatv1.SendMessageRequest, sent *busv1.SentRecord) *busv1.OutboxEntry {
	req = proto.CloneOf(req)
	if req.GetSenderName() == "" {
		req.SenderName = session.GetSession().GetDisplayName()
	}
	return &busv1.OutboxEntry{
		Command:         &busv1.OutboxEntry_Message{Message: &busv1.OutboxMessage{MessageId: sent.GetMessageId(), Request: req}},
		Account:         rec.GetAccount(),
		SessionId:       rec.GetEngagement().GetSessionId(),
		EngagementId:    rec.GetEngagement().GetEngagementId(),
		AcceptTime:      sent.GetAcceptTime(),
		SenderSessionId: session.GetSession().GetSessionId(),
	}
}

// tellTime bounds how long an answer waits for the journal.
const tellTime = 2 * time.Second

// store makes the message durable. The journal's word of it is not worth
// failing for, nor waiting for long: the outbox's worker writes it as well,
// before it sends.
func (s *Service) store(ctx context.Context, e *busv1.OutboxEntry) (*axpchatv1.Message, error) {
	if _, err := s.bus.PublishOutbox(ctx, e, e.GetAccount()+"."+e.GetSenderSessionId()+"."+e.GetMessage().GetMessageId()); err != nil {
		return nil, records.Unavailable(err)
	}
	telling, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	if err := s.journal.Accepted(telling, e); err != nil {
		s.log.WarnContext(ctx, "an accepted message is not in the journal yet", "error", err)
	}
	return journal.Message(e), nil
}
