package connector_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/axpchat/connector"

// TestCommandsContainOnlyWhatTheyMay asks the compiler what each command is
// made of: the sandbox is in no production command, a NATS server in none but
// connector, and no service in another one's.
func TestCommandsContainOnlyWhatTheyMay(t *testing.T) {
	t.Parallel()
	const (
		sandbox      = module + "/services/axp-sandbox"
		gateway      = module + "/services/gateway"
		orchestrator = module + "/services/session-orchestrator"
		ingest       = module + "/services/webhook-ingest"
		axpClient    = orchestrator + "/internal/axp"
		natsServer   = "github.com/nats-io/nats-server/"
		testing      = "testing"
	)
	for _, c := range []struct {
		pkg     string
		must    []string
		mustNot []string
	}{
		{gateway + "/cmd/gateway", []string{gateway}, []string{sandbox, orchestrator, ingest, axpClient, natsServer, testing}},
		{orchestrator + "/cmd/session-orchestrator", []string{orchestrator, axpClient}, []string{sandbox, gateway, ingest, natsServer, testing}},
		{ingest + "/cmd/webhook-ingest", []string{ingest}, []string{sandbox, gateway, orchestrator, axpClient, natsServer, testing}},
		{module + "/services/connector/cmd/connector", []string{gateway, orchestrator, ingest, natsServer}, []string{sandbox, testing}},
		{module + "/services/connector/cmd/connector-dev", []string{gateway, orchestrator, ingest, natsServer, sandbox}, []string{testing}},
		{sandbox + "/cmd/axp-sandbox", []string{sandbox}, []string{gateway, orchestrator, ingest, natsServer, testing}},
		{module + "/gen/...", nil, []string{module + "/services", natsServer, "github.com/nats-io/", "go.opentelemetry.io/otel/sdk", testing}},
		{module + "/services/internal/kit/...", nil, []string{sandbox, gateway, orchestrator, ingest}},
	} {
		deps := dependencies(t, c.pkg)
		for _, want := range c.must {
			if !contains(deps, want) {
				t.Errorf("%s does not contain %s: the test looks at the wrong thing", c.pkg, want)
			}
		}
		for _, unwanted := range c.mustNot {
			if contains(deps, unwanted) {
				t.Errorf("%s contains %s", c.pkg, unwanted)
			}
		}
	}
}

func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pkg, err)
	}
	return strings.Fields(string(out))
}

// contains finds a package or one below it; a prefix that ends in a slash is
// taken as it is.
func contains(deps []string, pkg string) bool {
	for _, d := range deps {
		if d == pkg || strings.HasPrefix(d, strings.TrimSuffix(pkg, "/")+"/") {
			return true
		}
	}
	return false
}
