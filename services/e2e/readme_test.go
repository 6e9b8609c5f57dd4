package e2e

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/axpchat/connector/services/internal/suitetest"
)

// TestREADMECommandsWork pastes the README's chat from the command line into a
// shell, with only the ports changed to those of this test's suite.
func TestREADMECommandsWork(t *testing.T) {
	if testing.Short() {
		t.Skip("builds grpcurl")
	}
	for _, tool := range []string{"bash", "curl", "make"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	out := paste(t, suitetest.Start(t), shellBlocks(t, "README.md", "## Chat from the command line"))
	for _, want := range []string{
		`"MESSAGE_STATUS_ACCEPTED"`, "Hello, do you have boots?", // REST
		"event: welcome", "messageDelivered", // SSE
		"And in red?", `"sendMessage"`, // gRPC
		`"SESSION_STATUS_CLOSED"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output has no %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// TestSandboxCommandsWork pastes what the sandbox's document says into a shell.
func TestSandboxCommandsWork(t *testing.T) {
	for _, tool := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	script := ""
	for heading := range strings.SplitSeq("## Look inside,## Make things go wrong", ",") {
		script += shellBlocks(t, "deploy/docs/sandbox.md", heading)
	}
	// A refusal must fail, not only show.
	out := paste(t, suitetest.Start(t), strings.ReplaceAll(script, "curl -s ", "curl -sS --fail-with-body "))
	for _, want := range []string{`"subscriptions"`, `"createDigitalWebhookSubscription"`, `"answerLost"`, `"swallow"`} {
		if !strings.Contains(out, want) {
			t.Errorf("the output has no %s:\n%s", want, out)
		}
	}
}

func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// paste runs a script at the repository's root, against the suite in place of
// what make run starts, and returns its output.
func paste(t testing.TB, s *suitetest.Suite, script string) string {
	t.Helper()
	port := func(url string) string {
		_, p, err := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		return "127.0.0.1:" + p
	}
	script = strings.NewReplacer("localhost:8090", port(s.Sandbox), "localhost:8081", port(s.HTTP), "localhost:8080", port(s.GRPC)).Replace(script)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = root()
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// shellBlocks returns the sh blocks of a section of a document as one script.
func shellBlocks(t testing.TB, path, heading string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root(), path))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(data), heading+"\n")
	if !ok {
		t.Fatalf("no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var script strings.Builder
	inside := false
	for line := range strings.Lines(section) {
		switch {
		case strings.HasPrefix(line, "```sh"):
			inside = true
		case strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			script.WriteString(line)
		}
	}
	if script.Len() == 0 {
		t.Fatalf("no commands below %q", heading)
	}
	return script.String()
}
