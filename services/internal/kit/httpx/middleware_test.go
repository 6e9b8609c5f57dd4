package httpx_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
	"github.com/axpchat/connector/services/internal/kit/panics"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

const (
	tokenExpired = axpchatv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED
	rateLimited  = axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED
	unauthorised = axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED
)

func failing(err error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { httpx.WriteProblem(w, r, err) })
}

func TestWriteProblem(t *testing.T) {
	cases := []struct {
		name   string
		err    error
		status int
		reason string
		header map[string]string
	}{
		{"no token", errs.New(unauthorised, ""), 401, "UNAUTHENTICATED", map[string]string{"WWW-Authenticate": "Bearer", "Retry-After": ""}},
		{"an expired token", errs.New(tokenExpired, ""), 401, "TOKEN_EXPIRED", map[string]string{"WWW-Authenticate": `Bearer error="invalid_token"`}},
		{"a limit", errs.New(rateLimited, "").WithRetryAfter(1100 * time.Millisecond), 429, "RATE_LIMITED", map[string]string{"Retry-After": "2", "WWW-Authenticate": ""}},
		{"a fault", errors.New("secret"), 500, "INTERNAL", nil},
		{"no error at all", nil, 500, "INTERNAL", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/v1/sessions?ticket=secret", nil)
			r.Header.Set(httpx.RequestIDHeader, "req-1")
			w := call(httpx.RequestID(failing(c.err)), r)
			if w.Code != c.status || w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("got %d %v", w.Code, w.Header())
			}
			for k, v := range c.header {
				if w.Header().Get(k) != v {
					t.Errorf("%s is %q, want %q", k, w.Header().Get(k), v)
				}
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("a secret is told: %s", w.Body)
			}
			p := decode(t, w.Body)
			if p.Status != c.status || p.Reason != c.reason || p.Instance != "/v1/sessions" || p.RequestID != "req-1" {
				t.Errorf("got %+v", p)
			}
		})
	}
}

func TestWriteProblemDropsTheHeadersOfSuccess(t *testing.T) {
	w := call(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.Header().Set("Cache-Control", "max-age=60")
		httpx.WriteProblem(w, r, io.ErrUnexpectedEOF)
	}), httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Header().Get("Content-Length") != "" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("got %v", w.Header())
	}
}

func TestRequestID(t *testing.T) {
	for _, c := range []struct{ name, sent, kept string }{
		{"is taken over", "A-z_0.9", "A-z_0.9"}, {"is made", "", ""}, {"is replaced", "a\tb", ""}, {"is not too long", strings.Repeat("x", 129), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var seen string
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set(httpx.RequestIDHeader, c.sent)
			w := call(httpx.RequestID(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = grpcx.RequestID(r.Context()) })), r)
			if w.Header().Get(httpx.RequestIDHeader) != seen || c.kept != "" && seen != c.kept || c.kept == "" && len(seen) != 36 {
				t.Errorf("got %q, sent back %q", seen, w.Header().Get(httpx.RequestIDHeader))
			}
		})
	}
}

// site is a handler as services wrap it.
func site(log *logtest.Records, mux *http.ServeMux) http.Handler {
	h := httpx.Recover(panics.New(log.Logger(), nil), httpx.SecurityHeaders(httpx.LimitBody(1<<10, httpx.Mux(mux))))
	return httpx.RequestID(httpx.Instrument(nil, httpx.AccessLog(log.Logger(), h)))
}

func TestAccessLog(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/sessions/{id}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	mux.Handle("GET /limit", failing(errs.New(rateLimited, "detail for the caller").WithCause(errors.New("cause of no interest"))))
	mux.Handle("GET /fault", failing(errors.New("the cause")))
	mux.HandleFunc("GET /named/{id}", func(_ http.ResponseWriter, r *http.Request) { httpx.SetRoute(r.Context(), "a better name") })
	mux.HandleFunc("GET /left", func(http.ResponseWriter, *http.Request) {})
	cases := []struct {
		name, method, path string
		want               map[string]any
	}{
		{"a success", "GET", "/v1/sessions/private?ticket=private", map[string]any{"level": "DEBUG", "method": "GET", "route": "/v1/sessions/{id}", "status": 200.0, "bytes": 5.0}},
		{"a failure of the caller", "GET", "/limit", map[string]any{"level": "INFO", "route": "/limit", "status": 429.0, "reason": "RATE_LIMITED", "error": nil}},
		{"a fault", "GET", "/fault", map[string]any{"level": "ERROR", "status": 500.0, "reason": "INTERNAL", "error": "the cause"}},
		{"an unknown path", "GET", "/private", map[string]any{"level": "INFO", "route": "unmatched", "status": 404.0, "reason": "NOT_FOUND"}},
		{"an invented method", "PRIVATE", "/limit", map[string]any{"method": "_OTHER", "route": "unmatched", "status": 404.0}},
		{"a name of the handler's", "GET", "/named/private", map[string]any{"route": "a better name", "status": 200.0}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			log := &logtest.Records{}
			r := httptest.NewRequest(c.method, c.path, nil)
			r.Header.Set("Authorization", "Bearer private")
			call(site(log, mux), r)
			lines := log.Named(t, "http")
			if len(lines) != 1 {
				t.Fatalf("got %s", log.String())
			}
			for k, v := range c.want {
				if diff := cmp.Diff(v, lines[0][k]); diff != "" {
					t.Errorf("%s: %s", k, diff)
				}
			}
			if lines[0]["request_id"] == "" || strings.Contains(log.String(), "private") || strings.Contains(log.String(), "PRIVATE") {
				t.Errorf("got %s", log.String())
			}
		})
	}
	t.Run("a client that left", func(t *testing.T) {
		log := &logtest.Records{}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		call(site(log, mux), httptest.NewRequestWithContext(ctx, http.MethodGet, "/left", nil))
		if lines := log.Named(t, "http"); len(lines) != 1 || lines[0]["status"] != 499.0 {
			t.Errorf("got %s", log.String())
		}
	})
}

func TestAFloodOfRefusalsIsNoneOfLines(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /limit", failing(errs.New(rateLimited, "")))
	mux.Handle("GET /fault", failing(errors.New("the cause")))
	mux.HandleFunc("GET /well", func(http.ResponseWriter, *http.Request) {})
	log := &logtest.Records{}
	h := site(log, mux)
	const each = 100
	for _, path := range []string{"/limit", "/unknown", "/fault", "/well"} {
		for range each {
			call(h, httptest.NewRequest(http.MethodGet, path, nil))
		}
	}
	got := map[any]int{}
	for _, line := range log.Named(t, "http") {
		got[line["status"]]++
	}
	// Faults of one's own are all told of; so is what went well, where debugging is on.
	if want := map[any]int{429.0: 20, 404.0: 20, 500.0: each, 200.0: each}; !maps.Equal(got, want) {
		t.Errorf("lines by status: %v, want %v", got, want)
	}
}

func TestMuxTellsOfOtherMethods(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /a", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("DELETE /a", func(http.ResponseWriter, *http.Request) {})
	w := call(httpx.Mux(mux), httptest.NewRequest(http.MethodPost, "/a", nil))
	if w.Code != http.StatusNotFound || w.Header().Get("Allow") != "DELETE, GET, HEAD" || decode(t, w.Body).Reason != "NOT_FOUND" {
		t.Errorf("got %d %v", w.Code, w.Header())
	}
}

func TestSecurityHeadersCanBeReplaced(t *testing.T) {
	w := call(httpx.SecurityHeaders(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
	})), httptest.NewRequest(http.MethodGet, "/", nil))
	want := map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Content-Security-Policy": "default-src 'self'"}
	for k, v := range want {
		if w.Header().Get(k) != v {
			t.Errorf("%s is %q", k, w.Header().Get(k))
		}
	}
}

func TestRecover(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /early", func(http.ResponseWriter, *http.Request) { panic("boom") })
	mux.HandleFunc("GET /late", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "part of")
		_ = http.NewResponseController(w).Flush()
		panic("boom")
	})
	mux.HandleFunc("GET /abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	log := &logtest.Records{}
	f := start(t, site(log, mux), httpx.ServerConfig{})
	base := f.url
	f.url = base + "/early"
	resp, err := f.do(t, patient(t), http.MethodGet, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := decode(t, resp.Body); resp.StatusCode != http.StatusInternalServerError || p.Reason != "INTERNAL" {
		t.Errorf("got %d %+v", resp.StatusCode, p)
	}
	_ = resp.Body.Close()
	f.url = base + "/late"
	if resp, err = f.do(t, patient(t), http.MethodGet, nil); err != nil {
		t.Fatal(err)
	}
	if _, err = io.ReadAll(resp.Body); err == nil {
		t.Error("a broken answer must not look complete")
	}
	_ = resp.Body.Close()
	f.url = base + "/abort"
	if resp, err = f.do(t, patient(t), http.MethodGet, nil); err == nil {
		_ = resp.Body.Close()
		t.Error("the connection must be cut")
	}
	f.stop()
	lines := log.Named(t, "panic")
	if len(lines) != 2 || strings.Contains(log.String(), "boom") || lines[0]["where"] != "http" || lines[0]["route"] != "/early" || !strings.Contains(fmt.Sprint(lines[0]["stack"]), "middleware_test.go") {
		t.Errorf("got %v", lines)
	}
	if len(log.Named(t, "http")) != 3 {
		t.Errorf("every request must be logged: %s", log.String())
	}
}

func TestLimitBody(t *testing.T) {
	h := httpx.LimitBody(4, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			httpx.WriteProblem(w, r, fmt.Errorf("read: %w", err))
		}
	}))
	for _, c := range []struct {
		name string
		body io.Reader
		want int
	}{
		{"none", nil, 200}, {"within", strings.NewReader("1234"), 200}, {"declared over", strings.NewReader("12345"), 413},
		{"over without saying so", io.MultiReader(strings.NewReader("12345")), 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := call(h, httptest.NewRequest(http.MethodPost, "/", c.body))
			if w.Code != c.want || c.want == 413 && decode(t, w.Body).Detail != "the body is larger than 4 bytes" {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestReadTimeout(t *testing.T) {
	read := make(chan struct{}, 1)
	h := httpx.ReadTimeout(100*time.Millisecond, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			httpx.WriteProblem(w, r, err)
			return
		}
		read <- struct{}{}
		// Longer than the time for reading: the handler's own work is not
		// limited by it.
		select {
		case <-time.After(300 * time.Millisecond):
		case <-r.Context().Done():
			t.Error("the request was taken for one whose client left")
		}
	}))
	f := start(t, h, httpx.ServerConfig{})
	for range 2 { // on one connection
		resp, err := f.do(t, patient(t), http.MethodPost, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		<-read
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("got %d, %v", resp.StatusCode, err)
		}
		_ = resp.Body.Close()
	}
	slow, feed := io.Pipe()
	defer func() { _ = feed.Close() }()
	resp, err := f.do(t, patient(t), http.MethodPost, slow)
	if err != nil {
		t.Fatal(err)
	}
	if p := decode(t, resp.Body); p.Reason != "DEADLINE_EXCEEDED" {
		t.Errorf("got %+v", p)
	}
	_ = resp.Body.Close()
}

func TestStreamsWorkThroughTheMiddleware(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.CloseNow() }()
		kind, data, err := c.Read(r.Context())
		if err == nil {
			err = c.Write(r.Context(), kind, data)
		}
		if err == nil {
			err = c.Close(websocket.StatusNormalClosure, "")
		}
		if err != nil {
			t.Error(err)
		}
		// Too late for an answer; it must not disturb.
		httpx.WriteProblem(w, r, io.ErrUnexpectedEOF)
	})
	mux.HandleFunc("GET /sse", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "data: 1\n\n")
		flusher, ok := w.(http.Flusher)
		if !ok {
			t.Error("it can't be flushed")
			return
		}
		flusher.Flush()
	})
	log := &logtest.Records{}
	f := start(t, site(log, mux), httpx.ServerConfig{})
	c, _, err := websocket.Dial(patient(t), f.url+"/ws", &websocket.DialOptions{HTTPClient: f.client})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(patient(t), websocket.MessageText, []byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, data, err := c.Read(patient(t)); err != nil || string(data) != "ping" {
		t.Errorf("got %q, %v", data, err)
	}
	if _, _, err := c.Read(patient(t)); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("got %v", err)
	}
	f.url += "/sse"
	resp, err := f.do(t, patient(t), http.MethodGet, nil)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(resp.Body); err != nil || string(data) != "data: 1\n\n" {
		t.Errorf("got %q, %v", data, err)
	}
	_ = resp.Body.Close()
	f.stop()
	statuses := map[any]any{}
	for _, l := range log.Named(t, "http") {
		statuses[l["route"]] = l["status"]
	}
	if diff := cmp.Diff(map[any]any{"/ws": 101.0, "/sse": 200.0}, statuses); diff != "" {
		t.Error(diff)
	}
}

func TestInstrumentKeepsPathsOut(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	reader := sdkmetric.NewManualReader()
	p := telemetry.Nop()
	p.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	p.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	mux := http.NewServeMux()
	mux.Handle("POST /webhooks/{key}", failing(errors.New("fault")))
	r := httptest.NewRequest(http.MethodPost, "/webhooks/private?ticket=private", nil)
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	call(httpx.Instrument(p, httpx.Mux(mux)), r)
	ended := spans.Ended()
	if len(ended) != 1 || ended[0].Name() != "POST /webhooks/{key}" ||
		ended[0].SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
		t.Fatalf("got %v", ended)
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(all, ended[0].Attributes(), ended[0].Name()); strings.Contains(text, "private") {
		t.Errorf("got %s", text)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if m.Name != "http.server.request.duration" {
			continue
		}
		points := m.Data.(metricdata.Histogram[float64]).DataPoints
		want := attribute.NewSet(attribute.String("http.request.method", "POST"),
			attribute.String("http.route", "/webhooks/{key}"), attribute.Int("http.response.status_code", 500))
		if len(points) != 1 || !points[0].Attributes.Equals(&want) {
			t.Errorf("got %v", points)
		}
		return
	}
	t.Error("there is no duration")
}

// TestAPanicPastRecoverIsLoggedWithoutItsValue: net/http itself writes it down.
func TestAPanicPastRecoverIsLoggedWithoutItsValue(t *testing.T) {
	f := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("private: 1\nprivate: 2") }), httpx.ServerConfig{})
	if resp, err := f.do(t, patient(t), http.MethodGet, nil); err == nil {
		_ = resp.Body.Close()
		t.Error("it was answered")
	}
	f.stop()
	text := f.log.String()
	if !strings.Contains(text, "http: panic") || !strings.Contains(text, "middleware_test.go") || strings.Contains(text, "private") {
		t.Errorf("got %s", text)
	}
}
