package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const (
	instrumentation = "github.com/axpchat/connector/services/internal/kit/config"
	// leastInterval keeps a wrong unit from keeping a core busy.
	leastInterval = 100 * time.Millisecond
	// settleTime is how long files must stay as they are before they are believed:
	// half of a list of accounts may well be a list without mistakes.
	settleTime = time.Second
)

// Reload says how changes of the configuration are noticed.
type Reload struct {
	Interval time.Duration `env:"CONFIG_RELOAD_INTERVAL" default:"10s" doc:"How often the configuration file and the files of secrets are looked at for changes; 0s: only at SIGHUP."`
}

// Validate reports values that can't work.
func (r *Reload) Validate() []Mistake {
	if r.Interval != 0 && r.Interval < leastInterval {
		return []Mistake{{Key: "CONFIG_RELOAD_INTERVAL", Problem: "must be 0s or at least " + leastInterval.String()}}
	}
	return nil
}

// WatchParams is what NewWatcher needs. T is the struct that [Load] fills.
type WatchParams[T any] struct {
	// Current is the configuration in force.
	Current T
	// Fresh gives the values that the struct has before Load; nil: none.
	Fresh func() T
	// Sources are those that Current was loaded from.
	Sources Sources
	Reload  Reload
	// Apply puts a configuration into force. It gets one without mistakes, which
	// differs from the one before only where a field's tag says reload:"true". Where
	// it fails, the one before counts as still in force, so it must change all or
	// nothing.
	Apply func(ctx context.Context, next *T) error
	Log   *slog.Logger
	Meter metric.MeterProvider
}

// Watcher looks after the files that a configuration was read from and puts
// changes into force while the service runs. It is a lifecycle component.
//
// It compares contents, so it sees whatever way a file has changed: written in
// place, renamed over, or swapped by a symbolic link as Kubernetes does. It
// believes what stays the same for a second, or at once when SIGHUP says so.
// Files with a mistake change nothing: the mistakes are logged once, and the
// metric axpchat_config_current is 0 until they are mended. A change that needs
// a restart is logged with its key and otherwise ignored.
type Watcher[T any] struct {
	p       WatchParams[T]
	hangup  chan os.Signal
	pending string // contents that have been seen once, by digest
	judged  string // contents that have been decided on
	reloads metric.Int64Counter
	current metric.Int64Gauge
	restart metric.Int64Gauge
}

// NewWatcher makes a watcher. It looks at nothing before Run, but from now on
// SIGHUP does not end the process any more.
func NewWatcher[T any](p WatchParams[T]) (*Watcher[T], error) {
	if _, err := structOf(&p.Current); err != nil {
		return nil, err
	}
	meter := p.Meter.Meter(instrumentation)
	w := &Watcher[T]{p: p, hangup: make(chan os.Signal, 1)}
	var faults [3]error
	w.reloads, faults[0] = meter.Int64Counter("axpchat_config_reloads_total",
		metric.WithDescription("Changes of the configuration that were noticed, by result: applied, rejected (mistakes), failed."))
	w.current, faults[1] = meter.Int64Gauge("axpchat_config_current",
		metric.WithDescription("1 while the configuration in its files is the one in force, 0 while it has mistakes and an older one is."))
	w.restart, faults[2] = meter.Int64Gauge("axpchat_config_restart_needed",
		metric.WithDescription("1 while the files hold a change that only a restart puts into force."))
	if err := errors.Join(faults[:]...); err != nil {
		return nil, fmt.Errorf("config: metrics: %w", err)
	}
	signal.Notify(w.hangup, syscall.SIGHUP)
	return w, nil
}

// Name implements lifecycle.Component.
func (w *Watcher[T]) Name() string { return "config-watcher" }

// Ready implements lifecycle.Component: nobody waits for a change.
func (w *Watcher[T]) Ready(context.Context) error { return nil }

// Drain implements lifecycle.Component.
func (w *Watcher[T]) Drain(context.Context) error { return nil }

// Run looks until ctx is done.
func (w *Watcher[T]) Run(ctx context.Context) error {
	defer signal.Stop(w.hangup)
	w.current.Record(ctx, 1)
	w.restart.Record(ctx, 0)
	timer := time.NewTimer(w.pause(false))
	defer timer.Stop()
	for {
		asked := false
		select {
		case <-ctx.Done():
			return nil
		case <-w.hangup:
			asked = true
		case <-timer.C:
		}
		timer.Reset(w.pause(w.look(ctx, asked)))
	}
}

// never is how long a look is waited for that only SIGHUP brings about.
const never = 100 * 365 * 24 * time.Hour

func (w *Watcher[T]) pause(unsettled bool) time.Duration {
	switch {
	case unsettled:
		return settleTime
	case w.p.Reload.Interval > 0:
		return w.p.Reload.Interval
	default:
		return never
	}
}

// look reads everything once. It returns true where there is something new that
// has to prove that it stays.
func (w *Watcher[T]) look(ctx context.Context, asked bool) (unsettled bool) {
	var next T
	if w.p.Fresh != nil {
		next = w.p.Fresh()
	}
	seen := newSightings()
	err := Load(&next, w.p.Sources.recorded(seen))
	digest := seen.digest()
	switch {
	case asked: // whoever sends the signal has finished writing
	case digest == w.judged:
		w.pending = ""
		return false
	case digest != w.pending:
		w.pending = digest
		return true
	}
	w.judged, w.pending = digest, ""
	w.judge(ctx, &next, err, asked)
	return false
}

// judge decides on what was read.
func (w *Watcher[T]) judge(ctx context.Context, next *T, loadErr error, asked bool) {
	if loadErr != nil {
		w.reject(ctx, loadErr)
		return
	}
	merged := w.p.Current
	changed, ignored, err := merge(&merged, next)
	if err == nil {
		err = validated(&merged)
	}
	if err != nil {
		w.reject(ctx, err)
		return
	}
	w.restart.Record(ctx, min(int64(len(ignored)), 1))
	if len(ignored) > 0 {
		w.p.Log.WarnContext(ctx, "a change of the configuration needs a restart and is ignored until then", "keys", strings.Join(ignored, ","))
	}
	if len(changed) == 0 {
		w.current.Record(ctx, 1)
		if asked {
			w.p.Log.InfoContext(ctx, "configuration read again; nothing has changed that can change while running")
		}
		return
	}
	if err := w.p.Apply(ctx, &merged); err != nil {
		w.count(ctx, "failed")
		w.current.Record(ctx, 0)
		w.p.Log.ErrorContext(ctx, "a new configuration could not be put into force; the one before stays", "keys", strings.Join(changed, ","), "error", err)
		return
	}
	w.p.Current = merged
	w.count(ctx, "applied")
	w.current.Record(ctx, 1)
	w.p.Log.InfoContext(ctx, "configuration changed", "keys", strings.Join(changed, ","))
}

// reject says what is wrong, each mistake on a line of its own, as at the start.
func (w *Watcher[T]) reject(ctx context.Context, err error) {
	w.count(ctx, "rejected")
	w.current.Record(ctx, 0)
	mistakes, ok := errors.AsType[Errors](err)
	if !ok {
		w.p.Log.ErrorContext(ctx, "the new configuration can't be used; the one before stays in force", "error", err)
		return
	}
	for _, m := range mistakes {
		w.p.Log.ErrorContext(ctx, "the new configuration has a mistake; the one before stays in force", "key", m.Key, "problem", m.Problem)
	}
}

func (w *Watcher[T]) count(ctx context.Context, result string) {
	w.reloads.Add(ctx, 1, metric.WithAttributes(attribute.String("result", result)))
}

// merge copies into current what of next may change while running. It names
// what it has changed, and what it has not although it differs.
func merge(current, next any) (changed, ignored []string, err error) {
	var sides [2][]field
	for i, cfg := range []any{current, next} {
		root, err := structOf(cfg)
		if err != nil {
			return nil, nil, err
		}
		if sides[i], err = fieldsOf(root); err != nil {
			return nil, nil, err
		}
	}
	note := func(to *[]string, name string) {
		if !slices.Contains(*to, name) { // several parts may share it
			*to = append(*to, name)
		}
	}
	for i, mine := range sides[0] {
		other := sides[1][i]
		if reflect.DeepEqual(mine.value.Interface(), other.value.Interface()) || emptyLists(mine.value, other.value) {
			continue
		}
		if !mine.reload {
			note(&ignored, mine.name(""))
			continue
		}
		mine.value.Set(other.value)
		note(&changed, mine.name(""))
	}
	return changed, ignored, nil
}

// emptyLists tells whether both are lists without entries: no list and an empty
// one mean the same.
func emptyLists(a, b reflect.Value) bool {
	return a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0
}

// validated asks the validators about a struct that is filled already: what is
// right in the file may not go with what stays as it was.
func validated(cfg any) error {
	root, err := structOf(cfg)
	if err != nil {
		return err
	}
	l := &loader{report: newReport()}
	l.validate(root, "")
	return l.report.err()
}

// sightings are the contents that one Load has seen, as a digest: some are
// secrets.
type sightings struct{ all hash.Hash }

func newSightings() sightings { return sightings{all: sha256.New()} }

func (s sightings) add(name string, content []byte, err error) {
	_, _ = fmt.Fprintf(s.all, "%q %q %v\n", name, content, err) // a hash never fails
}

func (s sightings) digest() string { return string(s.all.Sum(nil)) }
