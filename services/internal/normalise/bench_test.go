package normalise_test

import (
	"path"
	"testing"

	"github.com/axpchat/connector/services/internal/normalise"
	"github.com/axpchat/connector/services/internal/normalise/sampletest"
)

// BenchmarkCallback reads each sample as webhook-ingest does with what AXP sends:
// it is the largest single cost of an event there.
func BenchmarkCallback(b *testing.B) {
	for _, s := range sampletest.Load(b) {
		b.Run(path.Base(s.Name), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(s.Body)))
			for b.Loop() {
				if _, err := normalise.Callback(s.Body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
