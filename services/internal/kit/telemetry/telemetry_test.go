package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cleanEnv makes a test independent of the variables of the machine: empty counts
// as not set, here and in the SDK.
func cleanEnv(tb testing.TB) {
	tb.Helper()
	for _, name := range []string{
		"SDK_DISABLED", "SERVICE_NAME", "RESOURCE_ATTRIBUTES", "PROPAGATORS", "TRACES_EXPORTER", "METRICS_EXPORTER", "TRACES_SAMPLER",
		"EXPORTER_OTLP_ENDPOINT", "EXPORTER_OTLP_TRACES_ENDPOINT", "EXPORTER_OTLP_METRICS_ENDPOINT",
		"EXPORTER_OTLP_PROTOCOL", "EXPORTER_OTLP_TRACES_PROTOCOL", "EXPORTER_OTLP_METRICS_PROTOCOL",
	} {
		tb.Setenv("OTEL_"+name, "")
	}
}

func setup(tb testing.TB) *telemetry.Providers {
	tb.Helper()
	p, err := telemetry.Setup(tb.Context(), "gateway", "v1.2.3")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { shutdown(tb, p) })
	return p
}

func shutdown(tb testing.TB, p *telemetry.Providers) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 10*time.Second)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		tb.Error(err)
	}
}

func count(tb testing.TB, p *telemetry.Providers) {
	tb.Helper()
	c, err := p.Meter.Meter("test").Int64Counter("axpchat.test.things")
	if err != nil {
		tb.Fatal(err)
	}
	c.Add(tb.Context(), 2, metric.WithAttributes(attribute.String("kind", "good")))
}

func admin(tb testing.TB, p *telemetry.Providers, profiles bool, ready func(context.Context) map[string]error) *telemetry.Admin {
	tb.Helper()
	a, err := telemetry.NewAdmin("127.0.0.1:0", profiles, p, ready)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return a
}

func get(tb testing.TB, a *telemetry.Admin, path string) (int, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "http://"+a.Addr()+path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(body))
}

func TestWithoutAnEndpointMetricsAreScrapedAndSpansHaveIDs(t *testing.T) {
	cleanEnv(t)
	t.Setenv("OTEL_SERVICE_NAME", "renamed")
	p := setup(t)
	count(t, p)
	ctx, span := p.Tracer.Tracer("test").Start(t.Context(), "work")
	carrier := propagation.MapCarrier{}
	p.Propagator.Inject(ctx, carrier)
	span.End()
	if !strings.Contains(carrier["traceparent"], span.SpanContext().TraceID().String()) {
		t.Errorf("traceparent: %v", carrier)
	}
	a := admin(t, p, false, nil)
	_, body := get(t, a, "/metrics")
	for _, want := range []string{`axpchat_test_things_total{kind="good"`, "go_goroutines", "process_start_time_seconds", `service_name="renamed"`, `service_version="v1.2.3"`} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestADisabledSDKRecordsNothing(t *testing.T) {
	cleanEnv(t)
	t.Setenv("OTEL_SDK_DISABLED", "true")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	p := setup(t)
	count(t, p)
	if _, span := p.Tracer.Tracer("test").Start(t.Context(), "work"); span.SpanContext().IsValid() {
		t.Error("a span was made")
	}
	_, body := get(t, admin(t, p, false, nil), "/metrics")
	if strings.Contains(body, "axpchat") || !strings.Contains(body, "go_goroutines") {
		t.Error("metrics of the SDK, or none of the process")
	}
}

func TestTracesGoOutByHTTP(t *testing.T) {
	cleanEnv(t)
	var paths atomic.Pointer[string]
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths.Store(&r.URL.Path) }))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	p := setup(t)
	_, span := p.Tracer.Tracer("test").Start(t.Context(), "work")
	span.End()
	shutdown(t, p)
	if got := paths.Load(); got == nil || *got != "/v1/traces" {
		t.Errorf("collector got %v", got)
	}
	if len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=grpc") {
		t.Errorf("notes: %v", p.Notes)
	}
	if err := p.Shutdown(t.Context()); err != nil {
		t.Errorf("a second shutdown: %v", err)
	}
}

func TestTracesAndMetricsGoOutByGRPC(t *testing.T) {
	cleanEnv(t)
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	called := make(chan string, 16)
	collector := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		called <- method
		return errors.New("not taken")
	}))
	served := make(chan error, 1)
	go func() { served <- collector.Serve(lis) }()
	defer func() {
		collector.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+lis.Addr().String())
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	p, err := telemetry.Setup(t.Context(), "gateway", "v1")
	if err != nil {
		t.Fatal(err)
	}
	count(t, p)
	_, span := p.Tracer.Tracer("test").Start(t.Context(), "work")
	span.End()
	// The collector takes nothing, so the end is not clean; what it was asked for
	// is what counts here.
	_ = p.Shutdown(t.Context())
	collector.Stop()
	close(called)
	got := map[string]bool{}
	for method := range called {
		got[method[strings.LastIndex(method, ".")+1:]] = true
	}
	if !got["TraceService/Export"] || !got["MetricsService/Export"] {
		t.Errorf("collector got %v", got)
	}
}

func TestSettingsThatWouldLoseASignalAreRefused(t *testing.T) {
	for _, tc := range []struct{ name, variable, value, want string }{
		{"an exporter", "OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER"},
		{"a protocol", "OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", `"http/json" is not supported`},
		{"HTTP for metrics", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf", "metrics are sent by grpc only"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cleanEnv(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv(tc.variable, tc.value)
			if _, err := telemetry.Setup(t.Context(), "gateway", "v1"); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestPropagators(t *testing.T) {
	for _, tc := range []struct {
		value  string
		fields int
		notes  int
	}{{"", 3, 0}, {"tracecontext", 2, 0}, {"baggage, tracecontext", 3, 0}, {"none", 0, 0}, {"b3,baggage", 1, 1}} {
		cleanEnv(t)
		t.Setenv("OTEL_PROPAGATORS", tc.value)
		p := setup(t)
		if len(p.Propagator.Fields()) != tc.fields || len(p.Notes) != tc.notes {
			t.Errorf("%q: %v %v", tc.value, p.Propagator.Fields(), p.Notes)
		}
	}
}

func TestHealth(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	a := admin(t, telemetry.Nop(), false, func(context.Context) map[string]error {
		if broken.Load() {
			return map[string]error{"bus": errors.New("no connection"), "api": nil}
		}
		return map[string]error{"bus": nil, "api": nil}
	})
	expect := func(path string, code int, want string) {
		t.Helper()
		gotCode, body := get(t, a, path)
		if gotCode != code || body != want {
			t.Errorf("%s: %d %s", path, gotCode, body)
		}
	}
	const bad = `{"status":"unavailable","components":{"api":"ok","bus":"no connection"}}`
	const good = `{"status":"ok","components":{"api":"ok","bus":"ok"}}`
	expect("/healthz/live", 200, `{"status":"ok"}`)
	expect("/healthz/startup", 503, bad)
	expect("/healthz/ready", 503, bad)
	broken.Store(false)
	expect("/healthz/startup", 200, good)
	expect("/healthz/ready", 200, good)
	broken.Store(true)
	expect("/healthz/startup", 200, `{"status":"ok"}`)
	expect("/healthz/ready", 503, bad)
	broken.Store(false)
	if err := a.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("/healthz/ready", 503, `{"status":"draining","components":{"api":"ok","bus":"ok"}}`)
	expect("/healthz/live", 200, `{"status":"ok"}`)
}

func TestVersionAndProfiles(t *testing.T) {
	p := telemetry.Nop()
	p.Service, p.Version = "gateway", "v9"
	closed, open := admin(t, p, false, nil), admin(t, p, true, nil)
	_, body := get(t, closed, "/version")
	var got map[string]string
	if err := json.Unmarshal([]byte(body), &got); err != nil || got["service"] != "gateway" || got["version"] != "v9" || got["go"] == "" {
		t.Errorf("%s %v", body, err)
	}
	if code, _ := get(t, closed, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("profiles are open: %d", code)
	}
	if code, _ := get(t, open, "/debug/pprof/goroutine?debug=1"); code != http.StatusOK {
		t.Errorf("profiles: %d", code)
	}
}

func TestNewAdminNamesAnAddressThatIsTaken(t *testing.T) {
	a, err := telemetry.NewAdmin("127.0.0.1:0", false, telemetry.Nop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := telemetry.NewAdmin(a.Addr(), false, telemetry.Nop(), nil); err == nil || !strings.Contains(err.Error(), a.Addr()) {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Error(err)
	}
}

func TestAnnounceWaits(t *testing.T) {
	a, err := telemetry.NewAdmin("127.0.0.1:0", false, telemetry.Nop(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	a.DrainDelay = 5 * time.Second
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		a.Announce(t.Context())
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a.Announce(ctx)
		if took := time.Since(began); took != 6*time.Second {
			t.Errorf("took %s", took)
		}
	})
}
