package natsrights

import (
	"context"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
)

// TestOnlyItsKeyOpensWhatIsStored starts a server on the same disk again: with the
// key everything is there, also what consumers have done, and with another nothing.
func TestOnlyItsKeyOpensWhatIsStored(t *testing.T) {
	ca, dir := tlsxtest.NewAuthority(t), t.TempDir()
	for i, tt := range []struct {
		name, key string
		opens     bool
	}{
		{"an empty disk", "k-one", true},
		{"the same key", "k-one", true},
		{"another key", "k-two", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c := start(t, ca, func(o *server.Options) { o.StoreDir, o.JetStreamKey = dir, tt.key })
			defer func() { // before the next one starts
				c.server.Shutdown()
				c.server.WaitForShutdown()
			}()
			w, err := c.join(ctx, t, "")
			if (err == nil) != tt.opens {
				t.Fatalf("opens: %v", err)
			}
			if !tt.opens {
				return
			}
			defer w.close()
			events, _, err := w.orchestrator.ReadEvents(ctx, account, "s", 0, 10)
			if err != nil || len(events) != i {
				t.Errorf("%d events, %v, want %d", len(events), err, i)
			}
			if err := publish(ctx, w.ingest, "s"); err != nil {
				t.Fatal(err)
			}
			if err := work(ctx, w, bus.EventsStream, bus.ProjectorConsumer); err != nil {
				t.Fatal(err)
			}
			p, err := w.orchestrator.JS.Consumer(ctx, bus.EventsStream, bus.ProjectorConsumer)
			if err != nil {
				t.Fatal(err)
			}
			if at := p.CachedInfo().AckFloor.Stream; at != uint64(i+1) {
				t.Errorf("projected up to %d, want %d", at, i+1)
			}
		})
	}
}
