package chaos

import (
	"context"
	"flag"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var seedFlag = flag.Uint64("chaos.seed", 0, "seed of the reduced run; 0: by chance")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// TestReduced is make chaos in little: fewer customers, and the faults that any
// deployment meets in its first week.
func TestReduced(t *testing.T) {
	if testing.Short() {
		t.Skip("runs ten processes for a minute")
	}
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(rand.Uint32())
	}
	t.Logf("repeat with -chaos.seed=%d", seed)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	logs := t.TempDir()
	report, err := Run(ctx, Options{
		Seed: seed, Clients: 40, Every: 4 * time.Second, Mix: -1, BackFill: true, Artifacts: logs, Out: t.Output(),
		Only: []string{"kill -9 gateway", "kill -9 orchestrator", "kill -9 ingest", "kill -9 NATS leader", "SIGTERM gateway", "clients vanish", "callbacks duplicated"},
	})
	if report != nil {
		t.Log(report)
	}
	if err != nil {
		showLogs(t, logs)
		t.Fatal(err)
	}
	if !report.OK() {
		t.Error("the promise is broken; see the table")
	}
	if want := 8; len(report.Rows) != want {
		t.Errorf("%d rows, want %d", len(report.Rows), want)
	}
	for _, row := range report.Rows {
		if row.Events.Accepted == 0 || row.Messages.Accepted == 0 {
			t.Errorf("%s: nobody talked, so nothing is proved", row.Name)
		}
	}
}

// showLogs shows how processes ended that did not even start.
func showLogs(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		t.Logf("--- %s ---\n%s", filepath.Base(file), data[max(0, len(data)-2000):])
	}
}

func TestPlanFollowsFromTheSeed(t *testing.T) {
	a, b, other := NewPlan(Options{Seed: 5}), NewPlan(Options{Seed: 5}), NewPlan(Options{Seed: 6})
	if a.String() != b.String() {
		t.Error("one seed, two plans")
	}
	if a.String() == other.String() {
		t.Error("two seeds, one plan")
	}
	if len(a.Mix) < 15 || len(a.Rows) != len(faults()) {
		t.Errorf("%d rows and %d faults mixed", len(a.Rows), len(a.Mix))
	}
}

func TestPlanSaysWhatIsNotRun(t *testing.T) {
	report := &Report{Plan: NewPlan(Options{Seed: 1, Only: []string{"swallowed"}})}
	for _, step := range report.Plan.Rows {
		report.Rows = append(report.Rows, Row{Name: step.Name, Skipped: step.skip})
	}
	if text := report.String(); !strings.Contains(text, "NOT RUN") || !strings.Contains(text, "callbacks swallowed was not run") {
		t.Errorf("the report does not say it:%s", text)
	}
	if report.OK() {
		t.Error("a report of nothing is not OK")
	}
	if with := NewPlan(Options{Seed: 1, BackFill: true, Only: []string{"swallowed"}}); with.Rows[0].skip != "" {
		t.Error("it must be run where the connector can do it")
	}
}
