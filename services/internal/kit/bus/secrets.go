package bus

import (
	"fmt"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
)

// SecretsKey is the key of the one SecretAgreement in the bucket INDEX.
const SecretsKey = "secret.agreement"

// ReportSecrets tells all replicas which secrets one of them has. Whoever does not
// listen at the moment misses it.
func (b *Bus) ReportSecrets(r *busv1.SecretReport) error {
	if !ValidToken(r.GetReplica()) {
		return ErrInvalidToken
	}
	data, err := proto.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode a report of secrets: %w", err)
	}
	if err := b.NC.Publish(secretPrefix+r.GetReplica(), data); err != nil {
		return fmt.Errorf("report secrets: %w", err)
	}
	return nil
}

// SubscribeSecrets calls f with every report, this replica's own among them,
// until the returned function is called. f is called on NATS's goroutine and must
// not block.
func (b *Bus) SubscribeSecrets(f func(*busv1.SecretReport)) (stop func(), err error) {
	sub, err := b.Subscribe(secretPrefix+"*", func(m *nats.Msg) {
		r := &busv1.SecretReport{}
		if proto.Unmarshal(m.Data, r) == nil { // else it is nobody's of ours
			f(r)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to reports of secrets: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // it fails only when the connection is gone
}
