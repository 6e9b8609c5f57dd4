// Package tenants shows, against the production connector, that several AXP
// accounts in one deployment have nothing of each other, and come and go while
// the others chat. Each account has an AXP of its own: a sandbox process. It uses
// no package of a service.
package tenants

import (
	"context"
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/internal/suitetest"
)

// binaries is where the commands are, which are built once, before the first test.
var binaries string

func TestMain(m *testing.M) {
	flag.Parse()
	if !testing.Short() {
		var err error
		if binaries, err = os.MkdirTemp("", "tenants"); err == nil {
			err = suitetest.Build(context.Background(), binaries, "./connector/cmd/connector", "./axp-sandbox/cmd/axp-sandbox")
		}
		if err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m,
		goleak.Cleanup(func(code int) {
			_ = os.RemoveAll(binaries) // what is left is in the machine's own folder for that
			os.Exit(code)              //nolint:forbidigo // as goleak does by itself
		}),
		// The default HTTP client keeps connections for its next request.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}
