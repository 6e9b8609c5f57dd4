// Package accounts owns which AXP accounts (tenants) are served and the AXP
// client of each, while accounts come, go and change their credentials. An
// account that is not served is refused here, before anything is stored or sent.
// It never holds state of sessions.
//
// An account that is taken off the list leaves: for a grace what it has goes on
// as before, so that open chats and accepted messages come to their end, but
// nothing new begins. After that it is not served any more, and its client is
// closed when whoever looks after its webhook subscription has released it and
// no call is under way.
//
// Readers see an immutable snapshot: a lookup takes no lock, and what was looked
// up stays usable for as long as a command may take, whatever changes meanwhile.
// Changes are made one at a time.
package accounts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
)

// Config holds the figures of a Registry.
type Config struct {
	// Grace is how long a removed account's open chats and messages go on.
	Grace time.Duration `env:"ACCOUNT_REMOVAL_GRACE" default:"5m" doc:"How long the open chats and accepted messages of an account go on after it was taken off the list; messages that are still waiting then fail with ACCOUNT_UNKNOWN, and the webhook subscription is deleted."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	if c.Grace < 0 {
		return []config.Mistake{{Key: "ACCOUNT_REMOVAL_GRACE", Problem: "must not be negative"}}
	}
	return nil
}

const (
	// quiet is how long nobody must have used a client that is given up: longer
	// than any command may take that has looked it up before.
	quiet = patience.Leftover
	// quietLook is the pause between two looks at such a client.
	quietLook = time.Second
	// checkTime bounds the question whether AXP takes an account's credentials.
	checkTime = 30 * time.Second
)

// Params is what New needs.
type Params struct {
	Accounts  []axp.Account
	Config    Config
	AXP       axp.Config
	Log       *slog.Logger
	Providers *telemetry.Providers
	UserAgent string
}

// Served is an account with its client.
type Served struct {
	Account axp.Account
	Client  *axp.Client
}

// snapshot is the accounts at a moment. It never changes.
type snapshot struct {
	serving map[string]Served
	leaving map[string]Served
}

// Registry is the set of accounts served. It is safe for concurrent use.
type Registry struct {
	p       Params
	current atomic.Pointer[snapshot]
	changed chan struct{}
	life    context.Context //nolint:containedctx // the life of the registry, not of a call
	end     context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex // held by whoever makes a change
	closed  bool
	leaving map[string]chan struct{} // closed when an account stays after all
	given   map[*axp.Client]bool     // given up, but not closed; true: released
}

// New makes a client for each account. It calls nobody. Close ends the clients.
func New(p Params) (*Registry, error) {
	life, end := context.WithCancel(context.Background())
	r := &Registry{
		p: p, changed: make(chan struct{}, 1), life: life, end: end,
		leaving: map[string]chan struct{}{}, given: map[*axp.Client]bool{},
	}
	r.current.Store(&snapshot{})
	if _, err := r.replace(p.Accounts); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Client is the AXP client of an account that is served, or leaves. It is for
// what has begun already; what begins asks Accepts as well. It may be used for as
// long as a command takes (patience.Attempt), not kept.
func (r *Registry) Client(account string) (*axp.Client, error) {
	s := r.current.Load()
	if served, ok := s.serving[account]; ok {
		return served.Client, nil
	}
	if served, ok := s.leaving[account]; ok {
		return served.Client, nil
	}
	return nil, unknown()
}

// Accepts fails with ACCOUNT_UNKNOWN where nothing new may begin for the account.
func (r *Registry) Accepts(account string) error {
	if _, ok := r.current.Load().serving[account]; !ok {
		return unknown()
	}
	return nil
}

func unknown() error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN, "the account is not served here")
}

// Outlived tells whether something that was accepted at a time is to be given up
// because its account is not served. For the length of the grace it is not:
// another replica, which has accepted it, may have heard of the account earlier.
func (r *Registry) Outlived(account string, accepted, now time.Time) bool {
	_, err := r.Client(account)
	return err != nil && now.Sub(accepted) >= r.p.Config.Grace
}

// All are the accounts that are served or leave, by account id: those that must
// get AXP's callbacks.
func (r *Registry) All() []Served {
	s := r.current.Load()
	out := slices.AppendSeq(slices.Collect(maps.Values(s.serving)), maps.Values(s.leaving))
	slices.SortFunc(out, func(a, b Served) int { return strings.Compare(a.Account.AccountID, b.Account.AccountID) })
	return out
}

// Changed gets a value when All may have changed.
func (r *Registry) Changed() <-chan struct{} { return r.changed }

// CheckCredentials asks AXP for a token of each account, all at once. It is for
// the start: a wrong secret shall be seen before a customer meets it, yet not
// keep the others from being served. The clients log who is refused; log gets
// how many there are.
func (r *Registry) CheckCredentials(ctx context.Context, log *slog.Logger) {
	var (
		group sync.WaitGroup
		bad   atomic.Int64
	)
	all := r.All()
	for _, s := range all {
		group.Go(func() {
			if err := s.Client.CheckCredentials(ctx); err != nil {
				bad.Add(1)
			}
		})
	}
	group.Wait()
	if n := bad.Load(); n > 0 && ctx.Err() == nil {
		log.WarnContext(ctx, "accounts without an access token of AXP", "accounts", n, "of", len(all))
	}
}

// Close ends every client.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.wg.Wait()
	var faults []error
	for _, s := range r.All() {
		faults = append(faults, s.Client.Close())
	}
	for c := range r.given {
		faults = append(faults, c.Close())
	}
	return errors.Join(faults...)
}

var errTwice = errors.New("is configured twice")

// clientFor makes a client; it calls nobody.
func (r *Registry) clientFor(a axp.Account) (*axp.Client, error) {
	c, err := axp.NewClient(axp.Params{
		Account: a, Config: r.p.AXP, Log: r.p.Log, Providers: r.p.Providers, UserAgent: r.p.UserAgent,
	})
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", a.AccountID, err)
	}
	return c, nil
}
