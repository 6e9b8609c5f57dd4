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
		_ = stream.UnpinConsumer(t.Context(), bus.OutboxConsumer(i, b.Config().Partitions), bus.OutboxGroup) // nobody may be pinned
	}
}

// elect makes the consumers of the outbox, and the outbox, change their leaders.
func elect(t *testing.T, b *bus.Bus) {
	t.Helper()
	subjects := []string{"$JS.API.STREAM.LEADER.STEPDOWN." + bus.OutboxStream}
	for i := range b.Config().Partitions {
		subjects = append(subjects, "$JS.API.CONSUMER.LEADER.STEPDOWN."+bus.OutboxStream+"."+bus.OutboxConsumer(i, b.Config().Partitions))
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

// slow is an AXP whose calls take their time, whatever ends meanwhile. As the
// Sender does it gives calls of an earlier owner time to end.
type slow struct{ up *upstream }

func (s *slow) Work(ctx context.Context, it *Item) error {
	id, session := it.Entry.GetMessage().GetMessageId(), it.Entry.GetSessionId()
	if it.tenure.Suspect(it.delivery) {
		if it.delivery.inherited {
			if err := it.pause(ctx, time.Second-time.Since(it.tenure.since), nil); err != nil {
				return err
			}
		}
		if s.up.has(id) {
			return nil
		}
		it.tenure.Clear(it.delivery)
	}
	if it.tenure.Over() {
		return errStopping
	}
	<-time.After(600 * time.Millisecond)
	s.up.mu.Lock()
	defer s.up.mu.Unlock()
	s.up.calls[id]++
	s.up.order[session] = append(s.up.order[session], id)
	return nil
}

// TestANewLeaderKnowsOfNoPins: soon after a partition was seen empty and without
// an owner it gets one, and then the consumer another leader, who pins another
// replica. What the first one has under way is given time.
func TestANewLeaderKnowsOfNoPins(t *testing.T) {
	urls, up := bustest.Cluster(t), newUpstream()
	feeder := bustest.ConnectCluster(t, urls[0], bustest.Config())
	for _, url := range urls[1:] {
		startOn(t, bustest.ConnectCluster(t, url, bustest.Config()), &slow{up})
	}
	want := publish(t, feeder, 80, 240, "m")
	await.Until(t, "some arrive", func() bool { return up.count() > 0 })
	for i := range feeder.Config().Partitions {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err := feeder.NC.RequestWithContext(ctx, "$JS.API.CONSUMER.LEADER.STEPDOWN."+bus.OutboxStream+"."+bus.OutboxConsumer(i, feeder.Config().Partitions), nil)
		cancel()
		if err != nil {
			t.Logf("partition %d keeps its leader: %v", i, err)
		}
	}
	await.Until(t, "all messages arrive", func() bool { return up.count() == 240 && stored(t, feeder) == 0 })
	up.check(t, want)
}
