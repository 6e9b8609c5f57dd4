// Package route owns the decision whose event a callback is: which session's
// journal gets it, and which engagement it belongs to.
//
// The usual way needs no look-up, for AXP repeats the providerDialogId that the
// orchestrator made: session, engagement and a proof. Where it is missing or not
// ours, the index that the orchestrator keeps is asked, by what AXP says; since
// a callback may overtake the answer that the orchestrator learns AXP's ids
// from, it is asked for a short while before the event counts as nobody's.
//
// It never stores an event and never trusts a name or a recipient. A
// providerDialogId with a wrong proof ends the search: it is a forgery, and
// nothing else in such a body is believed.
package route

import (
	"context"
	"errors"
	"fmt"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/normalise"
)

var (
	// ErrForged is returned for a providerDialogId that looks like ours, but
	// whose proof does not hold.
	ErrForged = errors.New("the proof in providerDialogId does not hold")
	// ErrNobody is returned where no session is known for the event.
	ErrNobody = errors.New("no session is known for the event")
)

// Target is whose event it is.
type Target struct {
	Session    string
	Engagement string // empty where the event belongs to none, or to one that is not known
}

// Index is what the orchestrator notes about AXP's ids.
type Index interface {
	Get(ctx context.Context, key string) (*busv1.IndexRecord, uint64, error)
}

// Router finds targets. It is safe for concurrent use.
type Router struct {
	keys  *keyring.Keyring
	index Index
	wait  time.Duration
	holds chan struct{}
}

// Params is what New needs.
type Params struct {
	Keys  *keyring.Keyring
	Index Index
	Wait  time.Duration // how long an event may be held for the index
	Holds int           // how many events may be held at a time
}

// New makes a router.
func New(p Params) *Router {
	return &Router{keys: p.Keys, index: p.Index, wait: p.Wait, holds: make(chan struct{}, max(p.Holds, 1))}
}

const (
	firstPause   = 50 * time.Millisecond
	longestPause = 400 * time.Millisecond
	// lookUpTime is what the first look-up may take, also where the wait is
	// shorter: the wait is for the orchestrator, not for NATS.
	lookUpTime = time.Second
)

// Find returns the target of an event of an account. It returns ErrForged or
// ErrNobody, or another error where the index could not be read: then it is not
// known whether the event is somebody's. It takes at most the router's wait, or
// a second where that is longer, and ends with ctx.
func (r *Router) Find(ctx context.Context, account string, k normalise.Keys) (Target, error) {
	if target, told, err := r.Told(account, k); told {
		return target, err
	}
	return r.Search(ctx, account, k)
}

// Told returns the target that the event itself tells, or ErrForged where it lies;
// false where it tells none, and [Router.Search] has to find it.
func (r *Router) Told(account string, k normalise.Keys) (Target, bool, error) {
	switch id, verdict := r.keys.ParseDialogID(account, k.ProviderDialogID); verdict {
	case keyring.Ours:
		return Target{Session: id.Session, Engagement: id.Engagement}, true, nil
	case keyring.Forged:
		return Target{}, true, ErrForged
	default:
		return Target{}, false, nil
	}
}

// Search is [Router.Find] for an event that does not tell its target.
func (r *Router) Search(ctx context.Context, account string, k normalise.Keys) (Target, error) {
	held, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	first, cancelFirst := context.WithTimeout(ctx, lookUpTime)
	target, err := r.lookUp(first, account, k)
	cancelFirst()
	if err == nil || held.Err() != nil {
		return target, err
	}
	// A flood of strange events must not tie up every call that AXP makes.
	select {
	case r.holds <- struct{}{}:
		defer func() { <-r.holds }()
	default:
		return Target{}, err
	}
	return r.hold(held, account, k, err)
}

// hold asks again until ctx ends; err is what came of asking before.
func (r *Router) hold(ctx context.Context, account string, k normalise.Keys, err error) (Target, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if !sleep(ctx, pause) {
			return Target{}, err
		}
		target, nextErr := r.lookUp(ctx, account, k)
		if nextErr == nil {
			return target, nil
		}
		// A look-up that the deadline cut short says nothing new.
		if ctx.Err() == nil {
			err = nextErr
		}
	}
}

// lookUp asks the index, the most telling id first.
func (r *Router) lookUp(ctx context.Context, account string, k normalise.Keys) (Target, error) {
	if k.DialogID != "" {
		if t, err := r.get(ctx, bus.IndexDialog(account, k.DialogID)); !errors.Is(err, ErrNobody) {
			return t, err
		}
	}
	if k.EngagementID != "" {
		if t, err := r.get(ctx, bus.IndexEngagement(account, k.EngagementID)); !errors.Is(err, ErrNobody) {
			return t, err
		}
	}
	if k.SessionID != "" {
		t, err := r.get(ctx, bus.IndexSession(account, k.SessionID))
		// A session may hold several engagements, and may have joined one of
		// another session, whose journal is another one: without knowing which
		// engagement is meant the session alone decides nothing.
		hasEngagement := k.EngagementID != "" || k.DialogID != ""
		if err == nil && (t.Engagement != "" || !hasEngagement) {
			return t, nil
		}
		if err != nil && !errors.Is(err, ErrNobody) {
			return Target{}, err
		}
	}
	if k.CorrelationID != "" {
		return r.get(ctx, bus.IndexCorrelation(account, k.CorrelationID))
	}
	return Target{}, ErrNobody
}

func (r *Router) get(ctx context.Context, key string) (Target, error) {
	rec, _, err := r.index.Get(ctx, key)
	if errors.Is(err, bus.ErrNotFound) {
		return Target{}, ErrNobody
	}
	if err != nil {
		return Target{}, fmt.Errorf("look up a session: %w", err)
	}
	if !bus.ValidToken(rec.GetSessionId()) {
		return Target{}, ErrNobody
	}
	return Target{Session: rec.GetSessionId(), Engagement: rec.GetEngagementId()}, nil
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
