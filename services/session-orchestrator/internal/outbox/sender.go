package outbox

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/panics"
	"github.com/axpchat/connector/services/session-orchestrator/internal/accounts"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/journal"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
	"github.com/axpchat/connector/services/session-orchestrator/internal/records"
	"github.com/axpchat/connector/services/session-orchestrator/internal/state"
)

// Config holds the outbox's figures. AXP publishes none.
type Config struct {
	MaxAge        time.Duration `env:"OUTBOX_MAX_AGE" default:"24h" doc:"A message that could not be sent for so long fails with MESSAGE_EXPIRED."`
	HoldMax       time.Duration `env:"OUTBOX_HOLD_MAX" default:"10m" doc:"How long a message waits for its chat to become active before it fails."`
	RetryMin      time.Duration `env:"OUTBOX_RETRY_MIN" default:"500ms" doc:"First wait before a message is tried again; doubled each time, with jitter."`
	RetryMax      time.Duration `env:"OUTBOX_RETRY_MAX" default:"30s" doc:"Longest wait before a message is tried again, where AXP gives no advice."`
	UncertainWait time.Duration `env:"OUTBOX_UNCERTAIN_WAIT" default:"1s" doc:"How long AXP is given to show a message whose sending had no clear outcome."`
	RefreshAfter  time.Duration `env:"OUTBOX_REFRESH_AFTER" default:"5s" doc:"A chat that is not active after so long is looked up in AXP, in case a callback got lost; doubled each time up to 1m."`
	// MaxPerSession and MaxPerAccount are for whoever takes messages in.
	MaxPerSession int `env:"OUTBOX_MAX_PER_SESSION" default:"200" doc:"Messages of one session that may wait for AXP; more are refused with RATE_LIMITED. 0: no bound."`
	MaxPerAccount int `env:"OUTBOX_MAX_PER_ACCOUNT" default:"2000" doc:"Messages of one account that may wait for AXP in each of the OUTBOX_PARTITIONS; more are refused with RATE_LIMITED. A partition works on 4096 at once, and one account's outage must leave room for the others. 0: no bound."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	positive := func(key string, d time.Duration) {
		if d <= 0 {
			ms = append(ms, config.Mistake{Key: key, Problem: "must be more than 0"})
		}
	}
	positive("OUTBOX_MAX_AGE", c.MaxAge)
	positive("OUTBOX_HOLD_MAX", c.HoldMax)
	positive("OUTBOX_RETRY_MIN", c.RetryMin)
	positive("OUTBOX_REFRESH_AFTER", c.RefreshAfter)
	if c.MaxPerSession < 0 {
		ms = append(ms, config.Mistake{Key: "OUTBOX_MAX_PER_SESSION", Problem: "must not be negative"})
	}
	if c.MaxPerAccount < 0 {
		ms = append(ms, config.Mistake{Key: "OUTBOX_MAX_PER_ACCOUNT", Problem: "must not be negative"})
	}
	if c.RetryMax < c.RetryMin {
		ms = append(ms, config.Mistake{Key: "OUTBOX_RETRY_MAX", Problem: "must be at least OUTBOX_RETRY_MIN"})
	}
	return ms
}

// longestRefresh bounds the pause between two looks at a chat in AXP.
const longestRefresh = time.Minute

// Engagements is what the sender needs to know and do about engagements.
type Engagements interface {
	// Refresh asks AXP how an engagement stands.
	Refresh(ctx context.Context, ref records.Ref) error
	// Resolve settles a creation that a crash has left over.
	Resolve(ctx context.Context, ref records.Ref) error
	// Disconnect ends an engagement.
	Disconnect(ctx context.Context, ref records.Ref, reason axpchatv1.CloseReason) error
}

// SenderParams is what NewSender needs; all of it is required.
type SenderParams struct {
	Config      Config
	Bus         *bus.Bus
	Records     *records.Records
	Journal     *journal.Journal
	Watch       *records.Watch
	Accounts    *accounts.Registry
	Engagements Engagements
	Log         *slog.Logger
	Meter       metric.Meter
	Now         func() time.Time
}

// Sender carries out outbox entries. It is safe for concurrent use.
type Sender struct {
	p      SenderParams
	meters *meters
	panics *panics.Watch
}

// NewSender makes a sender.
func NewSender(p SenderParams) (*Sender, error) {
	m, err := newMeters(p.Meter)
	if err != nil {
		return nil, err
	}
	return &Sender{p: p, meters: m, panics: panics.New(p.Log, p.Meter)}, nil
}

// Item is an entry to work on.
type Item struct {
	Entry    *busv1.OutboxEntry
	delivery delivery
	tenure   *tenure
}

func (it *Item) ref() records.Ref {
	return records.Ref{Account: it.Entry.GetAccount(), Session: it.Entry.GetSessionId(), Engagement: it.Entry.GetEngagementId()}
}

// pause waits for d, or until woken; an error when the work must be left.
func (it *Item) pause(ctx context.Context, d time.Duration, woken <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-it.tenure.leaving:
		return errStopping
	case <-woken:
	case <-t.C:
	}
	if it.tenure.Over() {
		return errStopping
	}
	return nil
}

// tries is how often an entry is worked at most that makes us panic. The messages
// behind it wait meanwhile, with RetryMin before the second one.
const tries = 4

// Work carries out an entry: it returns nil when nothing is left to do, and an
// error when it had to stop before.
//
// One that makes us panic every time is failed, so that its customer knows and what
// is behind it goes on. Where that can't be done, whoever has called sets it aside.
func (s *Sender) Work(ctx context.Context, it *Item) error {
	for n := 1; ; n++ {
		var left error
		err := s.panics.Do(ctx, "outbox", func() error {
			left = s.work(ctx, it)
			return nil
		}, "try", n)
		if err == nil {
			return left
		}
		it.delivery.again = true // what was begun may have reached AXP
		if n == tries {
			return s.broken(ctx, it)
		}
		if err := it.pause(ctx, patience.Backoff(n, s.p.Config.RetryMin, s.p.Config.RetryMax, 0), nil); err != nil {
			return err
		}
	}
}

// broken gives an entry up.
func (s *Sender) broken(ctx context.Context, it *Item) error {
	if it.Entry.GetMessage() == nil {
		return errGivenUp
	}
	return s.fail(ctx, it, brokenFailure())
}

// brokenFailure is why a message fails that can't be worked.
func brokenFailure() *axpchatv1.MessageFailure {
	return failure(axpchatv1.ErrorReason_ERROR_REASON_INTERNAL, "The message could not be sent."+mayHaveArrived)
}

func (s *Sender) work(ctx context.Context, it *Item) error {
	switch {
	case it.Entry.GetMessage() != nil:
		return s.message(ctx, it)
	case it.Entry.GetEnd() != nil:
		return s.endEngagement(ctx, it)
	default:
		// A newer version's entry. It must not be lost, and what is behind it must
		// not overtake it: wait until a newer version has the partition.
		s.p.Log.WarnContext(ctx, "outbox entry of a kind that this version does not know; waiting for a newer one")
		for {
			if err := it.pause(ctx, s.p.Config.RetryMax, nil); err != nil {
				return err
			}
		}
	}
}

// ready is what an engagement's state says about sending.
type ready int

const (
	notYet ready = iota
	now
	never
)

func readiness(rec *busv1.EngagementRecord) ready {
	switch status := rec.GetEngagement().GetStatus(); {
	case state.Over(status):
		return never
	case rec.GetEngagement().GetAxpDialogId() == "":
		return notYet
	case status == axpchatv1.EngagementStatus_ENGAGEMENT_STATUS_ENDING:
		// The customer does not want to wait any longer: now or never.
		return now
	case state.WasActive(rec):
		return now
	default:
		return notYet
	}
}

// await waits until the engagement can take messages. It returns a failure
// where it never will, and an error when the work must be left.
func (s *Sender) await(ctx context.Context, it *Item) (*busv1.EngagementRecord, *axpchatv1.MessageFailure, error) {
	woken, off := s.p.Watch.On(it.ref())
	defer off()
	refresh, looked := s.p.Config.RefreshAfter, s.p.Now()
	for failures := 0; ; {
		rec, _, err := s.p.Records.Get(ctx, it.ref())
		if s.left(it) <= 0 {
			return rec, failure(axpchatv1.ErrorReason_ERROR_REASON_MESSAGE_EXPIRED, "The message could not be sent in time."), nil
		}
		if s.unserved(it) {
			return rec, failure(axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN, "The company's account is not served here any more."), nil
		}
		switch {
		case errors.Is(err, bus.ErrNotFound):
			return nil, failure(axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_NOT_FOUND, "The chat could not be started."), nil
		case err != nil:
			failures++
			if err := it.pause(ctx, patience.Backoff(failures, s.p.Config.RetryMin, s.p.Config.RetryMax, 0), nil); err != nil {
				return nil, nil, err
			}
			continue
		}
		failures = 0
		switch readiness(rec) {
		case now:
			return rec, nil, nil
		case never:
			return rec, failure(axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_ENDED, "The chat ended before the message could be sent."), nil
		}
		left := it.Entry.GetAcceptTime().AsTime().Add(s.p.Config.HoldMax).Sub(s.p.Now())
		if left <= 0 {
			return rec, failure(axpchatv1.ErrorReason_ERROR_REASON_MESSAGE_EXPIRED, "The chat did not become active in time."), nil
		}
		if err := it.pause(ctx, min(left, refresh), woken); err != nil {
			return nil, nil, err
		}
		if s.p.Now().Sub(looked) >= refresh {
			s.look(ctx, it.ref(), rec)
			refresh, looked = min(2*refresh, longestRefresh), s.p.Now()
		}
	}
}

// look repairs a record that callbacks should have brought forward. Its result
// shows in the record; failing is tried again later.
func (s *Sender) look(ctx context.Context, ref records.Ref, rec *busv1.EngagementRecord) {
	var err error
	if rec.GetEngagement().GetAxpDialogId() == "" {
		err = s.p.Engagements.Resolve(ctx, ref)
	} else {
		err = s.p.Engagements.Refresh(ctx, ref)
	}
	if err != nil && ctx.Err() == nil {
		s.p.Log.DebugContext(ctx, "an engagement could not be looked up", "error", err)
	}
}

// endEngagement disconnects. Everything accepted before it has been settled,
// for the queue is in order. It is tried until it works: an agent must not be
// left with a customer who is gone.
func (s *Sender) endEngagement(ctx context.Context, it *Item) error {
	woken, off := s.p.Watch.On(it.ref())
	defer off()
	for n := 1; ; n++ {
		rec, _, err := s.p.Records.Get(ctx, it.ref())
		if errors.Is(err, bus.ErrNotFound) || (err == nil && state.Over(rec.GetEngagement().GetStatus())) {
			return nil
		}
		if err == nil && it.tenure.Over() {
			return errStopping
		}
		if err == nil {
			err = s.disconnect(ctx, it, rec)
		}
		if err == nil {
			continue // looked at once more: the record says whether it is over
		}
		if s.left(it) <= 0 || !again(err) || s.unserved(it) {
			s.p.Log.ErrorContext(ctx, "a chat could not be ended in AXP; it counts as ended here", "error", err)
			return s.insist(ctx, it, func(ctx context.Context) error {
				return s.terminate(ctx, it.ref(), it.Entry.GetEnd().GetReason())
			})
		}
		s.p.Log.WarnContext(ctx, "a chat can't be ended in AXP yet", "error", err)
		if err := it.pause(ctx, patience.Backoff(n, s.p.Config.RetryMin, s.p.Config.RetryMax, retryAfter(err)), woken); err != nil {
			return err
		}
		if err := s.turn(ctx, it); err != nil {
			return err
		}
	}
}

// errHalfMade is why an engagement can't be ended yet.
var errHalfMade = errors.New("outbox: the engagement is still being created")

func (s *Sender) disconnect(ctx context.Context, it *Item, rec *busv1.EngagementRecord) error {
	ctx, cancel := it.call(ctx)
	defer cancel()
	if rec.GetEngagement().GetAxpDialogId() == "" {
		if err := s.p.Engagements.Resolve(ctx, it.ref()); err != nil {
			return err
		}
		return errHalfMade
	}
	return s.p.Engagements.Disconnect(ctx, it.ref(), it.Entry.GetEnd().GetReason())
}

func (s *Sender) terminate(ctx context.Context, ref records.Ref, reason axpchatv1.CloseReason) error {
	_, err := s.p.Records.Change(ctx, ref, func(rec *busv1.EngagementRecord) error {
		if !state.Over(rec.GetEngagement().GetStatus()) {
			state.Terminate(rec, reason, s.p.Now())
		}
		return nil
	})
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	return err
}

// call is the context of calls to AXP: cutting one off because the tenure has
// ended would only make its outcome unknown. The life of the worker bounds it.
func (it *Item) call(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience.Attempt)
	stop := context.AfterFunc(it.tenure.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// unserved tells whether the entry is to be given up because its account is not
// served any more.
func (s *Sender) unserved(it *Item) bool {
	return s.p.Accounts.Outlived(it.Entry.GetAccount(), it.Entry.GetAcceptTime().AsTime(), s.p.Now())
}

// left is how long the entry may still be tried.
func (s *Sender) left(it *Item) time.Duration {
	return s.p.Config.MaxAge - s.p.Now().Sub(it.Entry.GetAcceptTime().AsTime())
}

// insist repeats what needs nothing but NATS until it works.
func (s *Sender) insist(ctx context.Context, it *Item, f func(context.Context) error) error {
	for n := 1; ; n++ {
		err := f(ctx)
		if err == nil {
			return nil
		}
		s.p.Log.WarnContext(ctx, "the outbox can't write to NATS", "error", err)
		if err := it.pause(ctx, patience.Backoff(n, s.p.Config.RetryMin, s.p.Config.RetryMax, 0), nil); err != nil {
			return err
		}
	}
}

// again tells whether a failed call may work later. Refused credentials may:
// an operator can mend them while the message waits.
func again(err error) bool {
	if _, ok := errors.AsType[*axp.Error](err); !ok {
		return true // NATS, or a half-made engagement
	}
	return axp.Temporary(err) || axp.IsCredentials(err)
}

func retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*axp.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

func failure(reason axpchatv1.ErrorReason, detail string) *axpchatv1.MessageFailure {
	return &axpchatv1.MessageFailure{Reason: errs.Name(reason), Detail: detail}
}
