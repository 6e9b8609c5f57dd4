package accounts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// Set replaces the list of accounts: those that are new are served from now on,
// those that are missing leave, changed credentials are used for the next token,
// and an account that differs in anything else gets another client. Where a
// client can't be made an error says so, and nothing has changed.
func (r *Registry) Set(ctx context.Context, list []axp.Account) error {
	c, err := r.replace(list)
	if err != nil {
		return err
	}
	for _, note := range c.notes {
		note(ctx)
	}
	r.checkNew(c.check) //nolint:contextcheck // the check outlives the call that brings the change
	r.tell()
	return nil
}

// checkNew asks AXP for tokens, so that a wrong secret is seen before a customer
// meets it. The clients log who is refused.
func (r *Registry) checkNew(clients []*axp.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	for _, c := range clients {
		r.wg.Go(func() {
			ctx, cancel := context.WithTimeout(r.life, checkTime)
			defer cancel()
			_ = c.CheckCredentials(ctx)
		})
	}
}

// change is what became of a replacement.
type change struct {
	notes []func(ctx context.Context) // for the log
	check []*axp.Client               // whose credentials are new
}

func (c *change) note(n func(ctx context.Context)) { c.notes = append(c.notes, n) }

// replace makes a snapshot of a list and puts it into force.
func (r *Registry) replace(list []axp.Account) (*change, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("accounts: the registry is closed")
	}
	old := r.current.Load()
	made, err := r.make(old, list)
	if err != nil {
		return nil, err
	}
	next := &snapshot{serving: make(map[string]Served, len(list)), leaving: maps.Clone(old.leaving)}
	if next.leaving == nil {
		next.leaving = map[string]Served{}
	}
	out := &change{}
	for _, a := range list {
		r.serve(old, next, made, a, out)
	}
	for id, was := range old.serving {
		if _, stays := next.serving[id]; !stays {
			next.leaving[id] = was
			r.leaveLocked(id)
			out.note(func(ctx context.Context) {
				r.p.Log.InfoContext(ctx, "an account was taken off the list; it takes nothing new, and what is open goes on for the grace", "account", id, "grace", r.p.Config.Grace)
			})
		}
	}
	r.current.Store(next)
	return out, nil
}

// make makes the clients that a list needs and that are not there.
func (r *Registry) make(old *snapshot, list []axp.Account) (made map[string]*axp.Client, err error) {
	made = map[string]*axp.Client{}
	defer func() {
		if err != nil {
			for _, c := range made {
				err = errors.Join(err, c.Close())
			}
		}
	}()
	seen := map[string]bool{}
	for _, a := range list {
		if seen[a.AccountID] {
			return made, fmt.Errorf("account %s %w", a.AccountID, errTwice)
		}
		seen[a.AccountID] = true
		if have, ok := old.find(a.AccountID); ok && have.Account.SameBut(a) {
			continue
		}
		c, err := r.clientFor(a)
		if err != nil {
			return made, err
		}
		made[a.AccountID] = c
	}
	return made, nil
}

func (s *snapshot) find(account string) (Served, bool) {
	if served, ok := s.serving[account]; ok {
		return served, true
	}
	served, ok := s.leaving[account]
	return served, ok
}

// serve puts one account into the next snapshot.
func (r *Registry) serve(old, next *snapshot, made map[string]*axp.Client, a axp.Account, out *change) {
	id := a.AccountID
	have, known := old.find(id)
	log := r.p.Log.With("account", id)
	if stays, leaves := r.leaving[id]; leaves {
		close(stays)
		delete(r.leaving, id)
		delete(next.leaving, id)
		out.note(func(ctx context.Context) { log.InfoContext(ctx, "an account that was leaving is served again") })
	}
	client, fresh := made[id]
	switch {
	case fresh && known:
		have.Client.Retire()
		r.given[have.Client] = false
		out.note(func(ctx context.Context) {
			log.InfoContext(ctx, "an account has changed; its calls are made by another client")
		})
	case fresh:
		out.note(func(ctx context.Context) { log.InfoContext(ctx, "an account was added") })
	default:
		client = have.Client
		if have.Account.ClientID != a.ClientID || have.Account.ClientSecret != a.ClientSecret || have.Account.AppKey != a.AppKey {
			client.SetCredentials(a)
			out.check = append(out.check, client)
			out.note(func(ctx context.Context) { log.InfoContext(ctx, "the credentials of an account have changed") })
		}
	}
	if fresh {
		out.check = append(out.check, client)
	}
	next.serving[id] = Served{Account: a, Client: client}
}

// leaveLocked ends an account's service when its grace is over.
func (r *Registry) leaveLocked(id string) {
	stays := make(chan struct{})
	r.leaving[id] = stays
	r.wg.Go(func() {
		t := time.NewTimer(r.p.Config.Grace)
		defer t.Stop()
		select {
		case <-r.life.Done():
		case <-stays:
		case <-t.C:
			r.gone(id, stays)
		}
	})
}

// gone takes an account that has left out of the snapshot.
func (r *Registry) gone(id string, stays <-chan struct{}) {
	r.mu.Lock()
	select {
	case <-stays: // it is served again
		r.mu.Unlock()
		return
	default:
	}
	delete(r.leaving, id)
	old := r.current.Load()
	next := &snapshot{serving: old.serving, leaving: maps.Clone(old.leaving)}
	r.given[old.leaving[id].Client] = false
	delete(next.leaving, id)
	r.current.Store(next)
	r.mu.Unlock()
	r.p.Log.InfoContext(r.life, "an account is not served any more", "account", id)
	r.tell()
}

// tell says that All may have changed.
func (r *Registry) tell() {
	select {
	case r.changed <- struct{}{}:
	default: // it is said already
	}
}

// Release says that a client which is not in All any more is needed for nothing
// new. It is closed when nobody uses it.
func (r *Registry) Release(c *axp.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	released, given := r.given[c]
	if !given || released || r.closed {
		return
	}
	r.given[c] = true
	c.Retire()
	r.wg.Go(func() {
		if !r.awaitQuiet(c) {
			return // Close closes it
		}
		r.mu.Lock()
		delete(r.given, c)
		r.mu.Unlock()
		_ = c.Close() // it has no way to fail
	})
}

// awaitQuiet waits until nobody uses a client; false where the registry ends
// first.
func (r *Registry) awaitQuiet(c *axp.Client) bool {
	tick := time.NewTicker(quietLook)
	defer tick.Stop()
	for looks := 0; looks < int(quiet/quietLook); looks++ {
		select {
		case <-r.life.Done():
			return false
		case <-tick.C:
		}
		if !c.Idle() {
			looks = 0
		}
	}
	return true
}

// Kept tells whether the webhook subscription of a client that was given up
// serves another client now: the same account, element and origin.
func (r *Registry) Kept(was Served) bool {
	return slices.ContainsFunc(r.All(), func(s Served) bool {
		return s.Account.AccountID == was.Account.AccountID && s.Account.ChannelProviderID == was.Account.ChannelProviderID &&
			s.Account.BaseURL == was.Account.BaseURL
	})
}
