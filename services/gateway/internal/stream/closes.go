package stream

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// closing is what a close code means, on every transport.
type closing struct {
	text      string
	reconnect bool
	// wait is how long a client should wait at most; each gets a part of it by
	// chance, so that they do not come back all at once.
	wait      time.Duration
	reason    axpchatv1.ErrorReason // UNSPECIFIED: the call ends well
	webSocket int                   // 1012: restart; 4000 to 4499: come back; 4500 to 4999: do not
}

// closings is the table of why streams end.
func closings() map[axpchatv1.CloseCode]closing {
	return map[axpchatv1.CloseCode]closing{
		axpchatv1.CloseCode_CLOSE_CODE_UNSPECIFIED:       {"the stream ended", true, time.Second, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, 4000},
		axpchatv1.CloseCode_CLOSE_CODE_SESSION_CLOSED:    {"the session is closed", false, 0, axpchatv1.ErrorReason_ERROR_REASON_UNSPECIFIED, 4500},
		axpchatv1.CloseCode_CLOSE_CODE_SERVER_SHUTDOWN:   {"the server leaves", true, time.Second, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, 1012},
		axpchatv1.CloseCode_CLOSE_CODE_SLOW_CONSUMER:     {"events were not read fast enough", true, time.Second, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, 4001},
		axpchatv1.CloseCode_CLOSE_CODE_TOKEN_EXPIRED:     {"the token has expired", true, 0, axpchatv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED, 4002},
		axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE:       {"the service can't go on at the moment", true, 5 * time.Second, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, 4003},
		axpchatv1.CloseCode_CLOSE_CODE_IDLE:              {"the client gave no sign of life", true, 0, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, 4004},
		axpchatv1.CloseCode_CLOSE_CODE_MAX_AGE:           {"the connection reached its greatest age", true, time.Second, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, 4005},
		axpchatv1.CloseCode_CLOSE_CODE_RATE_LIMITED:      {"more was asked than is allowed", true, 5 * time.Second, axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED, 4006},
		axpchatv1.CloseCode_CLOSE_CODE_STEPPED_UP:        {"the session's customer has signed in: come back with that customer's token", true, 0, axpchatv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED, 4007},
		axpchatv1.CloseCode_CLOSE_CODE_UNAUTHENTICATED:   {"the token or ticket was refused", false, 0, axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, 4501},
		axpchatv1.CloseCode_CLOSE_CODE_SESSION_NOT_FOUND: {"there is no such session", false, 0, axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND, 4502},
		axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR:    {"the client broke the protocol", false, 0, axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID, 4503},
	}
}

func closingOf(code axpchatv1.CloseCode) closing {
	all := closings()
	c, ok := all[code]
	if !ok {
		return all[axpchatv1.CloseCode_CLOSE_CODE_UNSPECIFIED]
	}
	return c
}

// End is how a stream ended.
type End struct {
	// Close is the last frame, as it was sent or should have been.
	Close *axpchatv1.Close
	cause error
	mute  bool // the client takes no frames any more
}

// newEnd makes the end of a stream; cause may be nil.
func newEnd(code axpchatv1.CloseCode, cursor string, cause error) End {
	c := closingOf(code)
	detail, wait := c.text, jitter(c.wait)
	if cause != nil {
		known := errs.From(cause)
		if known.Detail != "" {
			detail = known.Detail
		}
		if code == axpchatv1.CloseCode_CLOSE_CODE_RATE_LIMITED {
			wait += known.RetryAfter // not earlier, and not all at once
		}
	}
	return End{cause: cause, Close: &axpchatv1.Close{
		Code: code, Detail: detail, Reconnect: c.reconnect, Cursor: cursor, RetryAfterMs: wait.Milliseconds(),
	}}
}

// SessionClosed is the last frame of a stream whose session is closed.
func SessionClosed(cursor string) *axpchatv1.Close {
	return newEnd(axpchatv1.CloseCode_CLOSE_CODE_SESSION_CLOSED, cursor, nil).Close
}

// Err is the end as the error of a call; nil where the stream ended well, also
// because the client went away.
func (e End) Err() error {
	c := closingOf(e.Close.GetCode())
	switch {
	case e.cause == io.EOF: //nolint:errorlint // set by this package alone
		return nil
	case e.cause != nil:
		return errs.From(e.cause)
	case c.reason == axpchatv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		return nil
	}
	return errs.New(c.reason, e.Close.GetDetail()).WithRetryAfter(time.Duration(e.Close.GetRetryAfterMs()) * time.Millisecond)
}

// Gone tells that the client went away, or takes nothing any more.
func (e End) Gone() bool { return e.mute || e.cause == io.EOF } //nolint:errorlint // set by this package alone

// WebSocket is the close code of RFC 6455 and its text.
func (e End) WebSocket() (code int, text string) {
	return closingOf(e.Close.GetCode()).webSocket, e.Close.GetCode().String()
}

// codeOf chooses the close code for an error.
func codeOf(err error) axpchatv1.CloseCode {
	switch errs.From(err).Reason {
	case axpchatv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND:
		return axpchatv1.CloseCode_CLOSE_CODE_SESSION_NOT_FOUND
	case axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED:
		return axpchatv1.CloseCode_CLOSE_CODE_RATE_LIMITED
	case axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED:
		return axpchatv1.CloseCode_CLOSE_CODE_SESSION_CLOSED
	case axpchatv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED:
		return axpchatv1.CloseCode_CLOSE_CODE_TOKEN_EXPIRED
	case axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, axpchatv1.ErrorReason_ERROR_REASON_TICKET_INVALID,
		axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN, axpchatv1.ErrorReason_ERROR_REASON_ORIGIN_FORBIDDEN:
		return axpchatv1.CloseCode_CLOSE_CODE_UNAUTHENTICATED
	case axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID,
		axpchatv1.ErrorReason_ERROR_REASON_CURSOR_INVALID, axpchatv1.ErrorReason_ERROR_REASON_TOO_LARGE:
		return axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR
	default:
		return axpchatv1.CloseCode_CLOSE_CODE_UNAVAILABLE
	}
}

// jitter is a part of d by chance.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d) //nolint:gosec // spreads load, guards nothing
}

const closesHead = `# Close codes

<!-- Made by make generate from services/gateway/internal/stream/closes.go; do not edit. -->

Every stream ends with a ` + "`close`" + ` frame, the same on all transports: a code, a text for people, whether to come
back, when, and the cursor to come back with. On gRPC the call's status says it again, on a WebSocket the close
code of RFC 6455: 1012 and 4000 to 4499 mean come back, 4500 to 4999 mean do not. A transport that ends without
a close frame has been cut: come back with the last cursor, waiting longer after each failure.

| code | meaning | come back | wait at most | gRPC | WebSocket |
| --- | --- | --- | --- | --- | --- |
`

// WriteCloses writes the table of close codes as Markdown, for the documentation.
func WriteCloses(w io.Writer) error {
	if _, err := io.WriteString(w, closesHead); err != nil {
		return err
	}
	for n := range int32(len(axpchatv1.CloseCode_name)) {
		code := axpchatv1.CloseCode(n)
		c, back, grpc := closingOf(code), "no", "OK"
		if c.reconnect {
			back = "yes"
		}
		if c.reason != axpchatv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
			grpc = errs.Code(c.reason).String()
		}
		if _, err := fmt.Fprintf(w, "| `%s` | %s | %s | %s | %s | %d |\n", code, c.text, back, c.wait, grpc, c.webSocket); err != nil {
			return err
		}
	}
	return nil
}
