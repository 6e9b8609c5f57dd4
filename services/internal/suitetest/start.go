package suitetest

import "testing"

// Start runs the suite.
func Start(t testing.TB) *Suite { return StartProcesses(t) }
