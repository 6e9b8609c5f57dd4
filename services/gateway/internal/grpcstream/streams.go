package grpcstream

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/limits"
	"github.com/axpchat/connector/services/gateway/internal/stream"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// Connect implements ChatServiceServer. What it keeps on its stack counts for
// every idle client, so it keeps little.
func (s *Service) Connect(ss grpc.BidiStreamingServer[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse]) error {
	r, w, err := s.connecting(ss)
	if err != nil {
		return err
	}
	defer w.close()
	return s.accept(ss, r, w)
}

func (s *Service) connecting(ss grpc.BidiStreamingServer[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse]) (*stream.Request, *writer, error) {
	p, err := principal(ss.Context())
	if err != nil {
		return nil, nil, err
	}
	return &stream.Request{Transport: "grpc_connect", Principal: p, Origin: limits.OriginOf(ss.Context())}, newWriter(s.p.Streams.Careful(ss.Context(), ss.Send), s.p.Streams.Config().WriteTimeout), nil
}

func (s *Service) accept(ss grpc.BidiStreamingServer[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse], r *stream.Request, w *writer) error {
	end := s.p.Streams.Accept(ss.Context(), r, w, receiver{ss})
	return end.Err()
}

// WatchEvents implements ChatServiceServer.
func (s *Service) WatchEvents(req *axpchatv1.WatchEventsRequest, ss grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
	st, w, err := s.watching(req, ss)
	if err != nil {
		return err
	}
	defer w.close()
	end := st.Serve(ss.Context(), w)
	return end.Err()
}

// watching opens a one-way stream.
func (s *Service) watching(req *axpchatv1.WatchEventsRequest, ss grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) (st *stream.Stream, w *writer, err error) {
	ctx := ss.Context()
	err = s.p.Streams.Aside(ctx, func() error {
		p, err := principal(ctx)
		if err != nil {
			return err
		}
		st, err = s.p.Streams.Open(ctx, stream.Request{
			Transport: "grpc_watch", Principal: p, Session: req.GetSessionId(), Cursor: req.GetCursor(),
			Origin: limits.OriginOf(ctx),
		})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	w = newWriter(s.p.Streams.Careful(ctx, func(f *axpchatv1.ConnectResponse) error {
		return ss.Send(&axpchatv1.WatchEventsResponse{Frame: f})
	}), s.p.Streams.Config().WriteTimeout)
	return st, w, nil
}

// receiver reads frames of Connect.
type receiver struct {
	ss grpc.BidiStreamingServer[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse]
}

// Receive implements stream.Receiver. gRPC ends it when the handler returns.
func (r receiver) Receive(context.Context) (*axpchatv1.ConnectRequest, error) {
	f, err := r.ss.Recv()
	if errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT) { // one that can't be decoded; others are checked later
		err = errs.New(axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID, "the frame is not a ConnectRequest in protobuf")
	}
	return f, err
}

// writer sends frames with a limit of time. gRPC itself has none: a client that
// reads nothing would hold the handler for as long as it keeps its connection.
type writer struct {
	send    func(*axpchatv1.ConnectResponse) error
	timeout time.Duration
	current atomic.Pointer[mouth] // nil: nothing was sent lately
	stalled bool
}

// mouth is a goroutine that sends.
type mouth struct {
	in     chan *axpchatv1.ConnectResponse
	out    chan error
	rested chan struct{} // closed when it ends
	timer  *time.Timer
}

// writerRest is how long the goroutine that sends waits for the next frame. An
// idle client must not hold on to its stack.
const writerRest = time.Second

// newWriter returns a writer that must be closed. A goroutine that is stuck in
// send ends when the handler has returned.
func newWriter(send func(*axpchatv1.ConnectResponse) error, timeout time.Duration) *writer {
	return &writer{send: send, timeout: timeout}
}

// run sends what it is handed until the writer is closed or nothing comes. Nothing
// of it is left then.
func (w *writer) run(m *mouth) {
	defer close(m.rested)
	defer w.current.CompareAndSwap(m, nil)
	rest := time.NewTimer(writerRest)
	defer rest.Stop()
	for {
		select {
		case f, open := <-m.in:
			if !open {
				return
			}
			m.out <- w.send(f)
			rest.Reset(writerRest)
		case <-rest.C:
			return
		}
	}
}

// hand gives a frame to the goroutine that sends, a new one where none waits.
func (w *writer) hand(f *axpchatv1.ConnectResponse) *mouth {
	for {
		m := w.current.Load()
		if m == nil {
			m = &mouth{
				in: make(chan *axpchatv1.ConnectResponse), out: make(chan error, 1), rested: make(chan struct{}),
				timer: time.NewTimer(w.timeout),
			}
			w.current.Store(m)
			go w.run(m)
		}
		select {
		case m.in <- f:
			return m
		case <-m.rested:
		}
	}
}

// Send implements stream.Sender.
func (w *writer) Send(ctx context.Context, f *axpchatv1.ConnectResponse) error {
	if w.stalled {
		return stream.ErrStalled
	}
	m := w.hand(f)
	m.timer.Reset(w.timeout)
	defer m.timer.Stop()
	select {
	case err := <-m.out:
		return err
	case <-m.timer.C:
		w.stalled = true
		return stream.ErrStalled
	case <-ctx.Done():
		// The stream's own end makes send return as well.
		w.stalled = true
		return ctx.Err()
	}
}

func (w *writer) close() {
	if m := w.current.Load(); m != nil {
		close(m.in)
	}
}
