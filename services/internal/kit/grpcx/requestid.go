package grpcx

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
)

// RequestIDKey is the metadata key, and in lower case the HTTP header, that
// carries request ids.
const RequestIDKey = "x-request-id"

// maxRequestID is how long an id from outside may be.
const maxRequestID = 128

type requestIDKey struct{}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// WithRequestID returns a context whose calls, through a client of [Dial], carry
// the request id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// AcceptRequestID returns the id that a caller sent if it is harmless in logs
// and headers, that is 1 to 128 of A-Z a-z 0-9 . _ -, and a new one otherwise.
func AcceptRequestID(id string) string {
	if validRequestID(id) {
		return id
	}
	return uuid.NewString()
}

func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		ok := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
		if !ok {
			return false
		}
	}
	return true
}

// incomingRequestID returns the id that the caller sent, or a new one.
func incomingRequestID(ctx context.Context) string {
	if values := metadata.ValueFromIncomingContext(ctx, RequestIDKey); len(values) > 0 {
		return AcceptRequestID(values[0])
	}
	return AcceptRequestID("")
}

// outgoing puts the request id of ctx into the metadata of a call, unless the
// caller put one there itself.
func outgoing(ctx context.Context) context.Context {
	id := RequestID(ctx)
	if id == "" {
		return ctx
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md.Get(RequestIDKey)) > 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, RequestIDKey, id)
}
