package limiter_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/session-orchestrator/internal/limiter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is the machine's, which is the bubble's in these tests.
type clock struct{}

func (clock) Now() time.Time { return time.Now() }

func (clock) Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newLimiter(t *testing.T, c limiter.Config) *limiter.Limiter {
	t.Helper()
	l := limiter.New(limiter.Params{Config: c, Clock: clock{}, Patience: 10 * time.Second})
	t.Cleanup(l.Close)
	return l
}

// must gets a turn that is to be had at once.
func must(t *testing.T, l *limiter.Limiter, class limiter.Class) *limiter.Turn {
	t.Helper()
	turn, err := l.Acquire(t.Context(), class)
	if err != nil {
		t.Fatal(err)
	}
	return turn
}

func limitOf(t *testing.T, l *limiter.Limiter, want int) {
	t.Helper()
	if got := l.Status().Limit; got != want {
		t.Errorf("limit is %d, want %d", got, want)
	}
}

// round uses the limit up, then ends all calls alike.
func round(t *testing.T, l *limiter.Limiter, r limiter.Result) {
	t.Helper()
	var turns []*limiter.Turn
	for range l.Status().Limit {
		turns = append(turns, must(t, l, limiter.Messages))
	}
	for _, turn := range slices.Backward(turns) {
		turn.Done(r)
	}
}

func TestLimitGrowsByOneARoundAndIsHalvedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limiter.Config{Start: 4, Max: 10})
		// Only the call that used the last room proves anything: one such call of
		// four, and so a quarter.
		for range 4 {
			round(t, l, limiter.Success)
		}
		if got := l.Status().Limit; got != 4 && got != 5 {
			t.Errorf("limit is %d after four rounds, want about 5", got)
		}
		for range 200 {
			round(t, l, limiter.Success)
		}
		limitOf(t, l, 10)
		round(t, l, limiter.Overload) // ten refusals of the same moment
		limitOf(t, l, 5)
		round(t, l, limiter.Overload)
		limitOf(t, l, 2)
		for range 5 {
			round(t, l, limiter.Overload)
		}
		limitOf(t, l, 1)
	})
}

func TestBusyLimiterGrowsByOneARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limiter.Config{Start: 4, Max: 64})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				for {
					turn, err := l.Acquire(ctx, limiter.Messages)
					if err != nil {
						return
					}
					_ = clock{}.Sleep(ctx, 100*time.Millisecond)
					turn.Done(limiter.Success)
				}
			})
		}
		_ = clock{}.Sleep(ctx, 1050*time.Millisecond) // ten rounds
		if got := l.Status(); got.Limit < 12 || got.Limit > 14 || got.InFlight != got.Limit {
			t.Errorf("after ten rounds: %+v, want a limit of 12 to 14, all used", got)
		}
		cancel()
		wg.Wait()
	})
}

func TestUnusedLimitDoesNotGrow(t *testing.T) {
	l := newLimiter(t, limiter.Config{Start: 4})
	for range 100 {
		must(t, l, limiter.Messages).Done(limiter.Success)
	}
	limitOf(t, l, 4)
}

func TestSingleFaultsAreNoOverload(t *testing.T) {
	l := newLimiter(t, limiter.Config{Start: 8, Burst: 3})
	one := func(r limiter.Result) { must(t, l, limiter.Messages).Done(r) }
	for range 20 {
		one(limiter.Fault)
		one(limiter.Fault)
		one(limiter.Success)
		one(limiter.Neutral)
	}
	limitOf(t, l, 8)
	one(limiter.Fault)
	one(limiter.Fault)
	one(limiter.Neutral) // neither ends nor continues the row
	one(limiter.Fault)
	limitOf(t, l, 4)
}

func TestNeverMoreThanTheLimit(t *testing.T) {
	n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		n = uint64(time.Now().UnixNano())
	}
	t.Logf("SEED=%d", n)
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limiter.Config{Start: 5, Max: 9, Queue: 1000})
		var mu sync.Mutex
		inFlight := 0
		random := rand.New(rand.NewPCG(n, n))
		var wg sync.WaitGroup
		for range 400 {
			d, patience := time.Duration(random.IntN(50))*time.Millisecond, time.Duration(1+random.IntN(3000))*time.Millisecond
			result, class := limiter.Result(random.IntN(4)), limiter.Class(random.IntN(3))
			pause := random.IntN(40) == 0
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				turn, err := l.Acquire(ctx, class)
				if err != nil {
					return
				}
				mu.Lock()
				inFlight++
				if inFlight > 9 {
					t.Errorf("%d calls at once, more than the most", inFlight)
				}
				mu.Unlock()
				_ = clock{}.Sleep(t.Context(), d)
				if pause {
					l.Pause(300 * time.Millisecond)
				}
				mu.Lock()
				inFlight--
				mu.Unlock()
				turn.Done(result)
				turn.Done(result)
			})
		}
		wg.Wait()
		if s := l.Status(); s.InFlight != 0 || s.Waiting != [limiter.Classes]int{} || s.Limit < 1 || s.Limit > 9 {
			t.Errorf("at the end: %+v, want nothing under way and nobody waiting", s)
		}
	})
}

// queue has calls wait, and gives the order in which they get their turns.
func queue(t *testing.T, l *limiter.Limiter, classes []limiter.Class) []int {
	t.Helper()
	var (
		mu    sync.Mutex
		order []int
		wg    sync.WaitGroup
	)
	first := must(t, l, limiter.Messages)
	for i, class := range classes {
		wg.Go(func() {
			turn, err := l.Acquire(t.Context(), class)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			turn.Done(limiter.Neutral)
		})
		synctest.Wait()
	}
	first.Done(limiter.Neutral)
	wg.Wait()
	return order
}

func TestUrgentCallsGoFirstAndEqualOnesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limiter.Config{Start: 1, Max: 1})
		b, c, m := limiter.Background, limiter.LifeCycle, limiter.Messages
		got := queue(t, l, []limiter.Class{b, c, m, b, c, m, m})
		if want := []int{2, 5, 6, 1, 4, 0, 3}; !slices.Equal(got, want) {
			t.Errorf("turns in the order %v, want %v", got, want)
		}
	})
}

func TestNoClassStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limiter.Config{Start: 1, Max: 1, Yield: 4})
		classes := []limiter.Class{limiter.Background, limiter.Background, limiter.LifeCycle}
		for range 20 {
			classes = append(classes, limiter.Messages)
		}
		got := queue(t, l, classes)
		// Four messages, then one of each class that was passed over.
		if background, life := slices.Index(got, 0), slices.Index(got, 2); background > 6 || life > 6 || background < 4 || life < 4 {
			t.Errorf("turns in the order %v, want the first of each class after four to six messages", got)
		}
		if second := slices.Index(got, 1); second > 12 {
			t.Errorf("turns in the order %v, want the second background call before the messages are done", got)
		}
	})
}

func TestFullQueueRefusesItsClassOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limiter.Config{Start: 1, Queue: 2})
		turn := must(t, l, limiter.Messages)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := l.Acquire(ctx, limiter.Background); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, want the end of the caller's context", err)
				}
			})
		}
		synctest.Wait()
		_, err := l.Acquire(t.Context(), limiter.Background)
		if busy, ok := errors.AsType[*limiter.BusyError](err); !ok || busy.Paused || busy.RetryAfter <= 0 {
			t.Errorf("got %v, want a busy error with advice", err)
		}
		wg.Go(func() {
			turn, err := l.Acquire(t.Context(), limiter.Messages)
			if err != nil {
				t.Errorf("a message found no room: %v", err)
				return
			}
			turn.Done(limiter.Success)
		})
		synctest.Wait()
		if got := l.Status().Waiting; got != [limiter.Classes]int{1, 0, 2} {
			t.Errorf("waiting are %v, want 1 message and 2 in the background", got)
		}
		cancel()
		synctest.Wait()
		if got := l.Status().Waiting; got != [limiter.Classes]int{1, 0, 0} {
			t.Errorf("waiting are %v, want who has gone to leave no trace", got)
		}
		turn.Done(limiter.Success)
		wg.Wait()
	})
}

func TestPauseHoldsTheWholeAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limiter.Config{Start: 4})
		l.Pause(5 * time.Second)
		l.Pause(time.Second) // does not shorten it
		began := time.Now()
		var wg sync.WaitGroup
		for _, class := range []limiter.Class{limiter.Messages, limiter.LifeCycle, limiter.Background} {
			wg.Go(func() {
				turn, err := l.Acquire(t.Context(), class)
				if err != nil {
					t.Error(err)
					return
				}
				if waited := time.Since(began); waited != 5*time.Second {
					t.Errorf("%v waited %v, want 5 s", class, waited)
				}
				turn.Done(limiter.Success)
			})
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			_, err := l.Acquire(ctx, limiter.Messages)
			busy, ok := errors.AsType[*limiter.BusyError](err)
			if !ok || !busy.Paused || busy.RetryAfter != 5*time.Second || time.Since(began) != 0 {
				t.Errorf("got %v after %v, want at once that the pause is longer than the caller's time", err, time.Since(began))
			}
		})
		wg.Wait()
	})
}

func TestLongPauseRefusesThoseWhoWaitAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limiter.Config{Start: 1})
		turn := must(t, l, limiter.Messages)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := l.Acquire(t.Context(), limiter.Messages)
			if busy, ok := errors.AsType[*limiter.BusyError](err); !ok || !busy.Paused || busy.RetryAfter != time.Minute {
				t.Errorf("got %v, want the pause of a minute", err)
			}
		})
		synctest.Wait()
		l.Pause(time.Minute)
		wg.Wait()
		turn.Done(limiter.Overload)
		_ = clock{}.Sleep(t.Context(), time.Minute)
		must(t, l, limiter.Messages).Done(limiter.Success)
	})
}

func TestCloseLetsNobodyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, limiter.Config{Start: 1})
		turn := must(t, l, limiter.Messages)
		l.Pause(5 * time.Second)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := l.Acquire(t.Context(), limiter.Messages); !errors.Is(err, limiter.ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		})
		synctest.Wait()
		l.Close()
		wg.Wait()
		turn.Done(limiter.Success)
		if _, err := l.Acquire(t.Context(), limiter.Messages); !errors.Is(err, limiter.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}
