package axp

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// maxTokenLife keeps an absurd expires_in from overflowing.
	maxTokenLife = 24 * time.Hour
	// maxTokenMargin is how long before its expiry a token counts as expired,
	// so that it does not expire on the way.
	maxTokenMargin = 10 * time.Second
	// credentialsBackoff multiplies the first wait after AXP has refused the
	// credentials.
	credentialsBackoff = 5
)

// token is an access token and when to give it up.
type token struct {
	value      string
	generation uint64
	renewAt    time.Time
	expires    time.Time
}

// renewal is a renewal under way, shared by all who wait for it. token and
// fail may be read once done is closed.
type renewal struct {
	done  chan struct{}
	epoch uint64 // of the credentials that it was last tried with
	token token
	fail  *Error
}

// tokens holds the access token of an account.
//
// There is at most one renewal at a time. It runs apart from the caller who
// started it, so that his cancellation does not take the token from others. A
// token past its renewal point is used on while the renewal runs; only without
// a valid token callers wait. A failed renewal is remembered for a growing
// while in which nothing is asked of AXP, so that a wrong secret or a token
// endpoint that is down does not bring a storm of requests.
type tokens struct {
	client *Client
	life   context.Context //nolint:containedctx // the life of the client, not of a call
	end    context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	current   token
	renewal   *renewal
	fail      *Error    // the last renewal's, nil after a success
	failures  int       // in a row
	notBefore time.Time // no renewal until then
	told      string    // what was logged last, of what became of a renewal
	epoch     uint64    // grows with each change of the credentials

	refusals        int       // forced renewals in a row that did not help
	noForcedRenewal time.Time // a 401 renews nothing until then
}

func newTokens(c *Client) *tokens {
	life, end := context.WithCancel(context.Background())
	return &tokens{client: c, life: life, end: end}
}

// get gives a token that is valid as far as is known. The *Error is the
// caller's own to change.
func (t *tokens) get(ctx context.Context) (token, *Error) {
	t.mu.Lock()
	now := t.client.clock.Now()
	mayRenew := !t.closed && t.renewal == nil && !now.Before(t.notBefore)
	if now.Before(t.current.expires) {
		if mayRenew && !now.Before(t.current.renewAt) {
			t.startLocked() //nolint:contextcheck // the renewal outlives the call that starts it
		}
		defer t.mu.Unlock()
		return t.current, nil
	}
	if t.closed {
		t.mu.Unlock()
		return token{}, &Error{Operation: OpGenerateToken, Cause: ErrClosed}
	}
	if mayRenew {
		t.startLocked() //nolint:contextcheck // as above
	}
	running := t.renewal
	if running == nil {
		fail := ofCaller(t.fail)
		fail.RetryAfter = t.notBefore.Sub(now)
		t.mu.Unlock()
		return token{}, fail
	}
	t.mu.Unlock()

	select {
	case <-running.done:
	case <-ctx.Done():
		return token{}, &Error{Operation: OpGenerateToken, Cause: ctx.Err()}
	}
	if running.fail != nil {
		return token{}, ofCaller(running.fail)
	}
	return running.token, nil
}

// ofCaller copies the failure of a renewal for one who waited for it. Whatever
// became of the renewal, the call that needed the token was not made.
func ofCaller(fail *Error) *Error {
	own := *fail
	own.Outcome = NotApplied
	return &own
}

// refused takes note that AXP did not accept a token that still seemed valid,
// and says whether get can give a better one.
func (t *tokens) refused(bad token) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.generation != bad.generation {
		return true // renewed meanwhile
	}
	if t.client.clock.Now().Before(t.noForcedRenewal) {
		return false
	}
	t.current.expires = time.Time{}
	return true
}

// renewalHelped takes note of what came of the renewal after a 401. While AXP
// refuses new tokens as well, further 401s do not renew for a growing while.
func (t *tokens) renewalHelped(helped bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if helped {
		t.refusals, t.noForcedRenewal = 0, time.Time{}
		return
	}
	now := t.client.clock.Now()
	if now.Before(t.noForcedRenewal) {
		return // another call of the same moment has counted it
	}
	t.refusals++
	t.noForcedRenewal = now.Add(t.backoff(t.refusals))
}

// status tells why there is no valid token.
func (t *tokens) status() *Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fail == nil || t.client.clock.Now().Before(t.current.expires) {
		return nil
	}
	return ofCaller(t.fail)
}

func (t *tokens) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.end()
	t.wg.Wait()
}

// patience is how long nothing is tried after AXP has refused the credentials
// n times in a row: asking again seldom helps before somebody has acted.
func (t *tokens) patience(n int) time.Duration {
	c := t.client.config
	longest := max(c.TokenBackoffMax, c.TokenBackoffMin)
	return backoff(n, min(credentialsBackoff*c.TokenBackoffMin, longest), longest, t.client.jitter)
}

func (t *tokens) backoff(n int) time.Duration {
	c := t.client.config
	return backoff(n, c.TokenBackoffMin, c.TokenBackoffMax, t.client.jitter)
}

// startLocked starts a renewal; t.mu is held, none is running, and the client
// is open.
func (t *tokens) startLocked() {
	r := &renewal{done: make(chan struct{})}
	t.renewal = r
	t.wg.Go(func() {
		defer close(r.done)
		for {
			t.mu.Lock()
			r.epoch = t.epoch
			t.mu.Unlock()
			r.token, r.fail = t.fetch()
			if t.finish(r) {
				return
			}
		}
	})
}

// renew has a token of the account's new credentials asked for with the next
// call. Until it is there the one before is used on.
func (t *tokens) renew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
	t.current.renewAt = time.Time{}
	t.fail, t.failures, t.notBefore = nil, 0, time.Time{}
	t.refusals, t.noForcedRenewal = 0, time.Time{}
}

// finish makes the result of a renewal the state of the account. It returns
// false where it failed with credentials that have been replaced meanwhile.
func (t *tokens) finish(r *renewal) bool {
	c := t.client
	t.mu.Lock()
	if r.epoch != t.epoch {
		if r.fail != nil && !t.closed {
			t.mu.Unlock()
			return false
		}
		r.token.renewAt = time.Time{}
	}
	t.renewal = nil
	t.fail = r.fail
	if r.fail == nil {
		t.failures, t.notBefore = 0, time.Time{}
		r.token.generation = t.current.generation + 1
		t.current = r.token
		t.mu.Unlock()
		t.tell("ok", nil, 0)
		return true
	}
	t.failures++
	wait, result := t.backoff(t.failures), "failed"
	if IsCredentials(r.fail) {
		wait, result = t.patience(t.failures), "refused"
	}
	wait = max(wait, r.fail.RetryAfter)
	t.notBefore = c.clock.Now().Add(wait)
	t.mu.Unlock()
	t.tell(result, r.fail, wait)
	return true
}

// tell counts what became of a renewal, and logs it where it is another than
// last time: a wrong secret shall be seen, not fill the log.
func (t *tokens) tell(result string, fail *Error, wait time.Duration) {
	c := t.client
	c.observer.renewal(t.life, result)
	if t.life.Err() != nil {
		return
	}
	t.mu.Lock()
	last := t.told
	t.told = result
	t.mu.Unlock()
	switch {
	case result == last:
		if fail != nil {
			c.log.Debug("still no access token from AXP", "error", fail, "next_attempt_in", wait)
		}
	case result == "refused":
		c.log.Error("AXP refuses the connector's credentials; check client id, client secret and application key",
			"error", fail, "next_attempt_in", wait)
	case result == "failed":
		c.log.Warn("no access token from AXP", "error", fail, "next_attempt_in", wait)
	case last != "":
		c.log.Info("AXP gives access tokens again")
	}
}

// fetch asks AXP for a token, by client credentials: the refresh form needs
// the secret as well and brings nothing more.
func (t *tokens) fetch() (token, *Error) {
	c := t.client
	op := c.operations[OpGenerateToken]
	address, fail := c.address(op, nil, nil)
	if fail != nil {
		return token{}, fail
	}
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   Int    `json:"expires_in"`
	}
	secrets := c.secrets.Load()
	r := request{
		op:          op,
		address:     address,
		contentType: "application/x-www-form-urlencoded",
		out:         &answer,
		payload: []byte(url.Values{
			"grant_type":    {"client_credentials"},
			"client_id":     {secrets.clientID},
			"client_secret": {secrets.clientSecret.Reveal()},
		}.Encode()),
	}
	ctx, end := c.observer.start(t.life, op)
	var began time.Time
	fail = c.repeat(ctx, op, func() *Error {
		// A token's life is counted from before it was asked for, so that a
		// slow answer does not make it seem to live longer than it does.
		began = c.clock.Now()
		return c.exchange(ctx, r, "")
	})
	if fail == nil && answer.AccessToken == "" {
		fail = &Error{Operation: op.Name, Status: http.StatusOK, Outcome: Unknown,
			Cause: errors.New("the answer holds no access_token")}
	}
	end(fail)
	if fail != nil {
		if t.life.Err() != nil {
			fail.Cause = ErrClosed
		}
		return token{}, fail
	}
	life := c.config.TokenFallbackLife
	if s := answer.ExpiresIn; s.Known && s.Value > 0 {
		life = time.Duration(min(s.Value, int64(maxTokenLife/time.Second))) * time.Second
	}
	return token{
		value:   answer.AccessToken,
		expires: began.Add(life - min(maxTokenMargin, life/20)),
		renewAt: began.Add(time.Duration(float64(life) * c.config.TokenRenewAt)),
	}, nil
}
