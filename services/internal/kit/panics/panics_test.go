package panics_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

// TestAPanicIsAnErrorThatTellsNothing: of what was sent neither the log nor the
// answer holds anything.
func TestAPanicIsAnErrorThatTellsNothing(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	reader := sdkmetric.NewManualReader()
	w := panics.New(slog.New(slog.NewJSONHandler(&log, nil)), sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test"))
	for name, c := range map[string]struct {
		f      func() error
		logged string
	}{
		"a text":              {func() error { panic("what a customer wrote") }, `"panic":"string"`},
		"an error":            {func() error { panic(errors.New("what a customer wrote")) }, `"panic":"*errors.errorString"`},
		"a fault of the code": {func() error { _ = strings.Split("what a customer wrote", " ")[len(t.Name())]; return nil }, "index out of range"},
		"nothing":             {func() error { panic(nil) }, "panic called with nil argument"},
	} {
		log.Reset()
		err := w.Aside(t.Context(), "test", c.f, "request_id", "r1") // which is Do, elsewhere
		if !errors.Is(err, panics.Err) || !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_INTERNAL) {
			t.Errorf("%s: %v", name, err)
		}
		text := log.String()
		if !strings.Contains(text, c.logged) || !strings.Contains(text, `"request_id":"r1"`) || !strings.Contains(text, "panics_test.go") {
			t.Errorf("%s is logged as %s", name, text)
		}
		if strings.Contains(text+err.Error(), "customer") {
			t.Errorf("%s tells what was sent: %s, %v", name, text, err)
		}
	}
	log.Reset()
	fine := errors.New("an error")
	if err := w.Do(t.Context(), "test", func() error { return fine }); !errors.Is(err, fine) || log.Len() > 0 {
		t.Errorf("without a panic: %v, %s", err, log.String())
	}
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	sum, ok := got.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64])
	if !ok || len(sum.DataPoints) != 1 || sum.DataPoints[0].Value != 4 {
		t.Errorf("counted %v", got)
	}
}

func TestWhoCountsNothingNeedsNoMeter(t *testing.T) {
	t.Parallel()
	if err := panics.New(slog.New(slog.DiscardHandler), nil).Do(t.Context(), "test", func() error { panic("x") }); !errors.Is(err, panics.Err) {
		t.Error(err)
	}
}
