package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/axpchat/connector/services/internal/kit/bus"
)

// TestAReadWhoseAnswerIsLostIsRepeated: a caller who may wait for half a minute
// must not do so for an answer that went with its connection.
func TestAReadWhoseAnswerIsLostIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began, tries := time.Now(), 0
		err := bus.Patiently(ctx, func(ctx context.Context) error {
			if tries++; tries == 1 {
				<-ctx.Done() // the answer never comes
				return ctx.Err()
			}
			return nil
		})
		if err != nil || tries != 2 || time.Since(began) > 3*time.Second {
			t.Errorf("%d tries in %s: %v", tries, time.Since(began), err)
		}
	})
}

func TestAReadThatFailsIsNotRepeated(t *testing.T) {
	refused, tries := errors.New("refused"), 0
	err := bus.Patiently(t.Context(), func(context.Context) error { tries++; return refused })
	if !errors.Is(err, refused) || tries != 1 {
		t.Errorf("%d tries: %v", tries, err)
	}
}

func TestAReadEndsWithoutADeadlineToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := bus.Patiently(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

func TestWhatProvisioningWaitsFor(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"nodes that are still starting", &jetstream.APIError{Code: 400, ErrorCode: 10005, Description: "no suitable peers for placement, peer offline"}, true},
		{"a connection that is cut", fmt.Errorf("x: %w", nats.ErrReconnectBufExceeded), true},
		{"no leader yet", &jetstream.APIError{Code: 503, ErrorCode: 10008}, true},
		{"a disk that is too small", &jetstream.APIError{Code: 400, ErrorCode: 10005, Description: "no suitable peers for placement, insufficient storage"}, false},
	} {
		if got := bus.Transient(c.err); got != c.want {
			t.Errorf("%s: waits %v, want %v", c.name, got, c.want)
		}
	}
}
