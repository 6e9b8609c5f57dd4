// Package lifecycletest runs commands in tests of their mains. For tests only.
package lifecycletest

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
)

// Mistakes has a command check a configuration of variables, and returns the keys
// of what is wrong with it, sorted.
func Mistakes(t testing.TB, run func(context.Context, lifecycle.Env) error, vars map[string]string) []string {
	t.Helper()
	err := run(t.Context(), lifecycle.Env{
		Name: "test", Args: []string{"config", "check"}, Stdout: io.Discard, Stderr: io.Discard, Sources: config.Map(vars),
	})
	var mistakes config.Errors
	if errors.As(err, &mistakes) != (err != nil) {
		t.Fatalf("got %v", err)
	}
	var keys []string
	for _, m := range mistakes {
		keys = append(keys, m.Key)
	}
	slices.Sort(keys)
	return keys
}
