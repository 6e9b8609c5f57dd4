package grpcx_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
)

// held is a stream that ends when its context does or the server drains.
func held(server func() *grpcx.Server, entered chan<- struct{}) *chat {
	return &chat{watch: func(_ *axpchatv1.WatchEventsRequest, s grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
		told := make(chan struct{})
		release := server().OnDrain(func() { close(told) })
		defer release()
		entered <- struct{}{}
		select {
		case <-told:
			return s.Send(&axpchatv1.WatchEventsResponse{})
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}}
}

func TestDrainTellsStreamsAndWaitsForThem(t *testing.T) {
	var f *fixture
	entered := make(chan struct{}, 2)
	f = start(t, held(func() *grpcx.Server { return f.server }, entered), nil)
	ctx := patient(t)
	stream, err := f.client.WatchEvents(ctx, &axpchatv1.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	// One that has ended before must not be called any more.
	ended, leave := context.WithCancel(ctx)
	other, err := f.client.WatchEvents(ended, &axpchatv1.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	leave()
	if _, err := other.Recv(); status.Code(err) != codes.Canceled {
		t.Fatal(err)
	}
	drained := make(chan error, 1)
	go func() { drained <- f.component.Drain(ctx) }()
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("the stream's last message: %v", err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("the stream's end: %v", err)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	called := false
	f.server.OnDrain(func() { called = true })()
	if !called {
		t.Error("who comes too late must be told at once")
	}
	_, err = f.client.SendMessage(ctx, message())
	if !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE) {
		t.Errorf("a call after the drain: %v", err)
	}
}

func TestDrainCutsOffWhatDoesNotEnd(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	f := start(t, &chat{watch: func(_ *axpchatv1.WatchEventsRequest, s grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
		defer close(left)
		close(entered)
		<-s.Context().Done()
		return s.Context().Err()
	}}, nil)
	stream, err := f.client.WatchEvents(patient(t), &axpchatv1.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	ctx, cancel := context.WithTimeout(patient(t), 50*time.Millisecond)
	defer cancel()
	if err := f.component.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	<-left
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestHealthTellsOfTheDrainAndItsWatchesEnd(t *testing.T) {
	f := start(t, &chat{}, nil)
	ctx := patient(t)
	health := healthpb.NewHealthClient(f.conn)
	got, err := health.Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("got %v, %v", got, err)
	}
	watch, err := health.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err = watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("got %v, %v", got, err)
	}
	if err := f.component.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	// Whether the last state comes through before the end is left to chance.
	for err == nil {
		if got, err = watch.Recv(); err == nil && got.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("got %v", got)
		}
	}
	if !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE) {
		t.Errorf("got %v", err)
	}
}

// TestWatchesOfHealthAreBounded: nobody needs a token for them, and each lasts as long
// as its caller likes.
func TestWatchesOfHealthAreBounded(t *testing.T) {
	f := start(t, &chat{}, func(p *grpcx.ServerParams) { p.Config.MaxConcurrentStreams = 2000 })
	health := healthpb.NewHealthClient(f.conn)
	watch := func(ctx context.Context) error {
		s, err := health.Watch(ctx, &healthpb.HealthCheckRequest{})
		if err != nil {
			return err
		}
		_, err = s.Recv()
		return err
	}
	ctx, leave := context.WithCancel(patient(t))
	for n := range 1000 {
		if err := watch(ctx); err != nil {
			t.Fatalf("watch %d: %v", n, err)
		}
	}
	if err := watch(patient(t)); !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := health.Check(patient(t), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("a probe beside them: %v", err)
	}
	leave()
	for err := watch(patient(t)); err != nil; err = watch(patient(t)) { // they end one by one
		if !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_RATE_LIMITED) {
			t.Fatal(err)
		}
	}
}

func TestReflectionAndHealthAreOptional(t *testing.T) {
	list := func(t *testing.T, f *fixture) error {
		t.Helper()
		s, err := reflectpb.NewServerReflectionClient(f.conn).ServerReflectionInfo(patient(t))
		if err != nil {
			return err
		}
		err = s.Send(&reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{}})
		if err != nil && !errors.Is(err, io.EOF) { // it has ended already; Recv tells why
			return err
		}
		if err := s.CloseSend(); err != nil {
			return err
		}
		_, err = s.Recv()
		return err
	}
	if err := list(t, start(t, &chat{}, nil)); err != nil {
		t.Errorf("with reflection: %v", err)
	}
	f := start(t, &chat{}, func(p *grpcx.ServerParams) { p.Health, p.Reflection = false, false })
	if err := list(t, f); status.Code(err) != codes.Unimplemented {
		t.Errorf("without reflection: %v", err)
	}
	if _, err := healthpb.NewHealthClient(f.conn).Check(patient(t), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("without health: %v", err)
	}
}

func TestOneServerOnSeveralListeners(t *testing.T) {
	log := (&logtest.Records{}).Logger()
	s, err := grpcx.NewServer(grpcx.ServerParams{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	axpchatv1.RegisterChatServiceServer(s, &chat{send: ok})
	one, two := bufconn.Listen(1<<16), bufconn.Listen(1<<16)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- lifecycle.Run(ctx, log, patience, grpcx.NewServerComponent("one", one, s), grpcx.NewServerComponent("two", two, s))
	}()
	for _, lis := range []*bufconn.Listener{one, two} {
		if _, err := axpchatv1.NewChatServiceClient(dial(t, lis, nil)).SendMessage(patient(t), message(), grpc.WaitForReady(true)); err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRunReportsABrokenListener(t *testing.T) {
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := grpcx.NewServer(grpcx.ServerParams{Log: (&logtest.Records{}).Logger()})
	if err != nil {
		t.Fatal(err)
	}
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	c := grpcx.NewServerComponent("broken", lis, s)
	if err := c.Run(patient(t)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if c.Name() != "broken" || c.Ready(t.Context()) != nil {
		t.Error("name or readiness is wrong")
	}
}

func TestADeadPeerIsUnavailableAndComesBack(t *testing.T) {
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := grpcx.Dial(addr, grpcx.ClientConfig{}, logx.Discard(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := axpchatv1.NewChatServiceClient(conn)
	ctx := patient(t)
	_, err = client.SendMessage(ctx, message())
	if got := errs.From(err); got.Reason != axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE || got.Detail != "" {
		t.Errorf("got %v", got)
	}
	if lis, err = (&net.ListenConfig{}).Listen(ctx, "tcp", addr); err != nil {
		t.Skipf("the port is gone: %v", err)
	}
	s, err := grpcx.NewServer(grpcx.ServerParams{Log: (&logtest.Records{}).Logger()})
	if err != nil {
		t.Fatal(err)
	}
	axpchatv1.RegisterChatServiceServer(s, &chat{send: ok})
	runCtx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- grpcx.NewServerComponent("back", lis, s).Run(runCtx) }()
	if _, err := client.SendMessage(ctx, message(), grpc.WaitForReady(true)); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
