// Package accounts owns which AXP accounts (tenants) are served and the AXP
// client of each. An account that is not configured is refused here, before
// anything is stored or sent. It never holds state of sessions.
package accounts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// Params is what New needs.
type Params struct {
	Accounts  []axp.Account
	Config    axp.Config
	Log       *slog.Logger
	Providers *telemetry.Providers
	UserAgent string
}

// Registry is the set of accounts served. It is safe for concurrent use.
type Registry struct {
	clients map[string]*axp.Client
}

// New makes a client for each account. It calls nobody. Close ends the clients.
func New(p Params) (r *Registry, err error) {
	r = &Registry{clients: make(map[string]*axp.Client, len(p.Accounts))}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for _, a := range p.Accounts {
		if _, twice := r.clients[a.AccountID]; twice {
			return r, fmt.Errorf("account %s is configured twice", a.AccountID)
		}
		c, err := axp.NewClient(axp.Params{
			Account: a, Config: p.Config, Log: p.Log, Providers: p.Providers, UserAgent: p.UserAgent,
		})
		if err != nil {
			return r, fmt.Errorf("account %s: %w", a.AccountID, err)
		}
		r.clients[a.AccountID] = c
	}
	return r, nil
}

// Client is the AXP client of an account.
func (r *Registry) Client(account string) (*axp.Client, error) {
	c, ok := r.clients[account]
	if !ok {
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN, "the account is not served here")
	}
	return c, nil
}

// Clients are the clients of all accounts, by account id.
func (r *Registry) Clients() []*axp.Client {
	out := make([]*axp.Client, 0, len(r.clients))
	for _, c := range r.clients {
		out = append(out, c)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].AccountID() < out[j].AccountID() })
	return out
}

// CheckCredentials asks AXP for a token of each account, all at once. It is for
// the start: a wrong secret shall be seen before a customer meets it, yet not
// keep the others from being served. The clients log who is refused; log gets
// how many there are.
func (r *Registry) CheckCredentials(ctx context.Context, log *slog.Logger) {
	var (
		group sync.WaitGroup
		bad   atomic.Int64
	)
	for _, c := range r.clients {
		group.Go(func() {
			if err := c.CheckCredentials(ctx); err != nil {
				bad.Add(1)
			}
		})
	}
	group.Wait()
	if n := bad.Load(); n > 0 && ctx.Err() == nil {
		log.WarnContext(ctx, "accounts without an access token of AXP", "accounts", n, "of", len(r.clients))
	}
}

// Close ends every client.
func (r *Registry) Close() error {
	var faults []error
	for _, c := range r.Clients() {
		faults = append(faults, c.Close())
	}
	return errors.Join(faults...)
}
