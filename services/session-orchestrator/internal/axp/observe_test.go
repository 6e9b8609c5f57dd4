package axp_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/axpchat/connector/services/internal/kit/telemetry"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

func TestCallsAreMeasuredAndTraced(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	spans := tracetest.NewSpanRecorder()
	providers := &telemetry.Providers{
		Meter:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
		Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
	}
	f := newFakeAXP(t, inTurn(always(503, ""), always(200, sessionJSON), always(400, `{"detail":"a@b.example"}`)))
	c := f.client(func(p *axp.Params) { p.Providers = providers })
	if _, err := c.GetSession(t.Context(), id1); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SendMessage(t.Context(), id2, soundMessage()); err == nil {
		t.Fatal("want an error")
	}

	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]uint64)
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch points := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range points.DataPoints {
					got[m.Name+" "+p.Attributes.Encoded(labels{})] += p.Count
				}
			case metricdata.Sum[int64]:
				for _, p := range points.DataPoints {
					got[m.Name+" "+p.Attributes.Encoded(labels{})] += uint64(p.Value)
				}
			}
		}
	}
	want := map[string]uint64{
		"axpchat_axp_call_duration_seconds getDigitalSession 5xx":  1,
		"axpchat_axp_call_duration_seconds getDigitalSession 2xx":  1,
		"axpchat_axp_call_duration_seconds sendDigitalMessage 4xx": 1,
		"axpchat_axp_call_duration_seconds postGenerateToken 2xx":  1,
		"axpchat_axp_retries_total getDigitalSession 5xx":          1,
		"axpchat_axp_token_renewals_total ABCDEF ok":               1,
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s is %d, want %d; all: %v", name, got[name], n, got)
		}
	}

	var names []string
	for _, span := range spans.Ended() {
		names = append(names, span.Name())
		for _, a := range span.Attributes() {
			if text := a.Value.String(); strings.Contains(text, id1) || strings.Contains(text, "a@b.example") {
				t.Errorf("span %s tells %s=%s", span.Name(), a.Key, text)
			}
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"AXP getDigitalSession", "AXP postGenerateToken", "AXP sendDigitalMessage"}) {
		t.Errorf("spans are %v", names)
	}
}

func TestNetworkFaultsHaveTheirOwnClass(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	providers := &telemetry.Providers{Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}
	c := newClient(t, "https://axp.example", func(p *axp.Params) {
		p.Providers = providers
		p.Transport = wire(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") })
	})
	if err := c.CheckCredentials(t.Context()); err == nil || axp.OutcomeOf(err) != axp.NotApplied {
		t.Errorf("got %v", err)
	}
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			if h, ok := m.Data.(metricdata.Histogram[float64]); ok {
				if class := h.DataPoints[0].Attributes.Encoded(labels{}); class != "postGenerateToken network" {
					t.Errorf("class is %s", class)
				}
			}
		}
	}
}

// labels writes the values of attributes, in the order of their keys.
type labels struct{}

func (labels) Encode(i attribute.Iterator) string {
	var values []string
	for i.Next() {
		values = append(values, i.Attribute().Value.String())
	}
	return strings.Join(values, " ")
}

func (labels) ID() attribute.EncoderID { return attribute.NewEncoderID() }
