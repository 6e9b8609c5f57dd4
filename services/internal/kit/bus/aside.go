package bus

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
)

// asideMost bounds the stream ASIDE, of which the oldest goes first. Each entry of it
// is a defect; there are few. A bound in bytes would be reserved on every disk.
const asideMost = 4096

// AsideOf matches what was set aside of a session.
func AsideOf(account, session string) string { return asidePrefix + "*." + account + "." + session }

// SubjectOwner reads whose a message of the streams EVENTS, OUTBOX, TIMERS and ASIDE
// is: the last two tokens say it.
func SubjectOwner(subject string) (SessionKey, bool) {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 3 {
		return SessionKey{}, false
	}
	key := SessionKey{Account: tokens[len(tokens)-2], Session: tokens[len(tokens)-1]}
	return key, ValidToken(key.Account) && ValidToken(key.Session)
}

// SetAside keeps a message of a stream, as it is, for an operator: nobody can work it,
// and who has it takes it out of the way when this has returned. It is safe to repeat.
// It fails with ErrErased where the session was erased.
func (b *Bus) SetAside(ctx context.Context, stream string, m jetstream.Msg, cause string) error {
	key, ok := SubjectOwner(m.Subject())
	if !ok {
		return ErrInvalidToken
	}
	if b.WasErased(key.Account, key.Session) {
		return ErrErased
	}
	at, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	data, err := proto.Marshal(&busv1.AsideRecord{
		Subject: m.Subject(), Sequence: at.Sequence.Stream, StoreTime: timestamppb.New(at.Timestamp), Data: m.Data(), Cause: cause,
		Version: lifecycle.Version(), AsideTime: timestamppb.Now(),
	})
	if err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	msg := nats.NewMsg(asidePrefix + stream + "." + key.Account + "." + key.Session)
	msg.Data = data
	_, err = b.publish(ctx, msg, stream+"."+strconv.FormatUint(at.Sequence.Stream, 10))
	return err
}

// NextAside reads the first entry of the stream ASIDE at or after a sequence, and its
// sequence; found is false where there is none. It is for operators.
func (b *Bus) NextAside(ctx context.Context, from uint64) (rec *busv1.AsideRecord, sequence uint64, found bool, err error) {
	rec = &busv1.AsideRecord{}
	sequence, found, err = b.nextSetAside(ctx, AsideStream, asidePrefix+">", from, rec)
	return rec, sequence, found, err
}

// CountAside is how many entries wait for an operator.
func (b *Bus) CountAside(ctx context.Context) (uint64, error) {
	s, err := b.JS.Stream(ctx, AsideStream)
	if err != nil {
		return 0, fmt.Errorf("look at the stream %s: %w", AsideStream, err)
	}
	return s.CachedInfo().State.Msgs, nil
}
