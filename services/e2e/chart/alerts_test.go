package chart

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAlertsNameMetricsThatExist: an alert on a metric that was renamed never fires.
func TestAlertsNameMetricsThatExist(t *testing.T) {
	objects := render(t, setFile("everything"))
	there := instruments(t)
	var spec struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For string
				Labels           struct{ Severity string }
				Annotations      map[string]string
			}
		}
	}
	find(t, objects, "PrometheusRule", strings.TrimSuffix(prefix, "-")).decode(t, &spec)
	if len(spec.Groups) != 1 || len(spec.Groups[0].Rules) < 8 {
		t.Fatalf("%+v", spec)
	}
	for _, r := range spec.Groups[0].Rules {
		metrics := regexp.MustCompile(`(axpchat_[a-z_]+)(\{[^}]*\})?`).FindAllStringSubmatch(r.Expr, -1)
		if len(metrics) == 0 || r.For == "" || r.Labels.Severity == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%+v", r)
		}
		for _, m := range metrics {
			if !there[m[1]] {
				t.Errorf("%s: there is no metric %s", r.Alert, m[1])
			}
			if !strings.Contains(m[2], `namespace="`+namespace+`"`) {
				t.Errorf("%s looks at every release of the cluster", r.Alert)
			}
		}
	}
}

// instruments are the suite's metrics as Prometheus shows them.
func instruments(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	name := regexp.MustCompile(`(Counter|Gauge|Histogram|gauge|counter)?(?:\(|\{[^"{}]*|, )"(axpchat[._][a-z._]+)"`)
	err := filepath.WalkDir(filepath.Join(root(), "services"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range name.FindAllSubmatch(source, -1) {
			base := strings.ReplaceAll(string(m[2]), ".", "_")
			switch kind := strings.ToLower(string(m[1])); kind {
			case "gauge":
				there[base] = true
			case "histogram":
				there[strings.TrimSuffix(base, "_seconds")+"_seconds_bucket"] = true
			default:
				there[strings.TrimSuffix(base, "_total")+"_total"] = true
			}
		}
		return err
	})
	if err != nil || len(there) < 30 {
		t.Fatalf("%d metrics, %v: the test looks at the wrong thing", len(there), err)
	}
	return there
}
