package telemetry

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/axpchat/connector/services/internal/kit/lifecycle"
)

func TestASlowReadinessCheckIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			name  string
			ready func(context.Context) map[string]error
			want  string
			took  time.Duration
		}{
			{"one that minds its context may say who was late", func(ctx context.Context) map[string]error {
				<-ctx.Done()
				return map[string]error{"bus": errors.New("late")}
			}, `{"status":"unavailable","components":{"bus":"late"}}`, 2 * time.Second},
			{"one that does not is left behind", func(context.Context) map[string]error {
				<-time.After(time.Minute)
				return nil
			}, `{"status":"timeout"}`, 2200 * time.Millisecond},
		} {
			a := &Admin{ready: tc.ready, providers: Nop()}
			began := time.Now()
			w := httptest.NewRecorder()
			a.routes(false).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz/ready", nil))
			if w.Code != http.StatusServiceUnavailable || w.Body.String() != tc.want+"\n" || time.Since(began) != tc.took {
				t.Errorf("%s: %d %s after %s", tc.name, w.Code, w.Body, time.Since(began))
			}
		}
		<-time.After(time.Minute) // synthetic: lets the late answer end
	})
}

func TestWhatWorksInPartIsReadyAndTold(t *testing.T) {
	partly := &lifecycle.DegradedError{Cause: errors.New("wrong secret")}
	for _, tc := range []struct {
		name  string
		parts map[string]error
		code  int
		want  string
	}{
		{"a part", map[string]error{"webhooks": nil, "webhooks/ABCDEF": partly}, http.StatusOK,
			`{"status":"degraded","components":{"webhooks":"ok","webhooks/ABCDEF":"degraded: wrong secret"}}`},
		{"a part beside something worse", map[string]error{"bus": errors.New("late"), "webhooks/ABCDEF": partly}, http.StatusServiceUnavailable,
			`{"status":"unavailable","components":{"bus":"late","webhooks/ABCDEF":"degraded: wrong secret"}}`},
	} {
		for range 20 { // whatever the order of the map
			a := &Admin{ready: func(context.Context) map[string]error { return tc.parts }, providers: Nop()}
			w := httptest.NewRecorder()
			a.routes(false).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz/ready", nil))
			if w.Code != tc.code || w.Body.String() != tc.want+"\n" {
				t.Errorf("%s: %d %s", tc.name, w.Code, w.Body)
			}
		}
	}
}
