package provisioning_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	"github.com/axpchat/connector/services/session-orchestrator/internal/provisioning"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	prefix   = "https://chat.example/webhooks/axp/ABCDEF/"
	ourURL   = prefix + "key-now"
	oldURL   = prefix + "key-before"
	staleURL = prefix + "key-of-long-ago"
	provider = "provider-1"
)

// fakeAPI is the subscriptions of an account, with faults on demand.
type fakeAPI struct {
	mu    sync.Mutex
	next  int
	subs  map[string]axp.Subscription
	log   []string
	least int // fewest subscriptions of ours seen since the first was there
	// fault is called before an operation; its error is the answer.
	fault func(operation string) error
	// lost makes the next Create take effect although it reports an error.
	lost bool
}

func newFakeAPI(subs ...axp.Subscription) *fakeAPI {
	f := &fakeAPI{subs: make(map[string]axp.Subscription), least: -1}
	for _, s := range subs {
		f.subs[s.SubscriptionID] = s
	}
	f.watch()
	return f
}

func (f *fakeAPI) watch() {
	n := 0
	for _, s := range f.subs {
		if s.ChannelProviderID == provider && (s.CallbackURL == ourURL || s.CallbackURL == oldURL || s.CallbackURL == staleURL) {
			n++
		}
	}
	if n > 0 && f.least < 0 || f.least >= 0 && n < f.least {
		f.least = n
	}
}

func (f *fakeAPI) enter(operation string) error {
	f.log = append(f.log, operation)
	if f.fault != nil {
		return f.fault(strings.Fields(operation)[0])
	}
	return nil
}

func (f *fakeAPI) ListSubscriptions(ctx context.Context, _ string) ([]axp.Subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := errors.Join(f.enter("list"), ctx.Err()); err != nil {
		return nil, err
	}
	var out []axp.Subscription
	for _, s := range f.subs { // the filter is not applied: AXP may ignore it
		out = append(out, s)
	}
	return out, nil
}

func (f *fakeAPI) CreateSubscription(_ context.Context, s axp.Subscription) (*axp.Subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("create"); err != nil {
		return nil, err
	}
	f.next++
	s.SubscriptionID = fmt.Sprintf("new-%d", f.next)
	f.subs[s.SubscriptionID] = s
	f.watch()
	if f.lost {
		f.lost = false
		return nil, &axp.Error{Operation: axp.OpCreateSubscription, Outcome: axp.Unknown, Cause: axp.ErrTimeout}
	}
	return &s, nil
}

func (f *fakeAPI) UpdateSubscription(_ context.Context, s axp.Subscription) (*axp.Subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("update " + s.SubscriptionID); err != nil {
		return nil, err
	}
	f.subs[s.SubscriptionID] = s
	f.watch()
	return &s, nil
}

func (f *fakeAPI) DeleteSubscription(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter("delete " + id); err != nil {
		return err
	}
	delete(f.subs, id)
	f.watch()
	return nil
}

func (f *fakeAPI) state() (subs []axp.Subscription, log []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.subs {
		subs = append(subs, s)
	}
	slices.SortFunc(subs, func(a, b axp.Subscription) int { return strings.Compare(a.SubscriptionID, b.SubscriptionID) })
	return subs, slices.Clone(f.log)
}

func (f *fakeAPI) set(change func(f *fakeAPI)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func sub(id, url string, types ...axp.EventType) axp.Subscription {
	if types == nil {
		types = provisioning.DefaultEventTypes()
	}
	return axp.Subscription{SubscriptionID: id, ChannelProviderID: provider, CallbackURL: url, EventTypes: types}
}

func newReconciler(tb testing.TB, api provisioning.API, change ...func(*provisioning.Params)) *provisioning.Reconciler {
	tb.Helper()
	p := provisioning.Params{
		AccountID: "ABCDEF", ChannelProviderID: provider, API: api,
		CallbackURL: ourURL, PreviousCallbackURL: oldURL,
		Jitter: func() float64 { return 0.5 },
	}
	for _, c := range change {
		c(&p)
	}
	r, err := provisioning.New(p)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestReconcile(t *testing.T) {
	right := provisioning.DefaultEventTypes()
	reversed := slices.Clone(right)
	slices.Reverse(reversed)
	foreignProvider := sub("f1", ourURL)
	foreignProvider.ChannelProviderID = "provider-2"
	foreignURL := sub("f2", "https://other.example/webhooks/axp/ABCDEF/key-now")
	otherAccount := sub("f3", "https://chat.example/webhooks/axp/GHIJKL/key-now")
	deeper := sub("f4", prefix+"key/more")
	created := sub("new-1", ourURL)
	cases := []struct {
		name string
		have []axp.Subscription
		want []axp.Subscription
		log  []string
		id   string
	}{
		{"none is created", nil, []axp.Subscription{created}, []string{"list", "create"}, "new-1"},
		{"ours is left alone", []axp.Subscription{sub("a", ourURL)}, []axp.Subscription{sub("a", ourURL)}, []string{"list"}, "a"},
		{"the order of types does not matter", []axp.Subscription{sub("a", ourURL, reversed...)},
			[]axp.Subscription{sub("a", ourURL, reversed...)}, []string{"list"}, "a"},
		{"other types are replaced", []axp.Subscription{sub("a", ourURL, axp.EventAll)},
			[]axp.Subscription{sub("a", ourURL)}, []string{"list", "update a"}, "a"},
		{"surplus ones are deleted, the one with the right types stays", []axp.Subscription{sub("a", ourURL, axp.EventAll), sub("b", ourURL), sub("c", ourURL)},
			[]axp.Subscription{sub("b", ourURL)}, []string{"list", "delete c", "delete a"}, "b"},
		{"that of the previous key is moved", []axp.Subscription{sub("a", oldURL)},
			[]axp.Subscription{sub("a", ourURL)}, []string{"list", "update a"}, "a"},
		{"that of the previous key stays beside the current one", []axp.Subscription{sub("a", ourURL), sub("b", oldURL)},
			[]axp.Subscription{sub("a", ourURL), sub("b", oldURL)}, []string{"list"}, "a"},
		{"a stale one is deleted after ours is there", []axp.Subscription{sub("s", staleURL)},
			[]axp.Subscription{created}, []string{"list", "create", "delete s"}, "new-1"},
		{"others' are never touched", []axp.Subscription{foreignProvider, foreignURL, otherAccount, deeper},
			[]axp.Subscription{foreignProvider, foreignURL, otherAccount, deeper, created}, []string{"list", "create"}, "new-1"},
		{"one without an id serves, but cannot be changed", []axp.Subscription{sub("", ourURL, axp.EventAll)},
			[]axp.Subscription{sub("", ourURL, axp.EventAll)}, []string{"list"}, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			api := newFakeAPI(tc.have...)
			r := newReconciler(t, api)
			if err := r.Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			subs, log := api.state()
			if diff := cmp.Diff(tc.want, subs); diff != "" {
				t.Errorf("subscriptions differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.log, log); diff != "" {
				t.Errorf("calls differ (-want +got):\n%s", diff)
			}
			if s := r.Status(); !s.OK || s.SubscriptionID != tc.id || s.Err != nil {
				t.Errorf("status is %+v", s)
			}
			if err := r.Reconcile(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, again := api.state(); len(again) != len(log)+1 {
				t.Errorf("a second check did more than look: %v", again[len(log):])
			}
			if api.least == 0 {
				t.Error("for a while there was no subscription")
			}
		})
	}
}

func TestNothingIsDeletedIfTheWantedOneCannotBeMade(t *testing.T) {
	api := newFakeAPI(sub("s", staleURL))
	api.fault = func(operation string) error {
		if operation == "create" {
			return &axp.Error{Operation: axp.OpCreateSubscription, Status: 403}
		}
		return nil
	}
	r := newReconciler(t, api)
	if err := r.Reconcile(t.Context()); err == nil {
		t.Fatal("want an error")
	}
	if subs, _ := api.state(); len(subs) != 1 {
		t.Errorf("left are %v", subs)
	}
	if s := r.Status(); s.OK || s.Err == nil {
		t.Errorf("status is %+v", s)
	}
}

func TestCreationWhoseAnswerWasLostIsFoundAgain(t *testing.T) {
	api := newFakeAPI()
	api.lost = true
	r := newReconciler(t, api)
	if err := r.Reconcile(t.Context()); axp.OutcomeOf(err) != axp.Unknown {
		t.Fatalf("got %v, want an unknown outcome", err)
	}
	if err := r.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	if subs, log := api.state(); len(subs) != 1 || !slices.Equal(log, []string{"list", "create", "list"}) {
		t.Errorf("got %v after %v", subs, log)
	}
}

// mutex is a Lease among reconcilers of one process.
type mutex struct{ mu sync.Mutex }

func (m *mutex) TryAcquire(context.Context) (func(), bool, error) {
	if !m.mu.TryLock() {
		return nil, false, nil
	}
	return m.mu.Unlock, true, nil
}

// heldLease belongs to somebody else.
type heldLease struct{ err error }

func (h heldLease) TryAcquire(context.Context) (func(), bool, error) { return nil, false, h.err }

func TestWithoutTheLeaseOnlyLook(t *testing.T) {
	withLease := func(l provisioning.Lease) func(*provisioning.Params) {
		return func(p *provisioning.Params) { p.Lease = l }
	}
	t.Run("and tell that something is missing", func(t *testing.T) {
		api := newFakeAPI()
		r := newReconciler(t, api, withLease(heldLease{}))
		if err := r.Reconcile(t.Context()); err == nil || r.Status().OK {
			t.Errorf("got %v, status %+v", err, r.Status())
		}
		if _, log := api.state(); !slices.Equal(log, []string{"list"}) {
			t.Errorf("calls are %v", log)
		}
	})
	t.Run("and be content if only surplus ones are left", func(t *testing.T) {
		api := newFakeAPI(sub("a", ourURL), sub("b", ourURL))
		r := newReconciler(t, api, withLease(heldLease{}))
		if err := r.Reconcile(t.Context()); err != nil || !r.Status().OK {
			t.Errorf("got %v, status %+v", err, r.Status())
		}
	})
	t.Run("and not at all if the lease cannot be asked for", func(t *testing.T) {
		api := newFakeAPI()
		r := newReconciler(t, api, withLease(heldLease{errors.New("no KV")}))
		if err := r.Reconcile(t.Context()); err == nil {
			t.Error("want an error")
		}
		if _, log := api.state(); len(log) != 0 {
			t.Errorf("calls are %v", log)
		}
	})
}

func TestReplicasNeverMakeTwo(t *testing.T) {
	api, lease := newFakeAPI(), new(mutex)
	var wg sync.WaitGroup
	for range 8 {
		r := newReconciler(t, api, func(p *provisioning.Params) { p.Lease = lease })
		wg.Go(func() {
			for range 20 {
				_ = r.Reconcile(t.Context()) // those without the lease report what is missing
			}
		})
	}
	wg.Wait()
	subs, log := api.state()
	creates := 0
	for _, l := range log {
		if l == "create" {
			creates++
		}
	}
	if len(subs) != 1 || creates != 1 {
		t.Errorf("%d subscriptions after %d creations, want 1 and 1", len(subs), creates)
	}
}

// running starts Run and gives back what ends it.
func running(t *testing.T, r *provisioning.Reconciler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func pass(t *testing.T, d time.Duration) {
	t.Helper()
	if err := (axp.SystemClock{}).Sleep(t.Context(), d); err != nil {
		t.Error(err)
	}
	synctest.Wait()
}

func TestRunMendsAndRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		down := &axp.Error{Operation: axp.OpListSubscriptions, Status: 503}
		api.fault = func(string) error { return down }
		r := newReconciler(t, api)
		if r.Ready(t.Context()) == nil {
			t.Error("ready before the first check")
		}
		stop := running(t, r)
		defer stop()
		synctest.Wait()
		if err := r.Ready(t.Context()); err != nil {
			t.Errorf("not ready after a check that failed: %v", err)
		}
		pass(t, 10*time.Second) // checks at 0, 1, 3, 7 s
		if _, log := api.state(); len(log) != 4 {
			t.Errorf("%d checks in 10 s, want 4 with back-off", len(log))
		}
		api.set(func(f *fakeAPI) { f.fault = nil })
		pass(t, 6*time.Second)
		if subs, _ := api.state(); len(subs) != 1 || !r.Status().OK {
			t.Errorf("got %v, status %+v", subs, r.Status())
		}
		// Somebody deletes it: found at the next check, or at once if asked.
		api.set(func(f *fakeAPI) { clear(f.subs) })
		pass(t, 61*time.Second)
		if subs, _ := api.state(); len(subs) != 1 {
			t.Error("not mended within the interval")
		}
		api.set(func(f *fakeAPI) { clear(f.subs) })
		r.Check()
		r.Check()
		synctest.Wait()
		if subs, _ := api.state(); len(subs) != 1 {
			t.Error("not mended on demand")
		}
	})
}

func TestRunObeysRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		api.fault = func(string) error {
			return &axp.Error{Operation: axp.OpListSubscriptions, Status: 429, RetryAfter: 5 * time.Minute}
		}
		stop := running(t, newReconciler(t, api))
		defer stop()
		pass(t, 299*time.Second)
		if _, log := api.state(); len(log) != 1 {
			t.Errorf("%d checks before the time that AXP asked for, want 1", len(log))
		}
	})
}

func TestEndOfRun(t *testing.T) {
	for _, remove := range []bool{false, true} {
		t.Run(fmt.Sprintf("delete on exit %v", remove), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				foreign := sub("f", "https://other.example/hook/k")
				api := newFakeAPI(foreign)
				r := newReconciler(t, api, func(p *provisioning.Params) { p.Config.DeleteOnExit = remove })
				stop := running(t, r)
				synctest.Wait()
				if err := r.Drain(t.Context()); err != nil {
					t.Error(err)
				}
				stop()
				want := 2
				if remove {
					want = 1
				}
				if subs, _ := api.state(); len(subs) != want {
					t.Errorf("left are %v", subs)
				}
			})
		})
	}
}

func TestCancelledCheckIsNoResult(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := newReconciler(t, newFakeAPI())
	if err := r.Reconcile(ctx); !errors.Is(err, context.Canceled) || !r.Status().CheckedAt.IsZero() {
		t.Errorf("got %v, status %+v", err, r.Status())
	}
}

func TestKeyIsNeverLogged(t *testing.T) {
	var log bytes.Buffer
	api := newFakeAPI(sub("s", staleURL), sub("o", oldURL))
	r := newReconciler(t, api, func(p *provisioning.Params) {
		p.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for _, fault := range []func(string) error{nil, func(string) error { return &axp.Error{Operation: axp.OpListSubscriptions, Status: 500} }} {
		api.set(func(f *fakeAPI) { f.fault = fault })
		_ = r.Reconcile(t.Context())
	}
	if strings.Contains(log.String(), "key-") || !strings.Contains(log.String(), prefix+"***") {
		t.Errorf("the log is:\n%s", log.String())
	}
}

func TestGaugeTellsWhetherAllIsWell(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	api := newFakeAPI()
	r := newReconciler(t, api, func(p *provisioning.Params) {
		p.Providers = &telemetry.Providers{Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}
	})
	for want, fault := range []func(string) error{func(string) error { return errors.New("down") }, nil} {
		api.set(func(f *fakeAPI) { f.fault = fault })
		_ = r.Reconcile(t.Context())
		var data metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &data); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, m := range data.ScopeMetrics[0].Metrics {
			if gauge, ok := m.Data.(metricdata.Gauge[int64]); ok && m.Name == "axpchat_subscription_ok" {
				found = gauge.DataPoints[0].Value == int64(want)
			}
		}
		if !found {
			t.Errorf("axpchat_subscription_ok is not %d", want)
		}
	}
}

func TestParametersAreChecked(t *testing.T) {
	cases := map[string]func(*provisioning.Params){
		"no account":                  func(p *provisioning.Params) { p.AccountID = "" },
		"no API":                      func(p *provisioning.Params) { p.API = nil },
		"a relative URL":              func(p *provisioning.Params) { p.CallbackURL = "/webhooks/axp/ABCDEF/k" },
		"a URL without a key":         func(p *provisioning.Params) { p.CallbackURL = prefix },
		"a URL without a path":        func(p *provisioning.Params) { p.CallbackURL = "https://chat.example" },
		"a URL with a query":          func(p *provisioning.Params) { p.CallbackURL = ourURL + "?x" },
		"a previous URL of elsewhere": func(p *provisioning.Params) { p.PreviousCallbackURL = "https://other.example/k" },
		"no types":                    func(p *provisioning.Params) { p.EventTypes = []axp.EventType{} },
		"seven types":                 func(p *provisioning.Params) { p.EventTypes = make([]axp.EventType, 7) },
	}
	for name, spoil := range cases {
		p := provisioning.Params{
			AccountID: "ABCDEF", ChannelProviderID: provider, API: newFakeAPI(),
			CallbackURL: ourURL, PreviousCallbackURL: oldURL,
		}
		spoil(&p)
		if _, err := provisioning.New(p); err == nil || strings.Contains(err.Error(), "key-now") {
			t.Errorf("%s: got %v, want an error without the key", name, err)
		}
	}
}

// TestMissedCallbacksAreTold: once for each time that the subscription was gone
// or not as it should be, also where another replica has mended it, and not at
// the start, when there was nothing to miss.
func TestMissedCallbacksAreTold(t *testing.T) {
	api := newFakeAPI()
	missed := 0
	r := newReconciler(t, api, func(p *provisioning.Params) { p.Missed = func() { missed++ } })
	check := func(what string, want int) {
		t.Helper()
		missed = 0
		if err := r.Reconcile(t.Context()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if missed != want {
			t.Errorf("%s: told %d times, want %d", what, missed, want)
		}
	}
	check("the first start", 0)
	check("nothing happened", 0)
	api.set(func(f *fakeAPI) { clear(f.subs) })
	check("somebody deleted it", 1)
	api.set(func(f *fakeAPI) { f.fault = func(string) error { return errors.New("down") } })
	if r.Reconcile(t.Context()) == nil {
		t.Fatal("AXP is down")
	}
	api.set(func(f *fakeAPI) {
		f.fault = nil
		clear(f.subs)
		f.subs["theirs"] = sub("theirs", ourURL)
	})
	check("another replica made a new one during an outage", 1)
	api.set(func(f *fakeAPI) { f.subs["theirs"] = sub("theirs", ourURL, axp.EventType("MESSAGES")) })
	check("somebody changed its types", 1)
	check("all is well again", 0)
}
