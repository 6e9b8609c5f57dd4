// Package sessions owns what the gateway reads of session and engagement state:
// whether a session belongs to a customer, and the picture that a client gets
// when it connects. It reads the buckets directly, so that streams open while
// the orchestrator restarts. It never writes state.
package sessions

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/gateway/internal/delivery"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// Reader reads session state. It is safe for concurrent use.
type Reader struct {
	bus *bus.Bus
}

// NewReader returns a reader.
func NewReader(b *bus.Bus) *Reader { return &Reader{bus: b} }

// Owned returns the session if it belongs to the customer. It fails with
// SESSION_NOT_FOUND, also where the session is somebody else's: nobody learns
// that it exists.
func (r *Reader) Owned(ctx context.Context, p *auth.Principal, session string) (*busv1.SessionRecord, error) {
	rec, _, err := r.Look(ctx, p, session)
	return rec, err
}

// Look is Owned with the record's revision: a replica may answer with an older one
// than Watch has told of.
func (r *Reader) Look(ctx context.Context, p *auth.Principal, session string) (*busv1.SessionRecord, uint64, error) {
	if !bus.ValidToken(p.Account) || !bus.ValidToken(session) {
		return nil, 0, notFound()
	}
	rec, revision, err := r.bus.Sessions.Get(ctx, bus.SessionKeyOf(p.Account, session))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, 0, notFound()
	}
	if err != nil {
		return nil, 0, unavailable(err)
	}
	if !bus.OwnedBy(rec, p.Subject, p.Anonymous) {
		return nil, 0, notFound()
	}
	return rec, revision, nil
}

// Revision is the one that a change which Watch tells of has made; 0: it does not
// say.
func Revision(change *nats.Msg) uint64 {
	revision, _ := strconv.ParseUint(change.Header.Get(jetstream.SequenceHeader), 10, 64) // 0 where it is none
	return revision
}

// Watch tells by the channel that the session's record has changed, until the
// returned function is called. What is read after Watch has returned is at least
// as new as what Watch does not tell of.
func (r *Reader) Watch(account, session string) (<-chan *nats.Msg, func(), error) {
	if !bus.ValidToken(account) || !bus.ValidToken(session) {
		return nil, nil, notFound()
	}
	changed := make(chan *nats.Msg, 1) // one is enough to look again
	subject := strings.TrimSuffix(r.bus.Sessions.ChangesSubject(), ">") + bus.SessionKeyOf(account, session)
	sub, err := r.bus.NC.ChanSubscribe(subject, changed)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	return changed, func() { _ = sub.Unsubscribe() }, nil // it fails only when the connection is gone, and the subscription with it
}

// Engagements returns the session's engagements and those that it has joined,
// oldest first.
func (r *Reader) Engagements(ctx context.Context, account string, rec *busv1.SessionRecord) ([]*axpchatv1.Engagement, error) {
	session := rec.GetSession().GetSessionId()
	keys := make([]string, 0, len(rec.GetEngagementIds())+len(rec.GetJoined()))
	for _, id := range rec.GetEngagementIds() {
		keys = append(keys, bus.EngagementKey(account, session, id))
	}
	for _, joined := range rec.GetJoined() {
		keys = append(keys, account+"."+joined)
	}
	out := make([]*axpchatv1.Engagement, 0, len(keys))
	for _, key := range keys {
		e, _, err := r.bus.Engagements.Get(ctx, key)
		if errors.Is(err, bus.ErrNotFound) {
			continue // older than what is remembered
		}
		if err != nil {
			return nil, unavailable(err)
		}
		out = append(out, e.GetEngagement())
	}
	slices.SortStableFunc(out, func(a, b *axpchatv1.Engagement) int {
		return a.GetCreateTime().AsTime().Compare(b.GetCreateTime().AsTime())
	})
	return out, nil
}

// Joined are the engagements of other sessions that the session has joined.
func Joined(account string, rec *busv1.SessionRecord) []delivery.Joined {
	var out []delivery.Joined
	for _, joined := range rec.GetJoined() {
		if owner, id, ok := strings.Cut(joined, "."); ok && bus.ValidToken(owner) {
			out = append(out, delivery.Joined{Session: bus.SessionKey{Account: account, Session: owner}, Engagement: id})
		}
	}
	return out
}

// Journal tells whose journal holds the engagement: the session that started
// it. It fails with ENGAGEMENT_NOT_FOUND where the session has no part in it.
func Journal(account string, rec *busv1.SessionRecord, engagement string) (bus.SessionKey, error) {
	session := rec.GetSession().GetSessionId()
	if slices.Contains(rec.GetEngagementIds(), engagement) {
		return bus.SessionKey{Account: account, Session: session}, nil
	}
	for _, joined := range rec.GetJoined() {
		if owner, id, ok := strings.Cut(joined, "."); ok && id == engagement {
			return bus.SessionKey{Account: account, Session: owner}, nil
		}
	}
	return bus.SessionKey{}, errs.New(axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_NOT_FOUND, "the session has no such engagement")
}

func notFound() error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, "there is no such session")
}

func unavailable(err error) error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "the state of the session can't be read at the moment").WithCause(err)
}
