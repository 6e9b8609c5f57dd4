package outbox

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
)

// halves holds the messages of every second session back.
type halves struct {
	up   *upstream
	held *gated
}

func (h *halves) Work(ctx context.Context, it *Item) error {
	if strings.ContainsAny(it.Entry.GetSessionId(), "1357") {
		return h.held.Work(ctx, it)
	}
	return h.up.Work(ctx, it)
}

// TestNothingIsForgottenWhenLeadersChange: in a cluster, partitions start over
// in the middle of deliveries while some sessions are held and others go on; then
// the consumers and the stream get new leaders. What is held must still be there.
// A work queue that is reset to the consumer's floor of acknowledgements drops a
// part of it.
func TestNothingIsForgottenWhenLeadersChange(t *testing.T) {
	urls, up := bustest.Cluster(t), newUpstream()
	feeder := bustest.ConnectCluster(t, urls[0], bustest.Config())
	h := &halves{up: up, held: newGated(up)}
	for _, url := range urls[1:] {
		startOn(t, bustest.ConnectCluster(t, url, bustest.Config()), h)
	}
	want, n := map[string][]string{}, 0
	for round := range 2 {
		h.held.shut()
		const sessions, each = 8, 60
		var group sync.WaitGroup
		for i := range sessions {
			group.Go(func() {
				for j := range each {
					if i == 0 && j == each/4 {
						group.Go(func() { unpin(t, feeder) })
					}
					put(t, feeder, fmt.Sprintf("session-%d", i), fmt.Sprintf("%d-%d-%d", round, i, j))
				}
			})
		}
		group.Wait()
		for i := range sessions {
			for j := range each {
				session := fmt.Sprintf("session-%d", i)
				want[session] = append(want[session], fmt.Sprintf("%d-%d-%d", round, i, j))
			}
		}
		n += sessions * each
		await.Until(t, "the others arrive", func() bool { return up.count() == n-sessions*each/2 })
		elect(t, feeder)
		h.held.open()
		await.Until(t, "all messages arrive", func() bool { return up.count() == n && stored(t, feeder) == 0 })
	}
	up.check(t, want)
}

// unpin takes the pins of all partitions away.
func unpin(t *testing.T, b *bus.Bus) {
	t.Helper()
	stream, err := b.JS.Stream(t.Context(), bus.OutboxStream)
	if err != nil {
		t.Error(err)
		return
	}
	for i := range b.Config().Partitions {
		_ = stream.UnpinConsumer(t.Context(), bus.OutboxConsumer(i), bus.OutboxGroup) // nobody may be pinned
	}
}

// elect makes the consumers of the outbox, and the outbox, change their leaders.
func elect(t *testing.T, b *bus.Bus) {
	t.Helper()
	subjects := []string{"$JS.API.STREAM.LEADER.STEPDOWN." + bus.OutboxStream}
	for i := range b.Config().Partitions {
		subjects = append(subjects, "$JS.API.CONSUMER.LEADER.STEPDOWN."+bus.OutboxStream+"."+bus.OutboxConsumer(i))
	}
	for _, subject := range subjects {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := b.NC.RequestWithContext(ctx, subject, nil)
		cancel()
		if err != nil {
			t.Error(err)
		}
	}
}
