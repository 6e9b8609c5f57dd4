package axp

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/session-orchestrator/internal/limiter"
)

// maxAnswer bounds what is read of an answer; media are streamed instead. A
// page of 50 messages, each with text, payload, custom data and rich content of
// the greatest length, escaped, takes several megabytes.
const maxAnswer = 8 << 20

// Params is what NewClient builds a Client from. Account and Log are required.
type Params struct {
	// Account is whom the client serves.
	Account Account
	// Config holds limits and waits; zero fields mean their defaults.
	Config Config
	// Log gets what an operator must know, never content.
	Log *slog.Logger
	// Providers are where spans and metrics go; nil: nowhere.
	Providers *telemetry.Providers
	// TLS configures the client's own transport, for instance with a private
	// authority; nil: the system's.
	TLS *tls.Config
	// Transport replaces the client's own transport.
	Transport http.RoundTripper
	// Clock replaces the machine's clock.
	Clock Clock
	// Jitter replaces the source of randomness of waits; it gives 0 to 1.
	Jitter func() float64
	// UserAgent names the connector to AXP.
	UserAgent string
}

// Client makes the calls of one account. It is safe for concurrent use and
// must be closed.
type Client struct {
	account    Account // but for its credentials
	secrets    atomic.Pointer[credentials]
	config     Config
	origin     *url.URL
	http       *http.Client
	log        *slog.Logger
	clock      Clock
	jitter     func() float64
	observer   *observer
	operations map[string]Operation
	tokens     *tokens
	refusals   *refusals
	limiter    *limiter.Limiter
	breaker    *breaker
	userAgent  string
	failing    atomic.Bool // as was logged
}

// NewClient checks the account and builds its client. It makes no call.
func NewClient(p Params) (*Client, error) {
	p.Account.fill()
	if n := p.Account.ConcurrencyMax; n > 0 {
		p.Config.Limit.Max = n
	}
	if err := p.Account.Validate(); err != nil {
		return nil, fmt.Errorf("AXP account: %w", err)
	}
	origin, err := parseOrigin(p.Account.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("AXP account: base_url: %w", err)
	}
	observer, err := newObserver(p.Providers, p.Account.AccountID, origin.Hostname())
	if err != nil {
		return nil, err
	}
	c := &Client{
		account:    p.Account,
		config:     p.Config.withDefaults(),
		origin:     origin,
		log:        p.Log,
		clock:      p.Clock,
		jitter:     p.Jitter,
		observer:   observer,
		operations: make(map[string]Operation),
		userAgent:  p.UserAgent,
	}
	c.secrets.Store(p.Account.credentials())
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.log = c.log.With("account", p.Account.AccountID)
	if c.clock == nil {
		c.clock = SystemClock{}
	}
	if c.jitter == nil {
		c.jitter = randomJitter
	}
	if c.userAgent == "" {
		c.userAgent = "axp-chat-connector"
	}
	transport := p.Transport
	if transport == nil {
		transport = NewTransport(p.TLS)
	}
	c.http = newHTTPClient(transport)
	for _, op := range Operations() {
		c.operations[op.Name] = op
	}
	c.tokens = newTokens(c)
	c.refusals = &refusals{client: c}
	c.limiter = limiter.New(limiter.Params{Config: c.config.Limit, Clock: c.clock, Patience: c.config.MaxAdvisedWait})
	c.breaker = newBreaker(c.config.Breaker, c.config.CallTimeout, c.tellBreaker)
	if err := c.observer.watch(c); err != nil {
		return nil, err
	}
	return c, nil
}

// AccountID is the account that the client serves.
func (c *Client) AccountID() string { return c.account.AccountID }

// ChannelProviderID is the account's Chat connector element.
func (c *Client) ChannelProviderID() string { return c.account.ChannelProviderID }

// SetCredentials replaces client id, client secret and application key by those
// of a. Nothing is lost: calls that are under way go on, and the access token is
// used on until there is one of the new credentials, or AXP refuses it. What was
// remembered of AXP having refused the old ones is forgotten.
func (c *Client) SetCredentials(a Account) {
	c.secrets.Store(a.credentials())
	c.tokens.renew()
	c.refusals.forget()
}

// Retire shows the client in no gauge any more, for another one of its account is
// there or the account is not served. It works as before until Close.
func (c *Client) Retire() { c.observer.close() }

// Idle tells whether no call is under way or waits.
func (c *Client) Idle() bool {
	s := c.limiter.Status()
	waiting := 0
	for _, n := range s.Waiting {
		waiting += n
	}
	return s.InFlight == 0 && waiting == 0
}

// CheckCredentials makes sure that there is a valid access token, asking for
// one if need be. A refusal satisfies IsCredentials.
func (c *Client) CheckCredentials(ctx context.Context) error {
	_, err := c.tokens.get(ctx)
	return asError(err)
}

// CredentialsStatus tells, without a call, why calls can't be made with the
// account's credentials at the moment: there is no valid access token, or AXP
// accepts none, or not the application key. Nil where they can, as far as is
// known.
func (c *Client) CredentialsStatus() error {
	if fail := c.tokens.status(); fail != nil {
		return fail
	}
	return asError(c.refusals.status())
}

// tellBreaker logs what the breaker does, once for each change. The trials in
// between say nothing new.
func (c *Client) tellBreaker(to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		if c.failing.CompareAndSwap(false, true) {
			c.log.Error("AXP keeps failing; calls of the account are held back, and one at a time is tried")
		}
	case gobreaker.StateClosed:
		if c.failing.CompareAndSwap(true, false) {
			c.log.Info("AXP is well again; calls of the account are made as usual")
		}
	case gobreaker.StateHalfOpen:
	}
}

// Close ends what the client does on its own, waits for it, and gives up idle
// connections. Calls after it fail with ErrClosed.
func (c *Client) Close() error {
	c.observer.close()
	c.tokens.close()
	c.breaker.close()
	c.limiter.Close()
	c.http.CloseIdleConnections()
	return nil
}

// asError keeps a nil *Error from becoming an error that is not nil.
func asError(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

// address fills ids into the path of an operation and adds the query.
func (c *Client) address(op Operation, ids []string, query url.Values) (string, *Error) {
	path := strings.Replace(op.Path, "{accountId}", url.PathEscape(c.account.AccountID), 1)
	for _, id := range ids {
		open, end := strings.IndexByte(path, '{'), strings.IndexByte(path, '}')
		if open < 0 || end < open {
			return "", invalidRequest(op, "too many ids")
		}
		if id == "" || id == "." || id == ".." {
			return "", invalidRequest(op, path[open+1:end]+" is missing or malformed")
		}
		// A colon inside an id must not look like the ":verb" after it, and an
		// id with braces must not be taken for the next placeholder: both are
		// percent-encoded (PathEscape does so for braces).
		path = path[:open] + strings.ReplaceAll(url.PathEscape(id), ":", "%3A") + path[end+1:]
	}
	if strings.ContainsRune(path, '{') {
		return "", invalidRequest(op, "too few ids")
	}
	address := c.origin.String() + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return address, nil
}

func invalidRequest(op Operation, text string) *Error {
	return &Error{Operation: op.Name, Outcome: NotApplied, Cause: fmt.Errorf("%w: %s", ErrInvalidRequest, text)}
}

// canWait says that ctx leaves time for a wait and for something after it.
func canWait(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(deadline) > d)
}
