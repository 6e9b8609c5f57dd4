package grpcx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// requestIDs accepts or makes the request id and tells it to the caller.
func requestIDs() Interceptor {
	return Interceptor{
		Name: NameRequestID,
		Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			id := incomingRequestID(ctx)
			// It can only fail when headers are gone already, which nothing
			// before this link sends.
			_ = grpc.SetHeader(ctx, metadata.Pairs(RequestIDKey, id))
			return next(WithRequestID(ctx, id), req)
		},
		Stream: func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			id := incomingRequestID(s.Context())
			_ = s.SetHeader(metadata.Pairs(RequestIDKey, id))
			return next(srv, WithContext(WithRequestID(s.Context(), id), s))
		},
	}
}

// accessLog writes a line and counts for every call. Calls that went well are
// for debugging; metrics count them.
func accessLog(log *slog.Logger, m *metrics, known *methods) Interceptor {
	observe := func(ctx context.Context, method string, call func() error) error {
		method = known.label(method)
		done := m.start(ctx, method)
		began := time.Now()
		err := call()
		code := status.Code(err)
		attrs := []any{"method", method, "code", code.String(), "duration", time.Since(began), "request_id", RequestID(ctx)}
		reason := ""
		if err != nil {
			reason = reasonName(err)
			attrs = append(attrs, "reason", reason)
		}
		done(code, reason)
		log.Log(ctx, level(code), "rpc", attrs...)
		return err
	}
	return Interceptor{
		Name: NameAccessLog,
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
			err = observe(ctx, info.FullMethod, func() error {
				var err error
				resp, err = next(ctx, req)
				return err
			})
			return resp, err
		},
		Stream: func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return observe(s.Context(), info.FullMethod, func() error { return next(srv, s) })
		},
	}
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
func recovering(log *slog.Logger) Interceptor {
	fault := func(ctx context.Context, method string, err *error) {
		v := recover()
		if v == nil {
			return
		}
		log.ErrorContext(ctx, "panic in a handler", "method", method, "request_id", RequestID(ctx),
			"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		internal := errs.New(axpchatv1.ErrorReason_ERROR_REASON_INTERNAL, "")
		*err = errs.Status(internal, RequestID(ctx)).Err()
	}
	return Interceptor{
		Name: NameRecover,
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (_ any, err error) {
			defer fault(ctx, info.FullMethod, &err)
			return next(ctx, req)
		},
		Stream: func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
			defer fault(s.Context(), info.FullMethod, &err)
			return next(srv, s)
		},
	}
}

// mapErrors turns every error into a status of the catalogue. It is the last
// place that knows the cause, so it is the one that logs it.
func mapErrors(log *slog.Logger) Interceptor {
	convert := func(ctx context.Context, method string, err error) error {
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
	return Interceptor{
		Name: NameErrors,
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			resp, err := next(ctx, req)
			return resp, convert(ctx, info.FullMethod, err)
		},
		Stream: func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			return convert(s.Context(), info.FullMethod, next(srv, s))
		},
	}
}

// gone reports whether the call failed because its caller went away. Nobody
// reads the answer then, and it is nobody's fault.
func gone(ctx context.Context, err error) bool {
	return errors.Is(ctx.Err(), context.Canceled) &&
		(errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled)
}

// validating checks every message that comes in. On streams a broken message
// ends Recv with the error; the handler may go on reading, or return it.
func validating(v *Validator, self map[string]bool) Interceptor {
	return Interceptor{
		Name: NameValidate,
		Unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if !self[info.FullMethod] {
				if err := validateMessage(v, req); err != nil {
					return nil, err
				}
			}
			return next(ctx, req)
		},
		Stream: func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if self[info.FullMethod] {
				return next(srv, s)
			}
			return next(srv, &validatedStream{ServerStream: s, validator: v})
		},
	}
}

type validatedStream struct {
	grpc.ServerStream
	validator *Validator
}

// RecvMsg reads and checks a message.
func (s *validatedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return validateMessage(s.validator, m)
}

func validateMessage(v *Validator, m any) error {
	if m, ok := m.(proto.Message); ok {
		return v.Validate(m)
	}
	return nil
}
