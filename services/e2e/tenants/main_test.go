// Package tenants shows, against the production connector, that several AXP
// accounts in one deployment have nothing of each other, and come and go while
// the others chat. Each account has an AXP of its own: a sandbox process. It uses
// no package of a service.
package tenants

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
