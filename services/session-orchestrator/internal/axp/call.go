package axp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
)

// input is what one call of an operation needs beyond the operation itself.
type input struct {
	ids   []string
	query url.Values
	// body is sent as JSON; nil: no body.
	body any
	// out gets the decoded answer; nil: the answer is not looked at.
	out any
}

// request is a call made ready: it can be sent any number of times.
type request struct {
	op          Operation
	address     string
	payload     []byte
	contentType string
	out         any
}

// do makes a call with token and key, and repeats it as its row in Operations
// allows. It never returns a nil *Error as an error.
func (c *Client) do(ctx context.Context, name string, in input) error {
	op := c.operations[name]
	address, fail := c.address(op, in.ids, in.query)
	if fail != nil {
		return fail
	}
	r := request{op: op, address: address, out: in.out}
	if in.body != nil {
		payload, err := json.Marshal(in.body)
		if err != nil {
			return invalidRequest(op, "it cannot be encoded")
		}
		r.payload, r.contentType = payload, "application/json"
	}
	ctx, end := c.observer.start(ctx, op)
	fail = c.repeat(ctx, op, func() *Error { return c.authorised(ctx, r) })
	end(fail)
	if op.GoneIsDone && IsNotFound(asError(fail)) {
		return nil
	}
	return asError(fail)
}

// repeat runs attempt until it succeeds, fails for good, or the rule, the
// number of attempts or ctx forbid another one.
func (c *Client) repeat(ctx context.Context, op Operation, attempt func() *Error) *Error {
	outcome := NotApplied
	for n := 1; ; n++ {
		fail := attempt()
		if fail == nil {
			return nil
		}
		// An earlier attempt may have had the effect that the last one had not.
		outcome = max(outcome, fail.Outcome)
		fail.Outcome = outcome
		if fail.Operation != op.Name {
			return fail // about the token; that was repeated already where it helps
		}
		fail.Attempts = n
		if n >= c.config.MaxAttempts || single(ctx) || !repeatable(op, fail) {
			return fail
		}
		wait := backoff(n, c.config.MinBackoff, c.config.MaxBackoff, c.jitter)
		if fail.RetryAfter > 0 {
			if fail.RetryAfter > c.config.MaxAdvisedWait {
				return fail
			}
			wait = fail.RetryAfter
		}
		if !canWait(ctx, wait) {
			return fail
		}
		c.observer.retry(ctx, op, fail)
		if c.clock.Sleep(ctx, wait) != nil {
			return fail
		}
	}
}

// repeatable is the rule that Operation documents.
func repeatable(op Operation, fail *Error) bool {
	if errors.Is(fail.Cause, ErrInvalidRequest) || errors.Is(fail.Cause, context.Canceled) ||
		errors.Is(fail.Cause, context.DeadlineExceeded) || errors.Is(fail.Cause, ErrClosed) || fail.refusedHere() {
		return false
	}
	if fail.Status == http.StatusTooManyRequests || (fail.Status == 0 && fail.Outcome == NotApplied) {
		return true
	}
	return op.Idempotent && fail.Outcome == Unknown
}

// authorised sends a request with the access token. If AXP refuses the token,
// it is renewed once and the request is sent once more: a 401 means that
// nothing was done, so this is safe for every operation.
//
// While AXP refuses all credentials no call is made.
func (c *Client) authorised(ctx context.Context, r request) *Error {
	token, fail := c.tokens.get(ctx)
	if fail != nil {
		if IsCredentials(fail) {
			c.observer.throttled(ctx, "credentials")
		}
		return fail
	}
	if fail := c.refusals.check(r.op); fail != nil {
		c.observer.throttled(ctx, "credentials")
		return fail
	}
	fail = c.withToken(ctx, r, token)
	if fail == nil || fail.Operation == r.op.Name {
		c.refusals.note(r.op, fail)
	}
	return fail
}

// withToken sends a request, once more with another token if AXP refuses this
// one.
func (c *Client) withToken(ctx context.Context, r request, token token) *Error {
	fail := c.through(ctx, r.op, func() *Error { return c.exchange(ctx, r, token.value) })
	if fail == nil || fail.Status != http.StatusUnauthorized {
		return fail
	}
	if fail.namesAppKey() || !c.tokens.refused(token) {
		return fail
	}
	token, renewal := c.tokens.get(ctx)
	if renewal != nil {
		return renewal
	}
	fail = c.through(ctx, r.op, func() *Error { return c.exchange(ctx, r, token.value) })
	c.tokens.renewalHelped(fail == nil || fail.Status != http.StatusUnauthorized)
	return fail
}

// exchange sends a request once and reads the answer.
func (c *Client) exchange(ctx context.Context, r request, token string) *Error {
	attempt, cancel := context.WithTimeoutCause(ctx, c.config.CallTimeout, ErrTimeout)
	defer cancel()
	httpRequest, err := http.NewRequestWithContext(attempt, r.op.Method, r.address, nil)
	if err != nil {
		return invalidRequest(r.op, "its address is malformed")
	}
	body := payload{data: r.payload, ask: func() *Error { return fenced(ctx, r.op) }}
	h := httpRequest.Header
	h.Set("Accept", "application/json, application/problem+json")
	h.Set("User-Agent", c.userAgent)
	h.Set("Appkey", c.secrets.Load().appKey.Reveal())
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	if r.contentType != "" {
		h.Set("Content-Type", r.contentType)
	}
	if fail := body.ask(); fail != nil {
		return fail // without a connection being made for it
	}
	if r.payload != nil {
		body.attach(httpRequest)
	}
	began := c.clock.Now()
	response, fail := c.send(ctx, r.op, httpRequest) //nolint:bodyclose // read closes it
	if stopped := body.stopped.Load(); stopped != nil && fail != nil {
		return stopped
	}
	if fail == nil {
		fail = c.read(response, r)
		if fail != nil && fail.Status >= 200 && fail.Status < 300 {
			fail.Cause = c.causeOf(ctx, attempt, fail.Cause)
		}
	}
	status, cause := 0, error(nil)
	if response != nil {
		status = response.StatusCode
	}
	if fail != nil {
		cause = fail.Cause
	}
	c.observer.attempt(ctx, r.op, c.clock.Now().Sub(began), status, cause)
	return fail
}

// send makes the HTTP request. Its failure says whether anything went out: as
// long as no header had been written, AXP cannot have acted.
func (c *Client) send(ctx context.Context, op Operation, r *http.Request) (*http.Response, *Error) {
	var sent atomic.Bool
	attempt := r.Context()
	trace := &httptrace.ClientTrace{
		WroteHeaderField: func(string, []string) { sent.Store(true) },
		WroteHeaders:     func() { sent.Store(true) },
	}
	response, err := c.http.Do(r.WithContext(httptrace.WithClientTrace(attempt, trace))) //nolint:contextcheck // attempt is made from ctx
	if err == nil {
		return response, nil
	}
	fail := &Error{Operation: op.Name, Outcome: NotApplied, Cause: c.causeOf(ctx, attempt, withoutURL(err))}
	if sent.Load() {
		fail.Outcome = Unknown
	}
	return nil, fail
}

// causeOf tells the end of an attempt's own time from that of the caller's.
func (c *Client) causeOf(ctx, attempt context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(context.Cause(attempt), ErrTimeout):
		return ErrTimeout
	default:
		return err
	}
}

// read reads an answer to its end, so that the connection can be used again.
func (c *Client) read(response *http.Response, r request) *Error {
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = ErrTooLarge
	}
	status := response.StatusCode
	if status < 200 || status > 299 {
		// What could be read of the body is all that is wanted of it.
		return c.refusal(response, r.op, body)
	}
	if err == nil && r.out != nil {
		if err = decode(body, r.out); err == nil {
			return nil
		}
	}
	if err == nil || r.op.BodyOptional {
		return nil
	}
	return &Error{
		Operation: r.op.Name,
		Status:    status,
		RequestID: response.Header.Get("X-Request-Id"),
		LogID:     response.Header.Get("Av-Log-Id"),
		Outcome:   Unknown,
		Cause:     fmt.Errorf("the answer cannot be read: %w", err),
	}
}

// refusal makes the error of an answer that is not a success.
func (c *Client) refusal(response *http.Response, op Operation, body []byte) *Error {
	status := response.StatusCode
	fail := &Error{
		Operation:  op.Name,
		Status:     status,
		Problem:    parseProblem(body),
		RetryAfter: advisedWait(response.Header, status, c.clock.Now()),
		RequestID:  headerText(response.Header, "X-Request-Id"),
		LogID:      headerText(response.Header, "Av-Log-Id"),
		Outcome:    NotApplied,
	}
	if status >= http.StatusInternalServerError || status == http.StatusRequestTimeout {
		fail.Outcome = Unknown
	}
	return fail
}

// headerText bounds a header that goes into logs.
func headerText(h http.Header, name string) string {
	value := h.Get(name)
	return value[:min(len(value), 128)]
}
