// Package tickets owns one-time tickets: what a browser puts into the address
// of an EventSource or a WebSocket, where it can't set a header.
//
// A ticket is 256 random bits, stored under their hash, so that who reads the
// bucket can't use it. It works once, for one session and one use, and for half
// a minute. The package knows nothing of HTTP.
package tickets

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/auth"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// Config says how long a ticket works.
type Config struct {
	TTL time.Duration `env:"TICKET_TTL" default:"30s" doc:"How long a one-time ticket works, 1s to 2m."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	if c.TTL < time.Second || c.TTL > 2*time.Minute {
		return []config.Mistake{{Key: "TICKET_TTL", Problem: "must be 1s to 2m"}}
	}
	return nil
}

const ticketBytes = 32

// Desk makes and takes tickets. It is safe for concurrent use; any pod takes
// what another one has made.
type Desk struct {
	cfg Config
	bus *bus.Bus
	now func() time.Time
}

// NewDesk returns a desk.
func NewDesk(cfg Config, b *bus.Bus) *Desk { return &Desk{cfg: cfg, bus: b, now: time.Now} }

// Create makes a ticket of the customer for a session that the caller has
// checked to be the customer's.
func (d *Desk) Create(ctx context.Context, p *auth.Principal, session string, use axpchatv1.TicketUse) (*axpchatv1.CreateTicketResponse, error) {
	secret := make([]byte, ticketBytes)
	_, _ = rand.Read(secret) // never fails, by its own documentation
	ticket := base64.RawURLEncoding.EncodeToString(secret)
	expires := timestamppb.New(d.now().Add(d.cfg.TTL))
	rec := &busv1.TicketRecord{
		Account: p.Account, Subject: p.Subject, SessionId: session, Use: orEvents(use),
		TokenExpireTime: timestamppb.New(p.ExpireTime), Name: p.Name, Verified: p.Verified, Anonymous: p.Anonymous,
		ExpireTime: expires, Identifiers: make(map[string]*axpchatv1.CustomerIdentifierValues, len(p.Identifiers)),
	}
	for name, values := range p.Identifiers {
		rec.Identifiers[name] = &axpchatv1.CustomerIdentifierValues{Values: values}
	}
	if _, err := d.bus.Tickets.Create(ctx, key(ticket), rec, d.cfg.TTL); err != nil {
		return nil, unavailable(err)
	}
	return &axpchatv1.CreateTicketResponse{Ticket: ticket, ExpireTime: expires}, nil
}

// Redeem takes a ticket and returns its customer. Of several callers with one
// ticket one succeeds. It fails with TICKET_INVALID.
func (d *Desk) Redeem(ctx context.Context, ticket, session string, use axpchatv1.TicketUse) (*auth.Principal, error) {
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(ticket); err != nil || len(raw) != ticketBytes {
		return nil, invalid(nil)
	}
	rec, rev, err := d.bus.Tickets.Get(ctx, key(ticket))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, invalid(nil)
	}
	if err != nil {
		return nil, unavailable(err)
	}
	// It is used up even by who uses it wrongly.
	if err := d.bus.Tickets.Delete(ctx, key(ticket), rev); err != nil {
		if errors.Is(err, bus.ErrConflict) {
			return nil, invalid(err)
		}
		return nil, unavailable(err)
	}
	if rec.GetSessionId() != session || rec.GetUse() != orEvents(use) || !d.now().Before(rec.GetExpireTime().AsTime()) {
		return nil, invalid(nil)
	}
	p := &auth.Principal{
		Account: rec.GetAccount(), Subject: rec.GetSubject(), Name: rec.GetName(), Verified: rec.GetVerified(), Anonymous: rec.GetAnonymous(),
		ExpireTime: rec.GetTokenExpireTime().AsTime(), Identifiers: make(map[string][]string, len(rec.GetIdentifiers())),
	}
	for name, values := range rec.GetIdentifiers() {
		p.Identifiers[name] = values.GetValues()
	}
	return p, nil
}

func orEvents(use axpchatv1.TicketUse) axpchatv1.TicketUse {
	if use == axpchatv1.TicketUse_TICKET_USE_UNSPECIFIED {
		return axpchatv1.TicketUse_TICKET_USE_EVENTS
	}
	return use
}

func key(ticket string) string {
	sum := sha256.Sum256([]byte(ticket))
	return hex.EncodeToString(sum[:])
}

func invalid(cause error) error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_TICKET_INVALID, "the ticket is unknown, used or expired, or was made for something else").WithCause(cause)
}

func unavailable(err error) error {
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "tickets can't be handled at the moment").WithCause(err)
}
