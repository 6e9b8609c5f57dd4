package bus

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// presenceTimeout is how long gateways are given to say that a client is there.
// Those that serve nobody of the session keep silent.
const presenceTimeout = time.Second

// AnswerPresence answers Present for the sessions that here knows, until the
// returned function is called. here is called on NATS's goroutine and must not
// block.
func (b *Bus) AnswerPresence(here func(SessionKey) bool) (stop func(), err error) {
	sub, err := b.Subscribe(presencePrefix+"*.*", func(m *nats.Msg) {
		account, session, _ := strings.Cut(strings.TrimPrefix(m.Subject, presencePrefix), ".")
		if here(SessionKey{account, session}) {
			_ = m.Respond(nil) // who asked asks again some time
		}
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = sub.Unsubscribe() }, nil // it fails only when the connection is gone
}

// Present tells whether a client follows the session by a stream or by polling.
// It takes a second where none does. No is a good guess, not a certainty: a
// gateway may be too slow to answer, and a client between two pods.
func (b *Bus) Present(ctx context.Context, account, session string) (bool, error) {
	if !ValidToken(account) || !ValidToken(session) {
		return false, ErrInvalidToken
	}
	askCtx, cancel := context.WithTimeout(ctx, presenceTimeout)
	defer cancel()
	_, err := b.NC.RequestWithContext(askCtx, presencePrefix+account+"."+session, nil)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, nats.ErrNoResponders), ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return false, nil
	default:
		return false, err
	}
}
