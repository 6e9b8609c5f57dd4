package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

const connecting = 16 // at a time

// token lets the customer in who owns all sessions.
func token() (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": subject, "account": account, "name": "Ines Duarte", "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString([]byte(suitetest.TokenSecret))
}

// authorised is ctx with the side's token for gRPC.
func (s *side) authorised(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.token)
}

// dial makes a connection to the gateway. Its buffers are small: thousands live
// in this process.
func (s *side) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+s.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10))
}

// fleet is a client of each session, connected all the while.
type fleet struct {
	current atomic.Pointer[round]
	cancel  context.CancelFunc
	conns   []*grpc.ClientConn
	readers sync.WaitGroup

	mu    sync.Mutex
	ended error // of the first stream that ended
}

// newFleet connects all sessions; it returns when each has its welcome.
func newFleet(ctx context.Context, s *side, o Options, calls *callbacks) (f *fleet, err error) {
	f = &fleet{}
	f.current.Store(newRound(0, 0))
	ctx, f.cancel = context.WithCancel(s.authorised(ctx))
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	for range o.Conns {
		conn, err := s.dial()
		if err != nil {
			return nil, err
		}
		f.conns = append(f.conns, conn)
	}
	var group errgroup.Group
	group.SetLimit(connecting)
	for i := range o.Sessions {
		group.Go(func() error {
			w := &watcher{session: i, sessions: o.Sessions, calls: calls}
			if err := f.watch(ctx, f.conns[i%o.Conns], w); err != nil {
				return fmt.Errorf("%s: connect session %d: %w", s.name, i, err)
			}
			return nil
		})
	}
	return f, group.Wait()
}

// watch begins a session's stream and reads it until the fleet is closed.
func (f *fleet) watch(ctx context.Context, conn *grpc.ClientConn, w *watcher) error {
	stream, err := axpchatv1.NewChatServiceClient(conn).WatchEvents(ctx, &axpchatv1.WatchEventsRequest{SessionId: sessionID(w.session)})
	if err != nil {
		return err
	}
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	if m.GetFrame().GetWelcome() == nil {
		return errors.New("the first frame is not welcome")
	}
	f.readers.Go(func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				if ctx.Err() == nil {
					f.end(fmt.Errorf("stream of session %d: %w", w.session, err))
				}
				return
			}
			w.frame(f.current.Load(), m.GetFrame(), time.Now())
		}
	})
	return nil
}

func (f *fleet) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended == nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("a stream was closed by the gateway")
		}
		f.ended = err
	}
}

// whole is nil while no stream has ended.
func (f *fleet) whole() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

func (f *fleet) close() {
	f.cancel()
	for _, c := range f.conns {
		_ = c.Close() // nothing is under way
	}
	f.readers.Wait()
}
