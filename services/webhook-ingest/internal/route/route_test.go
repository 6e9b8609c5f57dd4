package route_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/normalise"
	"github.com/axpchat/connector/services/webhook-ingest/internal/route"
)

const account = "QRSTUV"

// index is a bucket in memory.
type index struct {
	mu      sync.Mutex
	records map[string]*busv1.IndexRecord
	err     error
	reads   int
}

func (i *index) put(key, session, engagement string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.records[key] = &busv1.IndexRecord{SessionId: session, EngagementId: engagement}
}

func (i *index) Get(ctx context.Context, key string) (*busv1.IndexRecord, uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.reads++
	if i.err != nil {
		return nil, 0, i.err
	}
	rec, ok := i.records[key]
	if !ok {
		return nil, 0, bus.ErrNotFound
	}
	return rec, 1, nil
}

func keys(t testing.TB, secret string) *keyring.Keyring {
	t.Helper()
	var cfg keyring.Config
	cfg.Secret = "the secret of these tests"
	if secret != "" {
		cfg.Previous = cfg.Secret
		cfg.Secret = "another secret of theirs"
	}
	k, err := keyring.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func router(t testing.TB, i *index) *route.Router {
	t.Helper()
	return route.New(route.Params{Keys: keys(t, ""), Index: i, Wait: 1500 * time.Millisecond, Holds: 2})
}

func newIndex() *index { return &index{records: map[string]*busv1.IndexRecord{}} }

func TestTheProviderDialogIDNeedsNoLookUp(t *testing.T) {
	i := newIndex()
	full := keys(t, "").MintDialogID(account, "s1", "e1")
	got, err := router(t, i).Find(t.Context(), account, normalise.Keys{ProviderDialogID: full})
	if err != nil || got != (route.Target{Session: "s1", Engagement: "e1"}) || i.reads != 0 {
		t.Errorf("%+v, %v, %d look-ups", got, err, i.reads)
	}
	// A secret that was replaced still proves what was made with it.
	rotated := route.New(route.Params{Keys: keys(t, "rotated"), Index: i, Wait: time.Second, Holds: 1})
	if got, err := rotated.Find(t.Context(), account, normalise.Keys{ProviderDialogID: full}); err != nil || got.Session != "s1" {
		t.Errorf("after the rotation: %+v, %v", got, err)
	}
}

func TestAForgedProviderDialogIDEndsTheSearch(t *testing.T) {
	i := newIndex()
	i.put(bus.IndexDialog(account, "d"), "s1", "e1")
	full := keys(t, "").MintDialogID(account, "s1", "e1")
	flipped := full[:len(full)-1] + map[bool]string{true: "B", false: "A"}[strings.HasSuffix(full, "A")]
	for name, id := range map[string]string{
		"another session's": strings.Replace(full, "s1.", "s2.", 1),
		"a changed proof":   flipped,
		"another account's": keys(t, "").MintDialogID("OTHERS", "s1", "e1"),
	} {
		if _, err := router(t, i).Find(t.Context(), account, normalise.Keys{ProviderDialogID: id, DialogID: "d"}); !errors.Is(err, route.ErrForged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i.reads != 0 {
		t.Errorf("%d look-ups", i.reads)
	}
}

func TestTheIndexIsAskedByWhatAXPSays(t *testing.T) {
	i := newIndex()
	i.put(bus.IndexDialog(account, "d"), "s-dialog", "e1")
	i.put(bus.IndexEngagement(account, "e"), "s-engagement", "e2")
	i.put(bus.IndexSession(account, "one"), "s-one", "e3")
	i.put(bus.IndexSession(account, "many"), "s-many", "")
	i.put(bus.IndexCorrelation(account, "c"), "s-correlation", "e4")
	i.put(bus.IndexDialog(account, "broken"), "not a token", "")
	i.put(bus.IndexDialog("OTHERS", "elsewhere"), "s-others", "")
	for _, tt := range []struct {
		name string
		keys normalise.Keys
		want string
	}{
		{"dialog before engagement", normalise.Keys{DialogID: "d", EngagementID: "e", SessionID: "one"}, "s-dialog"},
		{"engagement where the dialog is not known", normalise.Keys{DialogID: "x", EngagementID: "e", SessionID: "one"}, "s-engagement"},
		{"a foreign providerDialogId does not matter", normalise.Keys{ProviderDialogID: "shop-1", DialogID: "d"}, "s-dialog"},
		{"a session with one engagement", normalise.Keys{EngagementID: "x", SessionID: "one"}, "s-one"},
		{"an event without engagement", normalise.Keys{SessionID: "many"}, "s-many"},
		{"a session that does not say which engagement", normalise.Keys{EngagementID: "x", SessionID: "many"}, ""},
		{"then the correlation id", normalise.Keys{EngagementID: "x", SessionID: "many", CorrelationID: "c"}, "s-correlation"},
		{"a record that no subject can be made of", normalise.Keys{DialogID: "broken"}, ""},
		{"another account's dialog", normalise.Keys{DialogID: "elsewhere"}, ""},
		{"nothing at all", normalise.Keys{}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			got, err := router(t, i).Find(t.Context(), account, tt.keys)
			if tt.want == "" && !errors.Is(err, route.ErrNobody) || tt.want != "" && (err != nil || got.Session != tt.want) {
				t.Errorf("%s: %+v, %v", tt.name, got, err)
			}
		})
	}
}

func TestACallbackThatOvertakesTheOrchestratorIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIndex()
		r := router(t, i)
		time.AfterFunc(time.Second, func() { i.put(bus.IndexDialog(account, "d"), "s", "e") })
		began := time.Now()
		got, err := r.Find(t.Context(), account, normalise.Keys{DialogID: "d"})
		if took := time.Since(began); err != nil || got.Session != "s" || took < time.Second || took > 1500*time.Millisecond {
			t.Errorf("%+v, %v after %s", got, err, took)
		}
		began = time.Now()
		if _, err := r.Find(t.Context(), account, normalise.Keys{DialogID: "never"}); !errors.Is(err, route.ErrNobody) || time.Since(began) != 1500*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if i.reads > 20 {
			t.Errorf("%d look-ups", i.reads)
		}
	})
}

func TestNobodyIsWaitedForWhereTheWaitIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIndex()
		i.put(bus.IndexDialog(account, "d"), "s", "e")
		r := route.New(route.Params{Keys: keys(t, ""), Index: i, Wait: 0, Holds: 2})
		began := time.Now()
		if got, err := r.Find(t.Context(), account, normalise.Keys{DialogID: "d"}); err != nil || got.Session != "s" {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := r.Find(t.Context(), account, normalise.Keys{DialogID: "x"}); !errors.Is(err, route.ErrNobody) || time.Since(began) != 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestTheCallersDeadlineEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		began := time.Now()
		if _, err := router(t, newIndex()).Find(ctx, account, normalise.Keys{DialogID: "x"}); !errors.Is(err, route.ErrNobody) || time.Since(began) != 700*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestOnlySoManyCallbacksAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := router(t, newIndex())
		var held sync.WaitGroup
		for range 2 {
			held.Go(func() { _, _ = r.Find(t.Context(), account, normalise.Keys{DialogID: "x"}) })
		}
		synctest.Wait()
		began := time.Now()
		if _, err := r.Find(t.Context(), account, normalise.Keys{DialogID: "x"}); !errors.Is(err, route.ErrNobody) || time.Since(began) != 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		held.Wait()
	})
}

func TestAnIndexThatCannotBeReadIsNotNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIndex()
		i.err = errors.New("down")
		if _, err := router(t, i).Find(t.Context(), account, normalise.Keys{DialogID: "d"}); err == nil || errors.Is(err, route.ErrNobody) {
			t.Errorf("%v", err)
		}
	})
}
