package axp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// Causes that an Error may wrap.
var (
	// ErrTimeout says that AXP did not answer one attempt in time, while the
	// caller's own context still allowed to wait.
	ErrTimeout = errors.New("AXP did not answer in time")
	// ErrTooLarge says that the answer exceeds what is read.
	ErrTooLarge = errors.New("the answer of AXP is too large")
	// ErrInvalidRequest says that the request was never sent because it cannot
	// be right, such as an id that is empty.
	ErrInvalidRequest = errors.New("the request is not valid")
	// ErrForeignMedia says that a media address points to a host that the
	// account does not allow.
	ErrForeignMedia = errors.New("the media address is not on an allowed host")
	// ErrHeldBack says that the call was not made because AXP keeps failing;
	// after RetryAfter one is tried again.
	ErrHeldBack = errors.New("AXP keeps failing; calls are held back for a moment")
	// ErrBusy says that the call was not made because AXP wants fewer calls of
	// the account: it has to wait too long, or too many wait already.
	ErrBusy = errors.New("the account has too many calls to AXP")
	// ErrClosed says that the Client has been closed.
	ErrClosed = errors.New("the AXP client is closed")
)

// Outcome says what is known about the effect of a failed call.
type Outcome int

const (
	// NotApplied means that AXP has not carried out the call.
	NotApplied Outcome = iota
	// Unknown means that AXP may or may not have carried out the call, now or
	// later: the request was on its way, and there is no answer, or one that
	// does not tell (408, 5xx, a success that cannot be read). The caller
	// reconciles.
	Unknown
)

// String gives the name of the outcome.
func (o Outcome) String() string {
	if o == Unknown {
		return "unknown"
	}
	return "not applied"
}

// Error is a call to AXP that failed. errors.As also turns it into the
// *errs.Error of AsError.
type Error struct {
	// Operation is one of the Op names: that of the call, or OpGenerateToken if
	// there was no access token to make it with.
	Operation string
	// Status is the HTTP status, 0 where there was no answer.
	Status int
	// Problem is what AXP said.
	Problem Problem
	// RetryAfter is how long AXP asks to wait, or how long the connector itself
	// holds calls back; 0 where neither says.
	RetryAfter time.Duration
	// RequestID and LogID are AXP's x-request-id and av-log-id.
	RequestID string
	LogID     string
	// Outcome says whether the call may have had an effect.
	Outcome Outcome
	// Attempts is how often the call was made.
	Attempts int
	// Cause is what went wrong below HTTP. It may be nil.
	Cause error
}

// Error gives operation, status, title and AXP's ids, but no text of AXP that
// may repeat what was sent.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("axp: " + e.Operation + ": ")
	if e.Status != 0 {
		fmt.Fprintf(&b, "HTTP %d", e.Status)
		if e.Problem.Title != "" {
			fmt.Fprintf(&b, " (%s)", e.Problem.Title)
		}
	}
	if e.Cause != nil {
		if e.Status != 0 {
			b.WriteString(": ")
		}
		b.WriteString(e.Cause.Error())
	}
	for _, v := range e.Problem.Violations {
		fmt.Fprintf(&b, "; field %q code %s", v.Field, v.Code)
	}
	if e.Outcome == Unknown {
		b.WriteString("; outcome unknown")
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, "; %d attempts", e.Attempts)
	}
	if e.RequestID != "" {
		b.WriteString("; x-request-id " + e.RequestID)
	}
	if e.LogID != "" {
		b.WriteString("; av-log-id " + e.LogID)
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// As lets errors.As find the error of our own catalogue.
func (e *Error) As(target any) bool {
	if t, ok := target.(**errs.Error); ok {
		*t = e.AsError()
		return true
	}
	return false
}

// AsError gives the error of our own catalogue that a client is told. It holds
// AXP's violations, their fields prefixed with "axp." and quotations taken out of
// their messages, and none of AXP's other text: it may repeat what a customer
// wrote, and this error is logged.
func (e *Error) AsError() *errs.Error {
	if e.Status == 0 && (errors.Is(e.Cause, context.Canceled) || errors.Is(e.Cause, context.DeadlineExceeded)) {
		return errs.From(e.Cause).WithCause(e) // the caller gave up, AXP did not fail
	}
	reason, detail := e.reason()
	out := errs.New(reason, detail).WithCause(e)
	if e.RetryAfter > 0 {
		out = out.WithRetryAfter(e.RetryAfter)
	}
	for _, v := range e.Problem.Violations {
		field := "axp"
		if v.Field != "" {
			field = "axp." + v.Field
		}
		out = out.WithViolation(field, quotation.ReplaceAllString(v.Message, "…"), v.Code)
	}
	return out
}

// quotation is a part of a message that is likely to be a value: whatever is in
// quotation marks, and addresses.
var quotation = regexp.MustCompile(`"[^"]*"|'[^']*'|` + "`[^`]*`" + `|“[^”]*”|\S*@\S*`)

func (e *Error) reason() (axpchatv1.ErrorReason, string) {
	switch {
	case errors.Is(e.Cause, ErrInvalidRequest), errors.Is(e.Cause, ErrForeignMedia):
		return axpchatv1.ErrorReason_ERROR_REASON_INTERNAL, e.Cause.Error()
	case e.Operation == OpGenerateToken && clientFault(e.Status):
		return axpchatv1.ErrorReason_ERROR_REASON_AXP_CREDENTIALS, fmt.Sprintf("AXP grants no access token (HTTP %d)", e.Status)
	case e.Status == http.StatusUnauthorized:
		return axpchatv1.ErrorReason_ERROR_REASON_AXP_CREDENTIALS, "AXP refuses the connector's " + e.refused()
	case e.Status == http.StatusNotFound:
		return axpchatv1.ErrorReason_ERROR_REASON_AXP_NOT_FOUND, "AXP does not know what the request names"
	case e.Status == http.StatusTooManyRequests, errors.Is(e.Cause, ErrBusy):
		return axpchatv1.ErrorReason_ERROR_REASON_AXP_RATE_LIMITED, "AXP limits the connector's calls"
	case e.Status == http.StatusForbidden:
		return axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED, "AXP does not permit the request for this account"
	case clientFault(e.Status), e.Status >= 300 && e.Status < 400:
		return axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED, fmt.Sprintf("AXP refused the request (HTTP %d)", e.Status)
	default:
		return axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE, "AXP cannot be reached or has a fault"
	}
}

// clientFault says that repeating the same request cannot help.
func clientFault(status int) bool {
	return status >= 400 && status < 500 &&
		status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}

// refused names what a 401 refuses; AXP says so in brackets in the detail.
func (e *Error) refused() string {
	detail := strings.ToLower(e.Problem.Detail)
	switch {
	case strings.Contains(detail, "appkey"):
		return "application key"
	case strings.Contains(detail, "access-token"):
		return "access token"
	default:
		return "credentials"
	}
}

// namesAppKey says that a 401 is about the key, which no renewal can cure.
func (e *Error) namesAppKey() bool {
	return e.Status == http.StatusUnauthorized && strings.Contains(strings.ToLower(e.Problem.Detail), "appkey")
}

// IsNotFound says that AXP does not know what the call named.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound && e.Operation != OpGenerateToken
}

// IsCredentials says that AXP refused the connector's own credentials, so that
// an operator must act.
func IsCredentials(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Status == http.StatusUnauthorized || (e.Operation == OpGenerateToken && clientFault(e.Status))
}

// OutcomeOf says what is known about the effect of a call that failed with
// err. An error that is not from this package counts as Unknown.
func OutcomeOf(err error) Outcome {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Outcome
	}
	return Unknown
}

// Temporary says that the same call may succeed later: a rate limit, a fault
// of AXP or of the network.
func Temporary(err error) bool {
	var e *Error
	if !errors.As(err, &e) || errors.Is(err, ErrInvalidRequest) || errors.Is(err, ErrForeignMedia) {
		return false
	}
	return !clientFault(e.Status) && (e.Status < 300 || e.Status >= 400)
}
