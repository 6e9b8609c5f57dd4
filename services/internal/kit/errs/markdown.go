package errs

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// preface stands above the table of [WriteCatalogue].
const preface = `# Errors

<!-- Written by services/internal/kit/errs/cmd/errordoc; edit the catalogue there. -->

Every failure has one reason, the same over all transports. Decide by the reason, never by a text: texts
change.

| transport | where the reason is | what else is there |
| --- | --- | --- |
| gRPC | ` + "`google.rpc.ErrorInfo.reason`, domain `" + Domain + "`" + ` | metadata ` + "`retryable`, `action`; `BadRequest`, `RetryInfo`, `RequestInfo`" + ` |
| REST | member ` + "`reason` of `application/problem+json`" + ` | ` + "`type`, `title`, `status`, `detail`, `instance`, `action`, `retryable`, `retryAfterMs`, `violations`, `requestId`; header `Retry-After`" + ` |
| frames (gRPC stream, WebSocket, SSE) | ` + "`Problem.reason`, as the enum value `ERROR_REASON_…`" + ` | ` + "`code`, `detail`, `retryable`, `retryAfterMs`, `violations`, `requestId`" + ` |

"Again" says whether the same request may succeed later. Repeat it with the same request id or client message
id: what was done already is not done twice. Where a waiting time is given, wait that long.

| reason | meaning | gRPC | HTTP | again | what to do |
| --- | --- | --- | --- | --- | --- |
`

// WriteCatalogue writes the catalogue as Markdown, ordered by the numbers of the
// reasons.
func WriteCatalogue(w io.Writer) error {
	var b strings.Builder
	b.WriteString(preface)
	for _, reason := range slices.Sorted(maps.Keys(catalogue)) {
		again := "no"
		if Retryable(reason) {
			again = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %d | %s | %s |\n",
			Name(reason), Title(reason), Code(reason), HTTPStatus(reason), again, Action(reason))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the catalogue of errors: %w", err)
	}
	return nil
}
