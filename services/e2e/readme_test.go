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
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..")
	script := shellBlocks(t, filepath.Join(root, "README.md"), "## Chat from the command line")
	s := suitetest.Start(t)
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
	cmd.Dir = root
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		`"MESSAGE_STATUS_ACCEPTED"`, "Hello, do you have boots?", // REST
		"event: welcome", "messageDelivered", // SSE
		"And in red?", `"sendMessage"`, // gRPC
		`"SESSION_STATUS_CLOSED"`,
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output has no %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// shellBlocks returns the sh blocks of a section as one script.
func shellBlocks(t testing.TB, path, heading string) string {
	t.Helper()
	data, err := os.ReadFile(path)
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
