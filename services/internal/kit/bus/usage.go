package bus

import (
	"fmt"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

// TellUsage tells the other gateways what was taken of accounts' limits. It is
// kept nowhere, and may get lost.
func (b *Bus) TellUsage(r *busv1.UsageReport) error {
	if !ValidToken(r.GetPod()) {
		return ErrInvalidToken
	}
	data, err := proto.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode a report: %w", err)
	}
	return b.NC.Publish(usagePrefix+r.GetPod(), data)
}

// HearUsage calls f, on NATS's goroutine, with every report that a gateway tells,
// this one's own too, until the returned function is called. What is no report is
// passed over.
func (b *Bus) HearUsage(f func(*busv1.UsageReport)) (stop func(), err error) {
	sub, err := b.Subscribe(usagePrefix+"*", func(m *nats.Msg) {
		r := &busv1.UsageReport{}
		if proto.Unmarshal(m.Data, r) == nil {
			f(r)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("hear of usage: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // it fails only when the connection is gone
}
