package grpcx

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

// requestIDs accepts or makes the request id and tells it to the caller. It is the
// first to be called, with the message.
func requestIDs() Interceptor {
	return Interceptor{
		Name: NameRequestID,
		Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			arrived(ctx)
			id := incomingRequestID(ctx)
			// It can only fail when headers are gone already, which nothing
			// before this link sends.
			_ = grpc.SetHeader(ctx, metadata.Pairs(RequestIDKey, id))
			return next(WithRequestID(ctx, id), req)
		},
		guarded: true,
	}
}

// accessLog writes a line and counts for every call. Calls that went well are
// for debugging; metrics count them. Where many are refused alike it tells of
// some, and with left_out of how many it did not.
func accessLog(w *watch) Interceptor {
	return Interceptor{
		Name: NameAccessLog,
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			method, began := w.begin(ctx, info.FullMethod), time.Now()
			resp, err := next(ctx, req)
			w.end(ctx, method, began, err)
			return resp, err
		},
		guarded: true,
	}
}

// watch is what is noted of every call and stream.
type watch struct {
	log     *slog.Logger
	metrics *metrics
	known   *methods
	refused *logx.Sieve[refusal]
}

// refusal is what calls have in common that are refused alike: a flood of them
// must not become one of lines.
type refusal struct {
	method string
	code   codes.Code
	reason string
}

// begin counts a call in and returns what its method is called.
func (w *watch) begin(ctx context.Context, fullMethod string) (method string) {
	method = w.known.label(fullMethod)
	w.metrics.begin(ctx, method)
	return method
}

func (w *watch) end(ctx context.Context, method string, began time.Time, err error) {
	code, reason := status.Code(err), ""
	if err != nil {
		reason = reasonName(err)
	}
	w.metrics.end(ctx, method, code, reason)
	level := level(code)
	if !w.log.Enabled(ctx, level) {
		return // most calls: the rest would be work for a line that nobody gets
	}
	leftOut := 0
	if level == slog.LevelInfo {
		var ok bool
		if leftOut, ok = w.refused.Pass(refusal{method, code, reason}, time.Now()); !ok {
			return
		}
	}
	attrs := []any{"method", method, "code", code.String(), "duration", time.Since(began), "request_id", RequestID(ctx)}
	if err != nil {
		attrs = append(attrs, "reason", reason)
	}
	if leftOut > 0 {
		attrs = append(attrs, "left_out", leftOut)
	}
	w.log.Log(ctx, level, "rpc", attrs...)
}

// reasonName is empty for calls whose caller went away, which have no reason.
func reasonName(err error) string {
	if status.Code(err) == codes.Canceled {
		return ""
	}
	return errs.Name(errs.From(err).Reason)
}

// level is how much an operator should care.
func level(code codes.Code) slog.Level {
	switch code {
	case codes.OK, codes.Canceled:
		return slog.LevelDebug
	case codes.Internal, codes.Unknown, codes.DataLoss, codes.Unavailable, codes.DeadlineExceeded:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// recovering turns a panic of a handler into an error, so that one broken
// request does not end the process and everybody's streams with it.
func recovering(w *panics.Watch) Interceptor {
	return Interceptor{
		Name: NameRecover,
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (_ any, err error) {
			defer func() {
				if v := recover(); v != nil {
					err = fault(ctx, w, info.FullMethod, v)
				}
			}()
			return next(ctx, req)
		},
		guarded: true,
	}
}

// fault notes a panic and makes the error that its caller gets.
func fault(ctx context.Context, w *panics.Watch, method string, v any) error {
	err := w.Note(ctx, "rpc", v, "method", method, "request_id", RequestID(ctx))
	return errs.Status(err, RequestID(ctx)).Err()
}

// mapErrors turns every error into a status of the catalogue.
func mapErrors(log *slog.Logger) Interceptor {
	return Interceptor{
		Name: NameErrors,
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			resp, err := next(ctx, req)
			return resp, convert(ctx, log, info.FullMethod, err)
		},
		guarded: true,
	}
}

// convert makes a status of an error. It is the last place that knows the cause,
// so it is the one that logs it.
func convert(ctx context.Context, log *slog.Logger, method string, err error) error {
	if err == nil {
		return nil
	}
	if gone(ctx, err) {
		return status.FromContextError(context.Canceled).Err()
	}
	e := errs.From(err)
	switch e.Reason {
	case axpchatv1.ErrorReason_ERROR_REASON_INTERNAL:
		log.ErrorContext(ctx, "call failed", "method", method, "request_id", RequestID(ctx), "error", err)
	case axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
		axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE,
		axpchatv1.ErrorReason_ERROR_REASON_AXP_CREDENTIALS:
		log.WarnContext(ctx, "call failed", "method", method, "request_id", RequestID(ctx), "error", err)
	default:
	}
	return errs.Status(e, RequestID(ctx)).Err()
}

// gone reports whether the call failed because its caller went away. Nobody
// reads the answer then, and it is nobody's fault.
func gone(ctx context.Context, err error) bool {
	return errors.Is(ctx.Err(), context.Canceled) &&
		(errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled)
}

// validating checks every message that comes in, and refuses what is none.
func validating(v *Validator, self map[string]bool) Interceptor {
	return Interceptor{
		Name: NameValidate,
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := undecoded(ctx); err != nil {
				return nil, err
			}
			if !self[info.FullMethod] {
				if err := validateMessage(v, req); err != nil {
					return nil, err
				}
			}
			return next(ctx, req)
		},
		guarded: true,
	}
}

func validateMessage(v *Validator, m any) error {
	if m, ok := m.(proto.Message); ok {
		return v.Validate(m)
	}
	return nil
}
