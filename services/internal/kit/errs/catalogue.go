package errs

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// reasonPrefix is what every name of the enum begins with and no wire format
// repeats.
const reasonPrefix = "ERROR_REASON_"

// entry is what the catalogue says about a reason.
type entry struct {
	code      codes.Code
	http      int
	retryable bool
	// title says what happened, the same for every occurrence.
	title string
	// action says what the caller should do about it.
	action string
}

// catalogue has an entry for every reason. Codes and HTTP statuses do not follow
// one another mechanically: gRPC has one code for "the state does not allow it"
// where HTTP has several statuses that clients and proxies treat differently.
//
//nolint:gochecknoglobals // a constant table, which is never written to
var catalogue = map[axpchatv1.ErrorReason]entry{
	axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT: {codes.InvalidArgument, http.StatusBadRequest, false,
		"The request breaks a rule",
		"Correct the fields that the violations name; the same request fails again."},
	axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED: {codes.Unauthenticated, http.StatusUnauthorized, false,
		"There is no valid token",
		"Get a token from your login service and send it as Authorization: Bearer."},
	axpchatv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED: {codes.Unauthenticated, http.StatusUnauthorized, false,
		"The token has expired",
		"Get a fresh token from your login service and repeat the call with it."},
	axpchatv1.ErrorReason_ERROR_REASON_TICKET_INVALID: {codes.Unauthenticated, http.StatusUnauthorized, false,
		"The ticket is not valid",
		"Ask for a new ticket and use it once, soon and for the purpose it was made for."},
	axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN: {codes.PermissionDenied, http.StatusForbidden, false,
		"The account is not served here",
		"Check the account in the token; an operator adds accounts to the connector's configuration."},
	axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND: {codes.NotFound, http.StatusNotFound, false,
		"There is no such session",
		"Check the session id and whose token is sent, or create a new session."},
	axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED: {codes.FailedPrecondition, http.StatusConflict, false,
		"The session is closed",
		"Create a new session."},
	axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_NOT_FOUND: {codes.NotFound, http.StatusNotFound, false,
		"There is no such engagement",
		"List the session's engagements, or create a new one."},
	axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_ENDED: {codes.FailedPrecondition, http.StatusConflict, false,
		"The chat is over",
		"Create a new engagement on the same session."},
	axpchatv1.ErrorReason_ERROR_REASON_ENGAGEMENT_OPEN: {codes.AlreadyExists, http.StatusConflict, false,
		"The session has an open chat already",
		"Use the open engagement, or end it first."},
	axpchatv1.ErrorReason_ERROR_REASON_ATTACHMENT_NOT_FOUND: {codes.NotFound, http.StatusNotFound, false,
		"There is no such attachment",
		"Check the attachment id; it belongs to one session."},
	axpchatv1.ErrorReason_ERROR_REASON_IDEMPOTENCY_KEY_REUSED: {codes.FailedPrecondition, http.StatusUnprocessableEntity, false,
		"The key was used before with other content",
		"Make a new request id or client message id for every new request; repeat one only with the same content."},
	axpchatv1.ErrorReason_ERROR_REASON_REQUEST_IN_PROGRESS: {codes.Aborted, http.StatusConflict, true,
		"The same request is still under way",
		"Repeat the same request, with the same id, after a short wait."},
	axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED: {codes.ResourceExhausted, http.StatusTooManyRequests, true,
		"Too many requests",
		"Wait as long as told, then repeat the request."},
	axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED: {codes.InvalidArgument, http.StatusBadRequest, false,
		"AXP refused the request",
		"Correct what the violations name; the same request fails again."},
	axpchatv1.ErrorReason_ERROR_REASON_AXP_CREDENTIALS: {codes.Unavailable, http.StatusServiceUnavailable, false,
		"AXP refused the connector's credentials",
		"Tell an operator: the account's credentials in the connector's configuration must be corrected."},
	axpchatv1.ErrorReason_ERROR_REASON_AXP_UNAVAILABLE: {codes.Unavailable, http.StatusServiceUnavailable, true,
		"AXP can't be reached",
		"Repeat the request later, waiting longer each time."},
	axpchatv1.ErrorReason_ERROR_REASON_AXP_RATE_LIMITED: {codes.ResourceExhausted, http.StatusTooManyRequests, true,
		"AXP limits the connector's calls",
		"Wait as long as told, then repeat the request."},
	axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE: {codes.Unavailable, http.StatusServiceUnavailable, true,
		"Part of the connector can't be reached",
		"Repeat the request, with the same id, after a short wait."},
	axpchatv1.ErrorReason_ERROR_REASON_INTERNAL: {codes.Internal, http.StatusInternalServerError, false,
		"The connector has a fault",
		"Report it with the request id, under which the connector's log holds the cause."},
	axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID: {codes.InvalidArgument, http.StatusBadRequest, false,
		"The frame is malformed or comes at the wrong time",
		"Correct the client: hello comes first and once, and every frame follows the schema."},
	axpchatv1.ErrorReason_ERROR_REASON_CURSOR_INVALID: {codes.InvalidArgument, http.StatusBadRequest, false,
		"The cursor is not one of this session",
		"Start without a cursor, or with the last one that was received for this session."},
	axpchatv1.ErrorReason_ERROR_REASON_AXP_NOT_FOUND: {codes.NotFound, http.StatusNotFound, false,
		"AXP knows it no more",
		"Create a new session or engagement."},
	axpchatv1.ErrorReason_ERROR_REASON_MESSAGE_EXPIRED: {codes.DeadlineExceeded, http.StatusGatewayTimeout, false,
		"The message could not be sent in time",
		"Ask the customer whether to send it again, as a new message with a new id."},
	axpchatv1.ErrorReason_ERROR_REASON_NOT_FOUND: {codes.Unimplemented, http.StatusNotFound, false,
		"There is no such method or path",
		"Check the address and the version of the API."},
	axpchatv1.ErrorReason_ERROR_REASON_TOO_LARGE: {codes.InvalidArgument, http.StatusRequestEntityTooLarge, false,
		"The request is too large",
		"Send less at once."},
	axpchatv1.ErrorReason_ERROR_REASON_PAGE_TOKEN_INVALID: {codes.InvalidArgument, http.StatusBadRequest, false,
		"The page token is not one of this list",
		"Start the list from its beginning, without a page token."},
	axpchatv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED: {codes.DeadlineExceeded, http.StatusGatewayTimeout, true,
		"The call took too long",
		"Repeat the request with the same id; it may have had its effect already."},
	axpchatv1.ErrorReason_ERROR_REASON_ORIGIN_FORBIDDEN: {codes.PermissionDenied, http.StatusForbidden, false,
		"Pages of this origin may not use the API",
		"Open the page from an origin that the connector's configuration allows for the account; an operator adds origins to it."},
}

// known returns the reason itself, or INTERNAL for one that the catalogue does
// not have, such as one of a newer version.
func known(reason axpchatv1.ErrorReason) axpchatv1.ErrorReason {
	if _, ok := catalogue[reason]; ok {
		return reason
	}
	return axpchatv1.ErrorReason_ERROR_REASON_INTERNAL
}

func lookup(reason axpchatv1.ErrorReason) entry { return catalogue[known(reason)] }

// Code returns the gRPC code of the reason.
func Code(reason axpchatv1.ErrorReason) codes.Code { return lookup(reason).code }

// HTTPStatus returns the HTTP status of the reason.
func HTTPStatus(reason axpchatv1.ErrorReason) int { return lookup(reason).http }

// Retryable reports whether the same request may succeed later.
func Retryable(reason axpchatv1.ErrorReason) bool { return lookup(reason).retryable }

// Title says in a few words what the reason means.
func Title(reason axpchatv1.ErrorReason) string { return lookup(reason).title }

// Action says what a caller should do about an error of the reason.
func Action(reason axpchatv1.ErrorReason) string { return lookup(reason).action }

// Name returns the reason as wire formats spell it: the name of the enum value
// without ERROR_REASON_.
func Name(reason axpchatv1.ErrorReason) string {
	return strings.TrimPrefix(known(reason).String(), reasonPrefix)
}

// Type returns the URI that the member "type" of a problem holds. It is a name
// and not an address: nothing is served there.
func Type(reason axpchatv1.ErrorReason) string {
	return "urn:axpchat:error:" + strings.ReplaceAll(strings.ToLower(Name(reason)), "_", "-")
}

// parseName is the reverse of Name. It reports false for a name that this
// version does not know.
func parseName(name string) (axpchatv1.ErrorReason, bool) {
	reason := axpchatv1.ErrorReason(axpchatv1.ErrorReason_value[reasonPrefix+name])
	_, ok := catalogue[reason]
	return reason, ok
}
