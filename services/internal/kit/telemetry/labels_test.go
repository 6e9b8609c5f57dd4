package telemetry_test

import (
	"strconv"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

func TestLabelsAreMadeOnceAndOnlyAFewAreKept(t *testing.T) {
	labels := telemetry.NewLabels(func(n int) []attribute.KeyValue { return []attribute.KeyValue{attribute.Int("n", n)} })
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for n := range 2000 {
				set := metric.NewAddConfig(labels.Of(n).Add).Attributes()
				if v, _ := set.Value("n"); v.AsInt64() != int64(n) {
					t.Errorf("labels of %s are %v", strconv.Itoa(n), set)
				}
				set = metric.NewRecordConfig(labels.Of(n).Record).Attributes()
				if v, _ := set.Value("n"); set.Len() != 1 || v.AsInt64() != int64(n) {
					t.Errorf("labels of %s are %v", strconv.Itoa(n), set)
				}
			}
		})
	}
	running.Wait()
	if once, again := labels.Of(7), labels.Of(7); once != again {
		t.Error("labels were made twice")
	}
	if once, again := labels.Of(5000), labels.Of(5000); once == again {
		t.Error("every label is kept")
	}
}
