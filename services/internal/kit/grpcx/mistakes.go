package grpcx

import (
	"maps"
	"math"
	"slices"

	"github.com/axpchat/connector/services/internal/kit/config"
)

func negative(values map[string]int64) []config.Mistake {
	var out []config.Mistake
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if values[key] < 0 {
			out = append(out, config.Mistake{Key: key, Problem: "must not be negative"})
		}
	}
	return out
}

// tooBig refuses what gRPC's frames, with their 32 bits of length, can't hold.
func tooBig(key string, b config.Bytes) []config.Mistake {
	if b > math.MaxInt32 {
		return []config.Mistake{{Key: key, Problem: "must be less than 2GiB"}}
	}
	return nil
}
