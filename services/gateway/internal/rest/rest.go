package rest

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/commands"
	"github.com/axpchat/connector/services/gateway/internal/httpproblem"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/httpx"
)

// IdempotencyKey is the header that makes a POST safe to repeat.
const IdempotencyKey = "Idempotency-Key"

type idempotencyKey struct{}

// Calls is the interceptor of the in-process connection: it carries the
// idempotency key of the HTTP request into the message.
func Calls() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		id, _ := ctx.Value(idempotencyKey{}).(string)
		if m, ok := req.(proto.Message); ok && id != "" {
			if err := commands.SetRequestID(m, id); err != nil {
				return err
			}
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	}
}

// New returns the REST handler over a connection to ChatService, which must use
// the interceptor Calls. What verify does not accept is refused before it becomes
// a call, which would cost several times as much; what it accepts becomes a call
// as it returns it. What is the customer's the call finds out by itself. Answers are
// encoded by m.
func New(ctx context.Context, conn grpc.ClientConnInterface, verify func(*http.Request) (*http.Request, error), m runtime.Marshaler) (http.Handler, error) {
	known, err := newMethods()
	if err != nil {
		return nil, err
	}
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, m),
		// The token goes over by grpc-gateway itself, request id and trace by the
		// client of the connection. Nothing else of a stranger's headers may become
		// metadata, which services trust.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithErrorHandler(writeError),
		runtime.WithStreamErrorHandler(noteStreamError),
		runtime.WithRoutingErrorHandler(known.writeRoutingError),
		// No other ways to say a method than the method.
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
	)
	if err := axpchatv1.RegisterChatServiceHandlerClient(ctx, mux, axpchatv1.NewChatServiceClient(conn)); err != nil {
		return nil, fmt.Errorf("REST: %w", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if route(r.URL.Path) != unmatched {
			verified, err := verify(r)
			if err != nil {
				httpx.WriteProblem(w, r, err)
				return
			}
			r = verified
		}
		ctx := r.Context()
		if id := r.Header.Get(IdempotencyKey); id != "" && r.Method == http.MethodPost {
			ctx = context.WithValue(ctx, idempotencyKey{}, id)
		}
		r = r.WithContext(ctx)
		r.Header.Del("Grpc-Timeout") // the server's own limits hold
		serveAsProblem(mux, w, r)
	}), nil
}

func writeError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Del("Trailer")
	w.Header().Del("Transfer-Encoding")
	httpx.WriteProblem(w, r, translate(err))
}

// translate improves what grpc-gateway says about a body that it could not
// decode: the decoder's text may repeat what the customer wrote.
func translate(err error) error {
	st, ok := status.FromError(err)
	if !ok || st.Code() != codes.InvalidArgument || len(st.Details()) > 0 {
		return err
	}
	text := st.Message()
	if strings.Contains(text, "request body too large") {
		return errs.New(axpchatv1.ErrorReason_ERROR_REASON_TOO_LARGE, "the body is larger than is allowed")
	}
	unread := errs.New(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "the request has a field that can't be read")
	if explained, ok := httpproblem.Explain(unread, text); ok {
		return explained
	}
	return errs.New(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "the request can't be decoded: it is not JSON of this method, or a parameter has the wrong type")
}

// writeRoutingError answers what is no call. A path that is for no method at all
// does not exist, whatever pattern it fits into.
func (m *methods) writeRoutingError(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	allowed := []string(nil)
	if code == http.StatusMethodNotAllowed {
		allowed = m.of(r)
	}
	switch {
	case len(allowed) > 0:
		w.Header().Set("Allow", strings.Join(allowed, ", ")) // RFC 9110, section 15.5.6
		httpproblem.Write(w, r, code, errs.New(axpchatv1.ErrorReason_ERROR_REASON_NOT_FOUND, "the path exists, but not for this method"))
	case code == http.StatusBadRequest:
		httpx.WriteProblem(w, r, errs.New(axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, "the path is not well formed"))
	default:
		httpx.WriteProblem(w, r, errs.New(axpchatv1.ErrorReason_ERROR_REASON_NOT_FOUND, ""))
	}
}
