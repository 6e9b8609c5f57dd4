package callback_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/webhook-ingest/internal/callback"
	"github.com/axpchat/connector/services/webhook-ingest/internal/route"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const account = "QRSTUV"

// store is a NATS that answers late or never, which a real one can't be told to.
type store struct {
	takes time.Duration
}

func (s store) wait(ctx context.Context) (bus.Ack, error) {
	t := time.NewTimer(s.takes)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return bus.Ack{}, ctx.Err()
	case <-t.C:
		return bus.Ack{Sequence: 1}, nil
	}
}

func (s store) PublishEvent(ctx context.Context, _ *busv1.EventRecord) (bus.Ack, error) {
	return s.wait(ctx)
}

func (s store) PublishUnrouted(ctx context.Context, _ *busv1.UnroutedRecord, _ string) (bus.Ack, error) {
	return s.wait(ctx)
}

func (s store) ReadEvents(ctx context.Context, _, _ string, _ uint64, _ int) ([]bus.StoredEvent, bool, error) {
	_, err := s.wait(ctx)
	return nil, false, err
}

// Get is the index, which knows nothing.
func (s store) Get(ctx context.Context, _ string) (*busv1.IndexRecord, uint64, error) {
	if _, err := s.wait(ctx); err != nil {
		return nil, 0, err
	}
	return nil, 0, bus.ErrNotFound
}

// slowBody takes its time to arrive.
type slowBody struct {
	takes time.Duration
	text  io.Reader
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.takes > 0 {
		<-time.After(b.takes)
		b.takes = 0
	}
	return b.text.Read(p)
}

func TestTheAnswerComesInAXPsTime(t *testing.T) {
	keys, err := keyring.New(keyring.Config{Secret: "the secret of these tests"})
	if err != nil {
		t.Fatal(err)
	}
	ours := `,"providerDialogId":"` + keys.MintDialogID(account, "s", "e") + `"`
	const stray, old, never = `,"dialogId":"d"`, `,"eventDate":"1999-01-01T00:00:00Z"`, time.Hour
	for _, tt := range []struct {
		name   string
		fields string
		body   time.Duration // until it is here
		store  time.Duration // that every call of it takes
		want   int
	}{
		{"all is well", ours, 0, time.Millisecond, 200},
		{"a stray", stray, 0, time.Millisecond, 200},
		{"a slow body", ours, 2900 * time.Millisecond, 100 * time.Millisecond, 200},
		{"a stray with a slow body", stray, 2900 * time.Millisecond, 100 * time.Millisecond, 200},
		{"a stray with a slow body and a slow store", stray, 2900 * time.Millisecond, 400 * time.Millisecond, 200},
		{"nothing is stored", ours, 0, never, 503},
		{"nothing is found or stored", stray, 0, never, 503},
		{"nothing is stored after a slow body", ours, 2900 * time.Millisecond, never, 503},
		{"nothing is found or stored after a slow body", stray, 2900 * time.Millisecond, never, 503},
		{"an old event whose copies can't be looked for", ours + old, 0, never, 503},
		{"an old event and a slow store", ours + old, 0, 900 * time.Millisecond, 200},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := store{takes: tt.store}
			h, err := callback.New(callback.Params{
				Keys:   keys,
				Router: route.New(route.Params{Keys: keys, Index: s, Wait: 1500 * time.Millisecond, Holds: 1}),
				Store:  s, Log: slog.New(slog.DiscardHandler), Providers: telemetry.Nop(),
				Limits: callback.Limits{
					Body: 1 << 20, StoreTimeout: 2 * time.Second, Answer: 4 * time.Second, Concurrent: 1, Duplicates: 2 * time.Hour,
				},
				Waiting: func(context.Context) (uint64, error) { return 0, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			mux.Handle(callback.Pattern, h.Behind(func(h http.Handler) http.Handler { return h }))
			body := `{"eventType":"MESSAGES","messageId":"m"` + tt.fields + `}`
			path := keyring.CallbackPath(account) + keys.CallbackKey(account)
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, &slowBody{takes: tt.body, text: strings.NewReader(body)})
			w := httptest.NewRecorder()
			began := time.Now()
			mux.ServeHTTP(w, r)
			if took := time.Since(began); w.Code != tt.want || took > 4600*time.Millisecond {
				t.Errorf("%s: %d after %s, want %d in time", tt.name, w.Code, took, tt.want)
			}
		})
	}
}
