package axp

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/axpchat/connector/services/session-orchestrator/internal/limiter"
)

// The base paths of AXP's interfaces under the origin.
const (
	chatBase         = "/api/digital/channel/v1"
	notificationBase = "/api/digital/webhook/v1"
	authBase         = "/api/auth/v1"
	mediaBase        = "/api/media-store/v1"
)

// The names of the operations, as in AXP's own documents. They name spans,
// metrics and errors.
const (
	OpCreateSession           = "createDigitalSession"
	OpGetSession              = "getDigitalSession"
	OpAppendIdentifiers       = "appendIdentifiersInDigitalSession"
	OpUpdateSessionParameters = "updateSessionParametersInDigitalSession"
	OpDeleteSession           = "deleteDigitalSession"
	OpCreateEngagement        = "createDigitalEngagement"
	OpListEngagements         = "listDigitalEngagements"
	OpGetEngagement           = "getDigitalEngagement"
	OpJoinEngagement          = "joinDigitalEngagement"
	OpDisconnectEngagement    = "disconnectDigitalEngagement"
	OpSendMessage             = "sendDigitalMessage"
	OpListMessages            = "listDigitalMessages"
	OpCreateSubscription      = "createDigitalWebhookSubscription"
	OpListSubscriptions       = "listDigitalWebhookSubscriptions"
	OpGetSubscription         = "getDigitalWebhookSubscription"
	OpUpdateSubscription      = "updateDigitalWebhookSubscription"
	OpDeleteSubscription      = "deleteDigitalWebhookSubscription"
	OpGenerateToken           = "postGenerateToken"
	OpSignedUploadURI         = "signedMediaUploadUri"
	OpSignedDownloadURI       = "signedMediaDownloadUri"
	OpUploadMedia             = "uploadSignedMedia"
	OpDownloadMedia           = "getSignedMedia"
)

// Operation is one operation of AXP with the rule by which it is repeated.
//
// Every operation is repeated after an answer that shows it had no effect:
// 429, and a connection that could not be made. After an outcome that is
// unknown (no answer once the request was on its way, 408, 5xx) only an
// Idempotent one is. Any other answer is final. A 401 is not a repetition by
// this rule: the token is renewed once and the call made once more.
type Operation struct {
	// Name is AXP's operationId.
	Name string
	// Method is the HTTP method.
	Method string
	// Path is the path under the origin; parts in braces are filled in.
	Path string
	// Idempotent says that a second time does no harm.
	Idempotent bool
	// GoneIsDone says that 404 means that the wanted state is reached.
	GoneIsDone bool
	// BodyOptional says that a 2xx whose body cannot be read is a success all
	// the same, because nothing in the body is needed. Taking it for a failure
	// would have the caller repeat what AXP has confirmed.
	BodyOptional bool
	// Class is how urgent its calls are, where several wait.
	Class Class
	// Why is the reason for the rule.
	Why string
}

// Operations lists every operation that a Client can call. The rules follow
// from AXP having no means of idempotency.
func Operations() []Operation {
	operations := rules()
	for i := range operations {
		operations[i].Class = urgency(operations[i].Name)
	}
	return operations
}

// urgency puts what customers wait for first. Listing engagements belongs to
// the life cycle: it is how a creation with an unclear outcome is settled.
func urgency(operation string) Class {
	switch operation {
	case OpSendMessage:
		return limiter.Messages
	case OpCreateSession, OpGetSession, OpAppendIdentifiers, OpUpdateSessionParameters, OpDeleteSession,
		OpCreateEngagement, OpListEngagements, OpGetEngagement, OpJoinEngagement, OpDisconnectEngagement:
		return limiter.LifeCycle
	default:
		return limiter.Background
	}
}

func rules() []Operation {
	const (
		session      = chatBase + "/accounts/{accountId}/sessions/{sessionId}"
		engagement   = chatBase + "/accounts/{accountId}/engagements/{engagementId}"
		subscription = notificationBase + "/accounts/{accountId}/subscriptions/{subscriptionId}"
		media        = mediaBase + "/accounts/{accountId}/media"
	)
	return []Operation{
		{Name: OpCreateSession, Method: http.MethodPost, Path: chatBase + "/accounts/{accountId}/sessions",
			Why: "each call opens one more session; the caller may make a spare one knowingly"},
		{Name: OpGetSession, Method: http.MethodGet, Path: session, Idempotent: true, Why: "reads"},
		{Name: OpAppendIdentifiers, Method: http.MethodPost, Path: session + ":appendIdentifiers", BodyOptional: true,
			Why: "values are appended, a second time may double them"},
		{Name: OpUpdateSessionParameters, Method: http.MethodPost, Path: session + ":updateSessionParameters", Idempotent: true, BodyOptional: true,
			Why: "sets keys to values, the same a second time"},
		{Name: OpDeleteSession, Method: http.MethodDelete, Path: session, Idempotent: true, GoneIsDone: true, BodyOptional: true,
			Why: "404 means deleted"},
		{Name: OpCreateEngagement, Method: http.MethodPost, Path: chatBase + "/accounts/{accountId}/engagements",
			Why: "each call adds a dialog; list the session's engagements and look for the providerDialogId first"},
		{Name: OpListEngagements, Method: http.MethodGet, Path: chatBase + "/accounts/{accountId}/engagements", Idempotent: true, Why: "reads"},
		{Name: OpGetEngagement, Method: http.MethodGet, Path: engagement, Idempotent: true, Why: "reads"},
		{Name: OpJoinEngagement, Method: http.MethodPost, Path: engagement + ":join",
			Why: "the effect of joining twice is not documented; read the engagement first"},
		{Name: OpDisconnectEngagement, Method: http.MethodPost, Path: engagement + ":disconnect", Idempotent: true, GoneIsDone: true, BodyOptional: true,
			Why: "404 means disconnected"},
		{Name: OpSendMessage, Method: http.MethodPost, Path: engagement + "/messages", BodyOptional: true,
			Why: "a second time is a second message; wait for the echo or list once and look for the providerMessageId first"},
		{Name: OpListMessages, Method: http.MethodGet, Path: engagement + "/messages", Idempotent: true, Why: "reads"},
		{Name: OpCreateSubscription, Method: http.MethodPost, Path: notificationBase + "/accounts/{accountId}/subscriptions",
			Why: "a second subscription doubles every event; list first"},
		{Name: OpListSubscriptions, Method: http.MethodGet, Path: notificationBase + "/accounts/{accountId}/subscriptions", Idempotent: true, Why: "reads"},
		{Name: OpGetSubscription, Method: http.MethodGet, Path: subscription, Idempotent: true, Why: "reads"},
		{Name: OpUpdateSubscription, Method: http.MethodPut, Path: subscription, Idempotent: true, BodyOptional: true,
			Why: "replaces the whole by the same"},
		{Name: OpDeleteSubscription, Method: http.MethodDelete, Path: subscription, Idempotent: true, GoneIsDone: true, BodyOptional: true,
			Why: "404 means deleted"},
		{Name: OpGenerateToken, Method: http.MethodPost, Path: authBase + "/{accountId}/protocol/openid-connect/token", Idempotent: true,
			Why: "a spare token just expires"},
		{Name: OpSignedUploadURI, Method: http.MethodPost, Path: media + "/signed-upload-uri", Idempotent: true,
			Why: "a spare address just expires, nothing shows it to anybody"},
		{Name: OpSignedDownloadURI, Method: http.MethodGet, Path: media + "/{mediaId}/signed-download-uri", Idempotent: true, Why: "reads"},
		{Name: OpUploadMedia, Method: http.MethodPost, Path: mediaBase + "/media/{mediaId}", BodyOptional: true,
			Why: "the file is streamed and cannot be read twice; ask for a new address instead"},
		{Name: OpDownloadMedia, Method: http.MethodGet, Path: mediaBase + "/media/{mediaId}", Idempotent: true,
			Why: "reads; repeated until the first byte only"},
	}
}

// WriteOperations writes the retry rules as a Markdown table.
func WriteOperations(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| operation | request | repeated when the outcome is unknown | why |\n| --- | --- | --- | --- |\n")
	for _, op := range Operations() {
		repeated := "no"
		if op.Idempotent {
			repeated = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | `%s %s` | %s | %s |\n", op.Name, op.Method, op.Path, repeated, op.Why)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the table of operations: %w", err)
	}
	return nil
}
