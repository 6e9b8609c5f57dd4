package errs

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// From returns the error as an Error. It never returns nil for an error, and nil
// for nil.
//
// It recognises, in this order and anywhere in the chain: an Error; a
// *protovalidate.ValidationError; a gRPC status, whether another service of the
// suite made it or gRPC itself; the end of a context or a deadline; a body over
// its limit.
// Anything else is INTERNAL with a text that gives nothing away. The original is
// kept as the cause of all but the first.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := find(err); ok {
		return e
	}
	if invalid, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
		return fromValidation(invalid)
	}
	var carrier interface{ GRPCStatus() *status.Status }
	if errors.As(err, &carrier) && carrier.GRPCStatus().Code() != codes.OK {
		return fromStatus(carrier.GRPCStatus()).WithCause(err)
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return New(axpchatv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, "").WithCause(err)
	case errors.Is(err, context.Canceled):
		// Whoever cancelled does not read the answer; who does read it was cut
		// off by something else that ended, and may try again.
		return New(axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "the call was cancelled").WithCause(err)
	case errors.As(err, &tooLarge):
		return Newf(axpchatv1.ErrorReason_ERROR_REASON_TOO_LARGE, "the body is larger than %d bytes", tooLarge.Limit).WithCause(err)
	}
	return New(axpchatv1.ErrorReason_ERROR_REASON_INTERNAL, "").WithCause(err)
}

// fromStatus reads a status. Its message is taken over only where a service of
// the suite wrote it, or where it tells a caller what is wrong with its own
// request; gRPC's other messages name addresses and internals.
func fromStatus(st *status.Status) *Error {
	e := &Error{Reason: axpchatv1.ErrorReason_ERROR_REASON_UNSPECIFIED}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() != Domain {
				continue
			}
			if reason, ok := parseName(d.GetReason()); ok {
				e.Reason, e.Detail = reason, st.Message()
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Violations = append(e.Violations, Violation{Field: v.GetField(), Message: v.GetDescription(), Code: v.GetReason()})
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = max(0, d.GetRetryDelay().AsDuration())
		}
	}
	if e.Reason == axpchatv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		e.Reason = reasonOf(st)
		if e.Reason == axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT {
			e.Detail = st.Message()
		}
	}
	return e
}

// reasonOf chooses a reason for a status without one, which gRPC itself, a proxy
// or a newer version of a service made.
func reasonOf(st *status.Status) axpchatv1.ErrorReason {
	switch st.Code() {
	case codes.InvalidArgument:
		// grpc-gateway puts the failure of reading a body into words.
		if strings.Contains(st.Message(), "http: request body too large") {
			return axpchatv1.ErrorReason_ERROR_REASON_TOO_LARGE
		}
		return axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT
	case codes.FailedPrecondition, codes.OutOfRange, codes.AlreadyExists:
		return axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT
	case codes.Unauthenticated, codes.PermissionDenied:
		return axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED
	case codes.NotFound, codes.Unimplemented:
		return axpchatv1.ErrorReason_ERROR_REASON_NOT_FOUND
	case codes.ResourceExhausted:
		// gRPC has one code for "too often" and "too much"; only the text
		// tells a message over the receiver's limit from the rest.
		if strings.Contains(st.Message(), "larger than max") {
			return axpchatv1.ErrorReason_ERROR_REASON_TOO_LARGE
		}
		return axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED
	case codes.DeadlineExceeded:
		return axpchatv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED
	case codes.Unavailable, codes.Aborted, codes.Canceled:
		return axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE
	case codes.OK, codes.Unknown, codes.Internal, codes.DataLoss:
	}
	return axpchatv1.ErrorReason_ERROR_REASON_INTERNAL
}

// fromValidation has no cause: the text of a validation error may repeat what
// the customer wrote, and the violations say the rest. It makes no more of them
// than are shown: a path repeats the key that a value stands under, and a request
// of 256 KiB with one long key and many wrong values would make some 8 GiB.
func fromValidation(invalid *protovalidate.ValidationError) *Error {
	e := New(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "")
	for _, v := range invalid.Violations[:min(len(invalid.Violations), MaxViolations)] {
		message := v.Proto.GetMessage()
		if message == "" {
			message = "breaks the rule " + v.Proto.GetRuleId()
		}
		if v.Proto.GetForKey() {
			message = "key: " + message
		}
		e.Violations = append(e.Violations, Violation{Field: fieldPath(v.Proto.GetField()), Message: message, Code: v.Proto.GetRuleId()})
	}
	return e
}

// fieldPath writes a path as JSON callers know it: customData["k"],
// items[0].displayName.
func fieldPath(path *validate.FieldPath) string {
	var b strings.Builder
	for i, el := range path.GetElements() {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(JSONName(el.GetFieldName()))
		switch {
		case el.HasIndex():
			b.WriteString("[" + strconv.FormatUint(el.GetIndex(), 10) + "]")
		case el.HasStringKey():
			b.WriteString("[" + strconv.Quote(el.GetStringKey()) + "]")
		case el.HasIntKey():
			b.WriteString("[" + strconv.FormatInt(el.GetIntKey(), 10) + "]")
		case el.HasUintKey():
			b.WriteString("[" + strconv.FormatUint(el.GetUintKey(), 10) + "]")
		case el.HasBoolKey():
			b.WriteString("[" + strconv.FormatBool(el.GetBoolKey()) + "]")
		}
	}
	return b.String()
}

// JSONName turns the name of a protobuf field into its name in JSON:
// custom_data becomes customData.
func JSONName(name string) string {
	var b strings.Builder
	upper := false
	for _, r := range name {
		switch {
		case r == '_':
			upper = true
			continue
		case upper && 'a' <= r && r <= 'z':
			r -= 'a' - 'A'
		}
		upper = false
		b.WriteRune(r)
	}
	return b.String()
}

// seconds rounds up to whole seconds, which is what HTTP's Retry-After holds.
func seconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
