package errs

import (
	"errors"
	"fmt"
	"strings"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// Domain is google.rpc.ErrorInfo.domain of every error.
const Domain = "axpchat.v1"

// Violation is one field that breaks its rule.
type Violation struct {
	Field   string // lowerCamelCase path, as in JSON
	Message string // for people
	Code    string // for programs
}

// Error is a typed error. Its texts go to clients, so they never hold what a
// customer wrote; Cause goes to logs alone. Treat it as immutable once returned.
type Error struct {
	Reason     axpchatv1.ErrorReason
	Detail     string
	Violations []Violation
	RetryAfter time.Duration
	Cause      error
}

// New makes an error of a reason with a text for people.
func New(reason axpchatv1.ErrorReason, detail string) *Error {
	return &Error{Reason: reason, Detail: detail}
}

// Newf is New with a formatted text.
func Newf(reason axpchatv1.ErrorReason, format string, args ...any) *Error {
	return New(reason, fmt.Sprintf(format, args...))
}

// WithCause returns a copy that wraps cause.
func (e *Error) WithCause(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// WithViolation returns a copy with one more violation.
func (e *Error) WithViolation(field, message, code string) *Error {
	c := *e
	c.Violations = append(append([]Violation(nil), e.Violations...), Violation{Field: field, Message: message, Code: code})
	return &c
}

// WithRetryAfter returns a copy that says how long to wait.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Error implements error; it holds the cause, so it is for logs. Of violations it
// has field and code alone: AXP's texts may repeat what was sent to it.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(Name(e.Reason))
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	for _, v := range e.Violations {
		b.WriteString("; " + v.Field + ": " + v.Code)
	}
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is matches any error of the same reason.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Reason == e.Reason
}

// HasReason reports whether the error is of the reason, also when it came as a
// gRPC status from another process.
func HasReason(err error, reason axpchatv1.ErrorReason) bool {
	return err != nil && From(err).Reason == reason
}

// detail is the text for people, or the reason's title where there is none.
func (e *Error) detail() string {
	if e.Detail != "" {
		return e.Detail
	}
	return Title(e.Reason)
}

// find returns the first Error in the chain. A nil pointer, which somebody
// returned as an error by mistake, is a fault of the connector.
func find(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	if ok && e == nil {
		e = New(axpchatv1.ErrorReason_ERROR_REASON_INTERNAL, "").WithCause(errNil)
	}
	return e, ok
}

// errNil is the cause of what find makes up.
var errNil = errors.New("a nil *errs.Error was returned as an error")
