package patience_test

import (
	"testing"
	"time"

	"github.com/axpchat/connector/services/session-orchestrator/internal/patience"
)

func TestBackoffGrowsHeedsAdviceAndSpreads(t *testing.T) {
	const shortest, longest = 100 * time.Millisecond, 2 * time.Second
	for n, most := range map[int]time.Duration{1: shortest, 2: 2 * shortest, 4: 8 * shortest, 10: longest, 1000: longest} {
		for range 100 {
			if d := patience.Backoff(n, shortest, longest, 0); d < most/2 || d > most {
				t.Fatalf("after %d failures: %v, want %v to %v", n, d, most/2, most)
			}
		}
	}
	const advised = time.Minute
	seen := map[time.Duration]bool{}
	for range 100 {
		d := patience.Backoff(1, shortest, longest, advised)
		if d < advised || d > advised+shortest {
			t.Fatalf("advised to wait %v: %v", advised, d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Errorf("of 100 who were advised the same only %d come back at times of their own", len(seen))
	}
}
