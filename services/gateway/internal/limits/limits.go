package limits

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/httpx"
)

// tooMany is how long a client should wait that may not have one more stream:
// others must end first.
const tooMany = 5 * time.Second

// Params is what New needs.
type Params struct {
	Config Config
	Log    *slog.Logger
	Meter  metric.MeterProvider
	// Account is what one account may have instead of what the configuration says.
	// It is asked all the time, and must be quick; nil: nothing.
	Account func(account string) Account
	// Wire carries reports between gateways; nil: this is the only one.
	Wire Wire
}

// Limiter decides on everything that the gateway's clients want. It is safe for
// concurrent use. On a nil Limiter there are no limits.
type Limiter struct {
	log     *slog.Logger
	proxies httpx.Networks
	began   time.Time
	seed    maphash.Seed
	tables  [AccountScope]*table
	shared  *accounts
	limited metric.Int64Counter
}

// New returns a limiter. It tells other gateways nothing until it runs.
func New(p Params) (*Limiter, error) {
	proxies, err := httpx.ParseNetworks(p.Config.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	l := &Limiter{log: p.Log, proxies: proxies, began: time.Now(), seed: maphash.MakeSeed()}
	for scope := range l.tables {
		r, streams := p.Config.rates(Scope(scope))
		l.tables[scope] = newTable(r, streams, p.Config.TableSize)
	}
	l.shared = newAccounts(p)
	l.limited, err = p.Meter.Meter("github.com/axpchat/connector/services/gateway/internal/limits").Int64Counter(
		"axpchat.gateway.limited", metric.WithDescription("What was refused because somebody asked too much, by whose limit it was and of what."))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return l, nil
}

// now is the time of the buckets; it does not jump with the clock on the wall.
func (l *Limiter) now() int64 { return int64(time.Since(l.began)) }

// Origin is where a client comes from, as keys of the limiter that made it. The
// zero value is nowhere: no limits of address and connection.
type Origin struct {
	address, connection uint64
}

// From makes the origin of a connection and what proxies say of it. A connection
// of a trusted proxy carries many clients, so it has no limits.
func (l *Limiter) From(peer string, forwarded []string) Origin {
	if l == nil {
		return Origin{}
	}
	at, err := netip.ParseAddrPort(peer)
	if err != nil {
		return Origin{} // not a network that has addresses, as inside a process
	}
	o := Origin{address: maphash.Comparable(l.seed, block(client(at.Addr(), forwarded, l.proxies)))}
	if !l.proxies.Contain(at.Addr().Unmap()) {
		o.connection = maphash.Comparable(l.seed, at)
	}
	return o
}

// FromAddr is From for an address as connections have it.
func (l *Limiter) FromAddr(peer net.Addr, forwarded []string) Origin {
	if peer == nil {
		return Origin{}
	}
	return l.From(peer.String(), forwarded)
}

// Who is whose call it is.
type Who struct {
	Account, Subject string
	// Session may be empty.
	Session string
	Origin  Origin
}

// keys are those of one client's scopes; 0: the scope has no limits.
type keys [AccountScope]uint64

func (l *Limiter) keys(w Who) keys {
	k := keys{Connection: w.Origin.connection, Address: w.Origin.address}
	k[Customer] = maphash.Comparable(l.seed, [2]string{w.Account, w.Subject})
	if w.Session != "" {
		k[Session] = maphash.Comparable(l.seed, [3]string{w.Account, w.Subject, w.Session})
	}
	return k
}

// Arrive takes a call off its address, before it is known whose it is. It fails
// with RATE_LIMITED.
func (l *Limiter) Arrive(ctx context.Context, o Origin, bytes int64) error {
	if l == nil || o.address == 0 {
		return nil
	}
	kind, wait := l.tables[Address].take(l.now(), o.address, &Cost{Frames: 1, Bytes: bytes})
	if wait > 0 {
		return l.refuse(ctx, Address, kind, wait)
	}
	return nil
}

// Call takes a call off everybody whose it is. Frames and bytes were taken off
// the address by Arrive. It fails with RATE_LIMITED, and takes nothing then.
func (l *Limiter) Call(ctx context.Context, w Who, c Cost) error {
	if l == nil {
		return nil
	}
	k := l.keys(w)
	return l.take(ctx, &k, w.Account, &c, Frames, Bytes)
}

// take takes from the narrow scope to the wide one and gives back where one of
// them refuses. Of arrived the address has paid already.
func (l *Limiter) take(ctx context.Context, k *keys, account string, c *Cost, arrived ...Kind) error {
	now := l.now()
	atAddress := *c
	for _, kind := range arrived {
		atAddress[kind] = 0
	}
	costs := [AccountScope]*Cost{Connection: c, Session: c, Customer: c, Address: &atAddress}
	undo := func(until Scope) {
		for scope := range until {
			if k[scope] != 0 {
				l.tables[scope].giveBack(k[scope], costs[scope])
			}
		}
	}
	for scope := range AccountScope {
		if k[scope] == 0 {
			continue
		}
		if kind, wait := l.tables[scope].take(now, k[scope], costs[scope]); wait > 0 {
			undo(scope)
			return l.refuse(ctx, scope, kind, wait)
		}
	}
	if kind, wait := l.shared.take(now, account, c); wait > 0 {
		undo(AccountScope)
		return l.refuse(ctx, AccountScope, kind, wait)
	}
	return nil
}

func (l *Limiter) refuse(ctx context.Context, s Scope, k Kind, wait time.Duration) error {
	l.limited.Add(ctx, 1, metric.WithAttributes(attribute.String("scope", s.String()), attribute.String("kind", k.String())))
	return errs.Newf(axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED, "too many %s of one %s", k, s).WithRetryAfter(wait)
}

// Stream is an open stream's place. It is used by one goroutine at a time. On a
// nil Stream there are no limits.
type Stream struct {
	l        *Limiter
	keys     keys // of the connection there is none: a stream is one
	account  string
	own      buckets
	refusals int // in a row
}

// Open takes a place for a stream, which must be closed. It fails with
// RATE_LIMITED.
func (l *Limiter) Open(ctx context.Context, w Who) (*Stream, error) {
	if l == nil {
		return nil, nil //nolint:nilnil // a nil Stream works
	}
	s, err := l.Hold(ctx, w)
	if err != nil {
		return nil, err
	}
	if err := l.take(ctx, &s.keys, s.account, &Cost{Connects: 1}); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Hold is Open for a poll, which is a call and opens nothing, but holds as much
// while it waits.
func (l *Limiter) Hold(ctx context.Context, w Who) (*Stream, error) {
	if l == nil {
		return nil, nil //nolint:nilnil // a nil Stream works
	}
	s := &Stream{l: l, keys: l.keys(w), account: w.Account}
	s.keys[Connection] = 0
	for scope := range AccountScope {
		if s.keys[scope] != 0 && !l.tables[scope].enter(s.keys[scope]) {
			s.leave(scope)
			return nil, l.refuse(ctx, scope, kinds, tooMany)
		}
	}
	if !l.shared.enter(l.now(), w.Account) {
		s.leave(AccountScope)
		return nil, l.refuse(ctx, AccountScope, kinds, tooMany)
	}
	return s, nil
}

// Close gives the place back.
func (s *Stream) Close() {
	if s == nil {
		return
	}
	s.leave(AccountScope)
	s.l.shared.leave(s.account)
}

func (s *Stream) leave(until Scope) {
	for scope := range until {
		if s.keys[scope] != 0 {
			s.l.tables[scope].leave(s.keys[scope])
		}
	}
}

// maxRefusals is how many frames in a row a client may send that are refused. It
// was told each time how long to wait; whoever does not is a machine gone wild.
const maxRefusals = 100

// Frame takes a frame off the stream and everybody whose it is. It fails with
// RATE_LIMITED; enough tells that the client has not listened to that, and its
// stream must end.
func (s *Stream) Frame(ctx context.Context, message bool, bytes int) (enough bool, err error) {
	if s == nil {
		return false, nil
	}
	c := Cost{Frames: 1, Bytes: int64(bytes)}
	if message {
		c[Messages] = 1
	}
	kind, wait := s.own.take(s.l.now(), &s.l.tables[Connection].rates, &c)
	if wait > 0 {
		err = s.l.refuse(ctx, Connection, kind, wait)
	} else if err = s.l.take(ctx, &s.keys, s.account, &c); err != nil {
		s.own.giveBack(&s.l.tables[Connection].rates, &c)
	}
	if err == nil {
		s.refusals = 0
		return false, nil
	}
	s.refusals++
	return s.refusals >= maxRefusals, err
}
