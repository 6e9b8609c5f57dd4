package outbox

import (
	"context"
	"errors"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/convert"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
)

// message sends one message: nil when it is SENT or FAILED and the journal
// says so.
func (s *Sender) message(ctx context.Context, it *Item) error {
	done, err := s.begin(ctx, it)
	if err != nil || done {
		return err
	}
	// An earlier try, of this process or of another, may have reached AXP.
	d := doubt{open: it.tenure.Suspect(it.delivery)}
	if d.open {
		if err := s.giveTime(ctx, it); err != nil {
			return err
		}
	}
	held := false
	for n := 1; ; n++ {
		rec, fail, err := s.await(ctx, it)
		if err != nil {
			return err
		}
		if it.tenure.Over() {
			return errStopping
		}
		if fail != nil {
			return s.giveUp(ctx, it, rec, fail, d)
		}
		callErr := s.attempt(ctx, it, rec, &d)
		switch {
		case callErr == nil, errors.Is(callErr, errStopping):
			return callErr
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if !again(callErr) {
			return s.refused(ctx, it, callErr, d)
		}
		if !held {
			held = true
			s.hold(ctx, it, callErr)
		}
		wait := min(patience.Backoff(n, s.p.Config.RetryMin, s.p.Config.RetryMax, retryAfter(callErr)), s.left(it))
		if d.open { // even at the last moment
			wait = max(wait, s.p.Config.UncertainWait)
		}
		if err := it.pause(ctx, wait, nil); err != nil {
			return err
		}
		if err := s.turn(ctx, it); err != nil {
			return err
		}
	}
}

// turn waits, after the back-off, while calls of the account are held back
// because AXP fails, until this one is worth trying. Without it each session
// would find out for itself, again and again, that nothing goes. Who is never
// called tries all the same in the end, which costs AXP nothing.
func (s *Sender) turn(ctx context.Context, it *Item) error {
	client, err := s.p.Accounts.Client(it.Entry.GetAccount())
	if err != nil {
		return nil // the attempt that follows says so
	}
	ready, off := client.Turn()
	defer off()
	return it.pause(ctx, max(0, min(s.p.Config.RetryMax, s.left(it))), ready)
}

// giveTime lets a call end that an earlier owner may have under way, and AXP
// show what came of it.
func (s *Sender) giveTime(ctx context.Context, it *Item) error {
	if !it.delivery.inherited {
		return nil
	}
	return it.pause(ctx, s.p.Config.UncertainWait-time.Since(it.tenure.since), nil)
}

// doubt is what is not known of the earlier tries of a message.
type doubt struct {
	// open: one may have reached AXP, or may reach it yet. That AXP does not show it
	// is true for the moment at which it was asked, so it is asked before each try.
	open bool
	// looked: AXP was asked after the last of them that was unclear, and had nothing.
	looked bool
}

// attempt tries once: it looks for what an earlier try has made, where there
// may have been one, then sends. Nil: the journal says how it ended.
func (s *Sender) attempt(ctx context.Context, it *Item, rec *busv1.EngagementRecord, d *doubt) error {
	if d.open {
		switch f, err := s.reconcile(ctx, it, rec); {
		case err != nil:
			return err
		case f == settled:
			return nil
		case f == inAXP:
			return s.sent(ctx, it)
		}
		d.looked = true
	}
	if it.tenure.Over() { // the list may have taken its time
		return errStopping
	}
	err := s.send(ctx, it, rec, d.open)
	outcome := axp.NotApplied // as where there is no client to call with
	if e, ok := errors.AsType[*axp.Error](err); ok {
		outcome = e.Outcome
	}
	if d.open && (err == nil || outcome == axp.Unknown) {
		s.meters.resolved(ctx, false)
	}
	switch {
	case err == nil:
		return s.sent(ctx, it)
	case errors.Is(err, axp.ErrFenced):
		return errStopping // whoever has the partition now finds out what became of it
	case outcome == axp.Unknown:
		*d = doubt{open: true}
	}
	return err
}

// giveUp fails a message for whose sending it is too late, unless an earlier try
// turns out to have got through.
func (s *Sender) giveUp(ctx context.Context, it *Item, rec *busv1.EngagementRecord, f *axpchatv1.MessageFailure, d doubt) error {
	if d.open && rec.GetEngagement().GetAxpDialogId() != "" {
		switch found, err := s.reconcile(ctx, it, rec); {
		case err == nil && found == settled:
			return nil
		case err == nil && found == inAXP:
			return s.sent(ctx, it)
		case err != nil:
			s.p.Log.WarnContext(ctx, "a message fails without AXP having said whether it arrived", "error", err)
			if !d.looked {
				f.Detail += mayHaveArrived
			}
		}
	}
	return s.fail(ctx, it, f)
}

// mayHaveArrived is added to the detail of a failure that may not be one.
const mayHaveArrived = " It may have arrived all the same: AXP could not be asked."

// begin makes sure that the journal tells of the message before it tells what
// became of it. Where somebody may have worked on it before, the journal is
// asked whether anything is left to do.
func (s *Sender) begin(ctx context.Context, it *Item) (done bool, err error) {
	e := it.Entry
	var accepted bool
	// Past half of the bus's memory for copies the event would come out twice.
	forgotten := s.p.Now().Sub(e.GetAcceptTime().AsTime()) > s.p.Bus.Config().DuplicateWindow/2
	if it.tenure.Suspect(it.delivery) || forgotten {
		err := s.insist(ctx, it, func(ctx context.Context) error {
			known, err := s.p.Journal.Find(ctx, e.GetAccount(), e.GetSessionId(), e.GetMessage().GetMessageId())
			done, accepted = known.Settled, known.Accepted
			return err
		})
		if err != nil || done {
			return done, err
		}
	}
	if accepted {
		return false, nil
	}
	return false, s.insist(ctx, it, func(ctx context.Context) error { return s.p.Journal.Accepted(ctx, e) })
}

// finding is what became of an earlier try.
type finding int

const (
	absent  finding = iota
	inAXP           // AXP has the message
	settled         // the journal says how it ended
)

// reconcile looks for a message whose earlier try had no clear outcome: first
// in the journal, where AXP's echo may have come in, then once in AXP.
func (s *Sender) reconcile(ctx context.Context, it *Item, rec *busv1.EngagementRecord) (finding, error) {
	client, err := s.p.Accounts.Client(it.Entry.GetAccount())
	if err != nil {
		return absent, err
	}
	ctx, cancel := it.call(ctx)
	defer cancel()
	id := it.Entry.GetMessage().GetMessageId()
	known, err := s.p.Journal.Find(ctx, it.Entry.GetAccount(), it.Entry.GetSessionId(), id)
	if err != nil {
		return absent, err
	}
	if known.Settled {
		s.meters.resolved(ctx, true)
		return settled, nil
	}
	e := rec.GetEngagement()
	// A message waits for this, and all that the customer wrote after it.
	list, complete, err := client.ListAllMessages(axp.AsMessages(ctx), e.GetAxpEngagementId(), e.GetAxpDialogId(), rec.GetAxpSessionId())
	for i := range list {
		if list[i].ProviderMessageID == id {
			s.meters.resolved(ctx, true)
			return inAXP, nil
		}
	}
	if err != nil {
		return absent, err
	}
	if !complete {
		s.p.Log.WarnContext(ctx, "a dialog has more messages than can be listed; one is sent although it may be in it")
	}
	it.tenure.Clear(it.delivery)
	return absent, nil
}

// send makes the call; once, and not again by itself after a refusal, where what
// AXP shows has to be looked at in between.
func (s *Sender) send(ctx context.Context, it *Item, rec *busv1.EngagementRecord, once bool) error {
	client, err := s.p.Accounts.Client(it.Entry.GetAccount())
	if err != nil {
		return err
	}
	ctx, cancel := it.call(ctx)
	defer cancel()
	// Until it goes out it may have to wait, and the partition may be lost meanwhile.
	ctx = axp.WithFence(ctx, func() bool { return !it.tenure.Over() })
	if once {
		ctx = axp.Single(ctx)
	}
	_, err = client.SendMessage(ctx, rec.GetEngagement().GetAxpEngagementId(), convert.Message(it.Entry, rec))
	return err
}

// sent tells that AXP took the message. The tenure may have ended during the
// call: that does not make the news less true, so the life of the worker
// bounds the telling, not that of the tenure.
func (s *Sender) sent(ctx context.Context, it *Item) error {
	if err := s.p.Journal.Sent(context.WithoutCancel(ctx), it.Entry); err == nil {
		s.meters.sent(ctx)
		return nil
	}
	err := s.insist(ctx, it, func(ctx context.Context) error { return s.p.Journal.Sent(ctx, it.Entry) })
	if err == nil {
		s.meters.sent(ctx)
	}
	return err
}

func (s *Sender) fail(ctx context.Context, it *Item, f *axpchatv1.MessageFailure) error {
	err := s.insist(ctx, it, func(ctx context.Context) error { return s.p.Journal.Failed(ctx, it.Entry, f) })
	if err == nil {
		s.meters.failed(ctx, f.GetReason())
		s.p.Log.WarnContext(ctx, "a message failed", "reason", f.GetReason(), "message", it.Entry.GetMessage().GetMessageId())
	}
	return err
}

// refused fails a message that AXP will never take. Where AXP says that it
// does not know the dialog, it is asked whether the chat is over.
func (s *Sender) refused(ctx context.Context, it *Item, err error, d doubt) error {
	if axp.IsNotFound(err) {
		lookErr := s.p.Engagements.Refresh(ctx, it.ref())
		if lookErr != nil {
			s.p.Log.DebugContext(ctx, "an engagement could not be looked up", "error", lookErr)
		}
	}
	s.p.Log.WarnContext(ctx, "AXP refuses a message", "error", err)
	known := errs.From(err)
	f := failure(known.Reason, known.Detail)
	if d.open && !d.looked { // it was the first look that was refused
		f.Detail += mayHaveArrived
	}
	return s.fail(ctx, it, f)
}

// hold tells the customer that the message is kept while AXP can't take it.
// Not being able to tell is no reason to stop trying to send.
func (s *Sender) hold(ctx context.Context, it *Item, cause error) {
	s.meters.held(ctx)
	s.p.Log.WarnContext(ctx, "AXP can't take a message now; it is kept", "error", cause)
	if err := s.p.Journal.Held(ctx, it.Entry); err != nil && !errors.Is(err, context.Canceled) {
		s.p.Log.DebugContext(ctx, "that a message is kept could not be told", "error", err)
	}
}
