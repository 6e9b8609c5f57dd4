package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/unshown"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

// ErrUnencodable is returned by a Sender that can't encode a frame. Nothing of the
// frame was sent.
var ErrUnencodable = errors.New("stream: the frame can't be encoded")

// Encode is encode, of a transport, whose failures and panics are [ErrUnencodable].
func (s *Server) Encode(ctx context.Context, encode func(proto.Message) ([]byte, error), f *axpchatv1.ConnectResponse) (data []byte, err error) {
	broken := s.panics.Do(ctx, "encode", func() error {
		data, err = encode(f)
		return nil
	}, "request_id", grpcx.RequestID(ctx))
	if err = errors.Join(broken, err); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnencodable, err)
	}
	return data, nil
}

// show sends an event. One that can't be sent for a fault of ours is tried again:
// here, where nothing of it has gone out, else by the client's next stream. Then the
// client is told of it instead, and goes on.
func (st *Stream) show(ctx context.Context, ev *axpchatv1.Event) (End, bool) {
	it := suspect{session: st.key(), sequence: ev.GetSequence(), transport: st.r.Transport}
	for !st.server.suspects.given(it) {
		err := st.try(ctx, it, ev)
		if !errors.Is(err, ErrUnencodable) && !errors.Is(err, panics.Err) {
			return st.judge(err)
		}
		st.server.suspects.note(it)
		if ctx.Err() != nil {
			return st.gone()
		}
	}
	return st.send(ctx, eventFrame(st.server.unshown.Instead(ctx, st.r.Transport, ev)))
}

// try sends an event once. A panic goes on to end the stream, for nobody knows how
// much of the event has gone out.
func (st *Stream) try(ctx context.Context, it suspect, ev *axpchatv1.Event) error {
	sent := false
	defer func() {
		if !sent {
			st.server.suspects.note(it)
		}
	}()
	err := st.out.Send(ctx, eventFrame(ev))
	sent = true
	return err
}

// suspect is an event that could not be sent, over a transport.
type suspect struct {
	session   bus.SessionKey
	sequence  uint64
	transport string
}

// mostSuspects bounds what is remembered; the oldest goes first, and is tried anew.
const mostSuspects = 1024

// suspects counts failures by event, across the streams of a pod: a client that
// comes back must not fail at the same event for ever. It is safe for concurrent use.
type suspects struct {
	mu     sync.Mutex
	failed map[suspect]int
	order  []suspect
}

// given tells whether it has been given up. It is asked for every event, and mostly
// there is none.
func (s *suspects) given(it suspect) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.failed) > 0 && s.failed[it] >= unshown.Tries
}

func (s *suspects) note(it suspect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = map[suspect]int{}
	}
	if s.failed[it] == 0 {
		if len(s.order) == mostSuspects {
			delete(s.failed, s.order[0])
			s.order = s.order[1:]
		}
		s.order = append(s.order, it)
	}
	s.failed[it]++
}
