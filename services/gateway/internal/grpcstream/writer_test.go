package grpcstream

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/stream"
)

func TestAWriterSendsAfterEveryRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		w := newWriter(func(*axpchatv1.ConnectResponse) error { sent++; return nil }, time.Second)
		defer w.close()
		for i, idle := range []time.Duration{0, writerRest / 2, writerRest, 10 * writerRest, 0} {
			time.Sleep(idle) //nolint:forbidigo // the bubble's clock
			if err := w.Send(t.Context(), &axpchatv1.ConnectResponse{}); err != nil || sent != i+1 {
				t.Fatalf("after %v: %d sent, %v", idle, sent, err)
			}
		}
		time.Sleep(2 * writerRest) //nolint:forbidigo // the bubble's clock
		synctest.Wait()
		if w.current.Load() != nil {
			t.Error("the goroutine of an idle writer has not ended")
		}
	})
}

func TestAWriterGivesUpOnAClientThatTakesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		w := newWriter(func(*axpchatv1.ConnectResponse) error { <-stuck; return nil }, time.Second)
		for range 2 {
			if err := w.Send(t.Context(), &axpchatv1.ConnectResponse{}); !errors.Is(err, stream.ErrStalled) {
				t.Errorf("error %v", err)
			}
		}
		w.close()
		close(stuck) // gRPC ends it when the handler has returned; the bubble waits for the goroutine
	})
}
