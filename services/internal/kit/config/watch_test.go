package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

type tenant struct {
	ID     string `yaml:"id" required:"true"`
	Key    Secret `yaml:"key" required:"true"`
	Origin string `yaml:"origin"`
}

type watched struct {
	Addr    string   `env:"ADDR" default:":80"`
	Most    int      `env:"MOST" default:"3"`
	Secret  Secret   `env:"SECRET" reload:"true"`
	Tenants []tenant `yaml:"tenants" reload:"true"`
}

func (w *watched) Validate() []Mistake {
	if len(w.Tenants) > w.Most {
		return []Mistake{{Key: "tenants", Problem: "are more than MOST"}}
	}
	return nil
}

// bench is a watcher over real files whose looks the test takes itself.
type bench struct {
	t       *testing.T
	dir     string
	file    string
	logs    *bytes.Buffer
	reader  *metric.ManualReader
	applied []watched
	fail    error
	w       *Watcher[watched]
}

func newBench(t *testing.T, content string, env map[string]string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), logs: &bytes.Buffer{}, reader: metric.NewManualReader()}
	b.file = filepath.Join(b.dir, "config.yaml")
	b.write(content)
	all := map[string]string{FileKey: b.file}
	for k, v := range env {
		all[k] = strings.ReplaceAll(v, "DIR", b.dir)
	}
	p := WatchParams[watched]{
		Sources: Map(all), Log: slog.New(slog.NewTextHandler(b.logs, nil)), Meter: metric.NewMeterProvider(metric.WithReader(b.reader)),
		Apply: func(_ context.Context, next *watched) error {
			if b.fail == nil {
				b.applied = append(b.applied, *next)
			}
			return b.fail
		},
	}
	if err := Load(&p.Current, p.Sources); err != nil {
		t.Fatal(err)
	}
	w, err := NewWatcher(p)
	if err != nil {
		t.Fatal(err)
	}
	b.w = w
	b.settle()
	if len(b.applied) > 0 || b.logs.Len() > 0 {
		t.Fatalf("what was there from the start was taken for a change: %s", b.logs)
	}
	return b
}

func (b *bench) put(name, content string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(strings.ReplaceAll(content, "DIR", b.dir)), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) write(content string) { b.t.Helper(); b.put("config.yaml", content) }

// settle looks until nothing is unsettled.
func (b *bench) settle() {
	b.t.Helper()
	for range 3 {
		if !b.w.look(b.t.Context(), false) {
			return
		}
	}
	b.t.Fatal("files that do not change never settle")
}

func (b *bench) ids() string {
	if len(b.applied) == 0 {
		return "nothing applied"
	}
	var ids []string
	for _, t := range b.applied[len(b.applied)-1].Tenants {
		ids = append(ids, t.ID+":"+t.Key.Reveal())
	}
	return strings.Join(ids, " ")
}

// metric is the value of a series, -1 where there is none.
func (b *bench) metric(name, result string) int64 {
	b.t.Helper()
	var all metricdata.ResourceMetrics
	if err := b.reader.Collect(b.t.Context(), &all); err != nil {
		b.t.Fatal(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if m.Name != name {
			continue
		}
		var points []metricdata.DataPoint[int64]
		switch d := m.Data.(type) {
		case metricdata.Sum[int64]:
			points = d.DataPoints
		case metricdata.Gauge[int64]:
			points = d.DataPoints
		}
		for _, p := range points {
			if v, ok := p.Attributes.Value("result"); !ok && result == "" || ok && v.AsString() == result {
				return p.Value
			}
		}
	}
	return -1
}

const (
	one = "tenants: [{id: a, key: s3cret-a}]\n"
	two = "tenants:\n- {id: a, key: s3cret-a}\n- {id: b, key: s3cret-b}\n"
)

func TestAChangeIsAppliedWhenItHasStayed(t *testing.T) {
	b := newBench(t, one, nil)
	b.write(two)
	if !b.w.look(t.Context(), false) || len(b.applied) > 0 {
		t.Fatal("a change must be looked at twice")
	}
	if b.w.look(t.Context(), false) || b.ids() != "a:s3cret-a b:s3cret-b" {
		t.Fatalf("got %s", b.ids())
	}
	b.settle()
	if len(b.applied) != 1 || b.metric("axpchat_config_reloads_total", "applied") != 1 || b.metric("axpchat_config_current", "") != 1 {
		t.Errorf("applied %d times", len(b.applied))
	}
	if !strings.Contains(b.logs.String(), "keys=tenants") || strings.Contains(b.logs.String(), "s3cret") {
		t.Errorf("the log must name the key and no secret: %s", b.logs)
	}
}

// TestAHalfWrittenFileIsNotBelieved writes half of a list first, which is a list
// without mistakes.
func TestAHalfWrittenFileIsNotBelieved(t *testing.T) {
	b := newBench(t, two, nil)
	b.write(two[:strings.Index(two, "- {id: b")])
	if !b.w.look(t.Context(), false) {
		t.Fatal("nothing noticed")
	}
	b.write(two + "- {id: c, key: s3cret-c}\n")
	if !b.w.look(t.Context(), false) {
		t.Fatal("the second half was taken for the first")
	}
	b.settle()
	if len(b.applied) != 1 || b.ids() != "a:s3cret-a b:s3cret-b c:s3cret-c" {
		t.Errorf("applied %d times, at last %s", len(b.applied), b.ids())
	}
}

// TestASymbolicLinkIsSwapped changes a file as Kubernetes does: the file is a
// link into ..data, which is a link that is renamed over.
func TestASymbolicLinkIsSwapped(t *testing.T) {
	b := newBench(t, one, nil)
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for version, content := range map[string]string{"..1": one, "..2": two} {
		if err := os.Mkdir(filepath.Join(b.dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		b.put(filepath.Join(version, "config.yaml"), content)
	}
	if err := os.Remove(b.file); err != nil {
		t.Fatal(err)
	}
	link("..1", "..data")
	link(filepath.Join("..data", "config.yaml"), "config.yaml")
	b.settle()
	if len(b.applied) != 0 {
		t.Fatal("the same content behind a link is no change")
	}
	link("..2", "..data_tmp")
	if err := os.Rename(filepath.Join(b.dir, "..data_tmp"), filepath.Join(b.dir, "..data")); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if b.ids() != "a:s3cret-a b:s3cret-b" {
		t.Errorf("got %s", b.ids())
	}
}

func TestAWrongFileChangesNothing(t *testing.T) {
	for _, tc := range []struct{ name, content, key string }{
		{"not YAML", "tenants: [", "key=CONFIG_FILE"},
		{"unknown key", two + "colour: red\n", "key=colour"},
		{"missing value", "tenants: [{id: a}]\n", "key=tenants[0].key"},
		{"rule of a validator", "tenants: [{id: a, key: x},{id: b, key: x},{id: c, key: x},{id: d, key: x}]\n", "key=tenants"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, one, nil)
			b.write(tc.content)
			b.settle()
			if len(b.applied) > 0 || !strings.Contains(b.logs.String(), "level=ERROR") || !strings.Contains(b.logs.String(), tc.key) {
				t.Fatalf("applied %d times; log: %s", len(b.applied), b.logs)
			}
			if b.metric("axpchat_config_current", "") != 0 || b.metric("axpchat_config_reloads_total", "rejected") != 1 {
				t.Error("the metrics do not show it")
			}
			told := b.logs.Len()
			b.settle()
			if b.logs.Len() != told {
				t.Error("the same mistake is logged again and again")
			}
			b.write(one)
			b.settle()
			if b.metric("axpchat_config_current", "") != 1 || len(b.applied) > 0 {
				t.Error("back to what is in force, all is well")
			}
		})
	}
}

func TestAMissingFileChangesNothing(t *testing.T) {
	b := newBench(t, two, nil)
	if err := os.Remove(b.file); err != nil {
		t.Fatal(err)
	}
	b.settle()
	if len(b.applied) > 0 || !strings.Contains(b.logs.String(), "cannot be read") {
		t.Fatalf("log: %s", b.logs)
	}
}

func TestASecretIsRotated(t *testing.T) {
	b := &bench{t: t, dir: t.TempDir()}
	b.put("env", "first")
	b.put("listed", "old")
	dir := b.dir
	b = newBench(t, fmt.Sprintf("tenants: [{id: a, key_file: %s/listed}]\n", dir), map[string]string{"SECRET_FILE": dir + "/env"})
	for name, content := range map[string]string{"env": "second", "listed": "new\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.settle()
	if b.ids() != "a:new" || b.applied[0].Secret.Reveal() != "second" {
		t.Errorf("got %s", b.ids())
	}
	if log := b.logs.String(); !strings.Contains(log, "keys=SECRET,tenants") {
		t.Errorf("log: %s", log)
	}
}

func TestWhatNeedsARestartIsNamedAndIgnored(t *testing.T) {
	b := newBench(t, one, nil)
	b.write(two + "addr: :81\n")
	b.settle()
	if b.ids() != "a:s3cret-a b:s3cret-b" || b.applied[0].Addr != ":80" {
		t.Errorf("got %+v", b.applied)
	}
	if !strings.Contains(b.logs.String(), "keys=ADDR") || b.metric("axpchat_config_restart_needed", "") != 1 {
		t.Errorf("log: %s", b.logs)
	}
	b.write(two)
	b.settle()
	if b.metric("axpchat_config_restart_needed", "") != 0 {
		t.Error("it was taken back")
	}
}

// TestWhatFitsOnlyAfterARestartIsRefused: four tenants are allowed by the new
// file, but not by what stays in force of the old one.
func TestWhatFitsOnlyAfterARestartIsRefused(t *testing.T) {
	b := newBench(t, one, nil)
	b.write("most: 4\ntenants: [{id: a, key: x},{id: b, key: x},{id: c, key: x},{id: d, key: x}]\n")
	b.settle()
	if len(b.applied) > 0 || !strings.Contains(b.logs.String(), "more than MOST") {
		t.Errorf("applied %d times; log: %s", len(b.applied), b.logs)
	}
}

func TestAFailureToApplyLeavesTheOldOneInForce(t *testing.T) {
	b := newBench(t, one, nil)
	b.fail = errors.New("no")
	b.write(two)
	b.settle()
	if b.metric("axpchat_config_reloads_total", "failed") != 1 || b.metric("axpchat_config_current", "") != 0 || len(b.w.p.Current.Tenants) != 1 {
		t.Errorf("log: %s", b.logs)
	}
	b.fail = nil
	b.w.look(t.Context(), true) // as SIGHUP does
	if b.ids() != "a:s3cret-a b:s3cret-b" {
		t.Errorf("got %s", b.ids())
	}
}

// TestSIGHUPHasItLookedAtOnce runs the watcher without an interval and sends it
// the real signal.
func TestSIGHUPHasItLookedAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(one)
	applied := make(chan int, 1)
	p := WatchParams[watched]{
		Sources: Map(map[string]string{FileKey: file}), Log: slog.New(slog.DiscardHandler), Meter: metric.NewMeterProvider(),
		Apply: func(_ context.Context, next *watched) error { applied <- len(next.Tenants); return nil },
	}
	if err := Load(&p.Current, p.Sources); err != nil {
		t.Fatal(err)
	}
	w, err := NewWatcher(p)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	life, end := context.WithCancel(ctx)
	group.Go(func() {
		if err := w.Run(life); err != nil {
			t.Error(err)
		}
	})
	defer group.Wait()
	defer end()
	write(two)
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-applied:
		if n != 2 {
			t.Errorf("%d tenants", n)
		}
	case <-ctx.Done():
		t.Fatal("the signal was not heard")
	}
}

// TestAnIntervalIsEnough runs the watcher as a service does, without a signal.
func TestAnIntervalIsEnough(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b := newBench(t, one, nil)
	applied := make(chan struct{})
	b.w.p.Apply = func(context.Context, *watched) error { close(applied); return nil }
	b.w.p.Reload.Interval = leastInterval
	var group sync.WaitGroup
	life, end := context.WithCancel(ctx)
	group.Go(func() { _ = b.w.Run(life) })
	defer group.Wait()
	defer end()
	b.write(two)
	select {
	case <-applied:
	case <-ctx.Done():
		t.Fatal("the change was not noticed")
	}
}
