package errs

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// MaxViolations is how many violations a caller is told of. Who makes more mistakes
// learns of the rest when the first ones are gone.
const MaxViolations = 20

// Over gRPC an error travels in headers, which proxies limit to some KiB, and a
// field path can hold a map key as large as the request.
const (
	maxField   = 200
	maxMessage = 300
	maxDetail  = 1000
)

// shown returns the error as callers may see it: with a detail, within limits
// and in valid UTF-8, without which protobuf refuses to encode it at all. It has a
// waiting time only where the same request may succeed after it: when the connector
// itself tries refused credentials again is nothing to a caller.
func (e *Error) shown() *Error {
	out := &Error{Reason: known(e.Reason), Detail: clip(e.detail(), maxDetail)}
	if Retryable(out.Reason) {
		out.RetryAfter = max(0, e.RetryAfter)
	}
	for _, v := range e.Violations[:min(len(e.Violations), MaxViolations)] {
		out.Violations = append(out.Violations, Violation{
			Field: clip(v.Field, maxField), Message: clip(v.Message, maxMessage), Code: clip(v.Code, maxField),
		})
	}
	return out
}

// clip cuts the text to at most n bytes and marks the cut.
func clip(s string, n int) string {
	const mark = "…"
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	end := n - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

// GRPCStatus returns the error as a status: ErrorInfo with the domain
// "axpchat.v1" and what the catalogue advises, BadRequest with the violations
// and RetryInfo, as far as there is something to tell. The cause is left out.
func (e *Error) GRPCStatus() *status.Status { return e.status("") }

// Status is GRPCStatus of any error, with RequestInfo when there is a request id.
func Status(err error, requestID string) *status.Status { return From(err).status(requestID) }

func (e *Error) status(requestID string) *status.Status {
	s := e.shown()
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason:   Name(s.Reason),
		Domain:   Domain,
		Metadata: map[string]string{"retryable": strconv.FormatBool(Retryable(s.Reason)), "action": Action(s.Reason)},
	}}
	if len(s.Violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range s.Violations {
			bad.FieldViolations = append(bad.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Message, Reason: v.Code})
		}
		details = append(details, bad)
	}
	if s.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(s.RetryAfter)})
	}
	if requestID != "" {
		details = append(details, &errdetails.RequestInfo{RequestId: clip(requestID, maxField)})
	}
	st := status.New(Code(s.Reason), s.Detail)
	if full, err := st.WithDetails(details...); err == nil {
		return full
	}
	// Unreachable with valid UTF-8; code and text still say most of it.
	return st
}

// ToProblem returns the error as frames carry it.
func ToProblem(err error, requestID string) *axpchatv1.Problem {
	s := problemOf(err)
	p := &axpchatv1.Problem{
		Reason:       s.Reason,
		Code:         int32(Code(s.Reason)),
		Detail:       s.Detail,
		Retryable:    Retryable(s.Reason),
		RetryAfterMs: milliseconds(s.RetryAfter),
		RequestId:    clip(requestID, maxField),
	}
	for _, v := range s.Violations {
		p.Violations = append(p.Violations, &axpchatv1.FieldViolation{Field: v.Field, Message: v.Message, Code: v.Code})
	}
	return p
}

// problem is the body of application/problem+json.
type problem struct {
	Type         string             `json:"type"`
	Title        string             `json:"title"`
	Status       int                `json:"status"`
	Detail       string             `json:"detail"`
	Instance     string             `json:"instance,omitempty"`
	Reason       string             `json:"reason"`
	Action       string             `json:"action"`
	Retryable    bool               `json:"retryable"`
	RetryAfterMs int64              `json:"retryAfterMs,omitempty"`
	Violations   []problemViolation `json:"violations,omitempty"`
	RequestID    string             `json:"requestId,omitempty"`
}

type problemViolation struct {
	Field   string `json:"field"`
	Message string `json:"message"`
	Code    string `json:"code,omitempty"`
}

// MarshalProblem returns the error as application/problem+json with its HTTP
// status. The instance is the path of the request, without the query.
func MarshalProblem(err error, requestID, instance string) (httpStatus int, body []byte) {
	s := problemOf(err)
	p := problem{
		Type:         Type(s.Reason),
		Title:        Title(s.Reason),
		Status:       HTTPStatus(s.Reason),
		Detail:       s.Detail,
		Instance:     clip(instance, maxMessage),
		Reason:       Name(s.Reason),
		Action:       Action(s.Reason),
		Retryable:    Retryable(s.Reason),
		RetryAfterMs: milliseconds(s.RetryAfter),
		RequestID:    clip(requestID, maxField),
	}
	for _, v := range s.Violations {
		p.Violations = append(p.Violations, problemViolation(v))
	}
	body, _ = json.Marshal(p) //nolint:errchkjson // a struct of texts and numbers always encodes
	return p.Status, append(body, '\n')
}

// RetryAfterSeconds returns the value for HTTP's Retry-After, rounded up to
// whole seconds; 0: no advice.
func RetryAfterSeconds(err error) int64 {
	if err == nil {
		return 0
	}
	return seconds(From(err).shown().RetryAfter)
}

// problemOf makes even a missing error into a problem: who writes one has failed
// somehow.
func problemOf(err error) *Error {
	if err == nil {
		return New(axpchatv1.ErrorReason_ERROR_REASON_INTERNAL, "").shown()
	}
	return From(err).shown()
}

// milliseconds rounds up, so that nobody comes back too early.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
