// Package e2e tells the chat's whole story to the running suite, as its users
// would: through every way in, in one process and in separate ones, with bad
// input, and in a real browser. It uses no package of a service.
package e2e

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The default HTTP client keeps connections for its next request.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}
