package lifecycle_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/internal/kit/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("broken")

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// journal collects what happened, in its order.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) add(entry string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry)
}

func (j *journal) read() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.entries...)
}

// component writes what happens to it into the journal; it is ready once it runs.
func (j *journal) component(name string) lifecycle.Func {
	runs := make(chan struct{})
	return lifecycle.Func{
		Label: name,
		OnRun: func(ctx context.Context) error {
			j.add("run " + name)
			close(runs)
			<-ctx.Done()
			j.add("end " + name)
			return nil
		},
		OnReady: func(ctx context.Context) error {
			select {
			case <-runs:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		OnDrain: func(context.Context) error {
			j.add("drain " + name)
			return nil
		},
	}
}

type announcing struct {
	lifecycle.Func
	announce func(ctx context.Context)
}

func (a announcing) Announce(ctx context.Context) { a.announce(ctx) }

// start runs the components in the background and returns what Run returns.
func start(ctx context.Context, budget time.Duration, components ...lifecycle.Component) <-chan error {
	out := make(chan error, 1)
	go func() { out <- lifecycle.Run(ctx, discard(), budget, components...) }()
	return out
}

func TestRunStartsInOrderAndDrainsInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var j journal
		slow := j.component("b")
		began := time.Now()
		slow.OnReady = func(context.Context) error {
			if time.Since(began) < 5*time.Second {
				return errors.New("starting")
			}
			j.add("ready b")
			return nil
		}
		first := announcing{j.component("a"), func(context.Context) { j.add("announce a") }}
		done := start(ctx, time.Minute, first, slow, j.component("c"))
		synctest.Wait()
		<-time.After(6 * time.Second) // synthetic time
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		want := []string{"run a", "run b", "ready b", "run c", "announce a", "drain c", "drain b", "drain a", "end c", "end b", "end a"}
		if diff := cmp.Diff(want, j.read()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestRunStopsAllWhenOneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		failing := lifecycle.Func{Label: "failing", OnRun: func(context.Context) error {
			<-time.After(time.Minute)
			return errBroken
		}}
		later := lifecycle.Func{Label: "later", OnRun: func(ctx context.Context) error {
			<-ctx.Done()
			return errors.New("a second failure")
		}}
		err := <-start(t.Context(), time.Second, j.component("a"), failing, later)
		if !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "component failing: broken") {
			t.Fatalf("got %v", err)
		}
		if diff := cmp.Diff([]string{"run a", "drain a", "end a"}, j.read()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestRunReportsAFailureDuringTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		failing := lifecycle.Func{
			Label:   "failing",
			OnRun:   func(context.Context) error { return errBroken },
			OnReady: func(context.Context) error { return errors.New("starting") },
		}
		err := <-start(t.Context(), time.Second, j.component("a"), failing, j.component("never"))
		if !errors.Is(err, errBroken) {
			t.Fatalf("got %v", err)
		}
		if diff := cmp.Diff([]string{"run a", "drain a", "end a"}, j.read()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestRunTakesAnEarlyEndForAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short := lifecycle.Func{Label: "short", OnRun: func(context.Context) error { return nil }}
		err := <-start(t.Context(), time.Second, short)
		if err == nil || !strings.Contains(err.Error(), "component short: ended although nobody told it to") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestRunLetsAComponentEndWhileItDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		drained := make(chan struct{})
		server := lifecycle.Func{
			Label:   "server",
			OnRun:   func(context.Context) error { <-drained; return nil },
			OnDrain: func(context.Context) error { close(drained); return nil },
		}
		done := start(ctx, time.Second, server)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestRunNamesAComponentThatNeverGetsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := lifecycle.Func{Label: "never", OnReady: func(context.Context) error { return errBroken }}
		began := time.Now()
		err := <-start(t.Context(), time.Second, never)
		if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "component never: not ready 30s after its start") {
			t.Fatalf("got %v", err)
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Fatalf("took %s", took)
		}
	})
}

func TestRunEndsWhenItsContextEndsDuringTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		never := lifecycle.Func{Label: "never", OnReady: func(context.Context) error { return errBroken }}
		if err := <-start(ctx, time.Second, never); err != nil {
			t.Fatalf("got %v", err)
		}
	})
}

func TestRunKeepsToTheBudget(t *testing.T) {
	for _, tc := range []struct {
		name  string
		drain func(ctx context.Context) error
		took  time.Duration
	}{
		{"with a drain that minds its context", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 10 * time.Second},
		{"with one that is late", func(context.Context) error { <-time.After(11 * time.Second); return errBroken }, 11 * time.Second},
		{"with one that does not mind it", func(context.Context) error { <-time.After(time.Hour); return nil }, 12 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				dropped := false
				lower := lifecycle.Func{Label: "lower", OnDrain: func(ctx context.Context) error {
					dropped = ctx.Err() != nil
					return nil
				}}
				done := start(ctx, 10*time.Second, lower, lifecycle.Func{Label: "slow", OnDrain: tc.drain})
				synctest.Wait()
				began := time.Now()
				cancel()
				err := <-done
				if err == nil || !strings.Contains(err.Error(), "drain component slow") {
					t.Errorf("got %v", err)
				}
				if took := time.Since(began); took != tc.took {
					t.Errorf("took %s", took)
				}
				if !dropped {
					t.Error("the other component was not told that time is up")
				}
				<-time.After(time.Hour) // synthetic: lets the abandoned drain end
			})
		})
	}
}

func TestRunCountsTheAnnouncementInTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wait := announcing{lifecycle.Func{Label: "admin"}, func(ctx context.Context) { <-ctx.Done() }}
		done := start(ctx, 3*time.Second, wait)
		synctest.Wait()
		began := time.Now()
		cancel()
		if err := <-done; err != nil || time.Since(began) != 3*time.Second {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
	})
}

func TestRunDoesNotHangOnAComponentThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		stuck := lifecycle.Func{Label: "stuck", OnRun: func(context.Context) error { <-release; return nil }}
		done := start(ctx, time.Second, stuck)
		synctest.Wait()
		cancel()
		if err := <-done; err == nil || !strings.Contains(err.Error(), "component stuck: did not end") {
			t.Errorf("got %v", err)
		}
		close(release)
	})
}

func TestRunWithoutComponentsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := <-start(ctx, time.Second); err != nil || time.Since(began) != time.Minute {
			t.Fatalf("%v after %s", err, time.Since(began))
		}
	})
}

func TestReadinessAsksEveryComponent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got := lifecycle.Readiness(
			lifecycle.Func{Label: "good"},
			lifecycle.Func{Label: "bad", OnReady: func(context.Context) error { return errBroken }},
			lifecycle.Func{Label: "slow", OnReady: func(context.Context) error { <-time.After(time.Minute); return nil }},
		)(ctx)
		if len(got) != 3 || got["good"] != nil || !errors.Is(got["bad"], errBroken) || got["slow"] == nil {
			t.Fatalf("got %v", got)
		}
		<-time.After(time.Minute) // synthetic: lets the slow answer end
	})
}

func TestClosersUndoInReverse(t *testing.T) {
	var j journal
	build := func(fail error) (err error) {
		var undo lifecycle.Closers
		defer undo.CloseOnError(&err)
		undo.Add("a", func() error { j.add("a"); return nil })
		undo.Add("b", func() error { j.add("b"); return errors.New("stuck") })
		undo.Add("c", func() error { j.add("c"); return nil })
		return fail
	}
	if err := build(nil); err != nil || len(j.read()) != 0 {
		t.Fatalf("%v %v", err, j.read())
	}
	err := build(errBroken)
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "close b: stuck") {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff([]string{"c", "b", "a"}, j.read()); diff != "" {
		t.Fatal(diff)
	}
	var twice lifecycle.Closers
	twice.Add("d", func() error { j.add("d"); return nil })
	if err := errors.Join(twice.Close(), twice.Close()); err != nil || len(j.read()) != 4 {
		t.Fatalf("%v %v", err, j.read())
	}
}

func TestRunReportsAFailureDuringTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		failing := lifecycle.Func{Label: "failing", OnRun: func(ctx context.Context) error {
			<-ctx.Done()
			return errBroken
		}}
		done := start(ctx, time.Second, failing)
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, errBroken) {
			t.Fatalf("got %v", err)
		}
	})
}
