package grpcx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

const arrival = 500 * time.Millisecond

// trickle makes a call, says a message byte by byte, after which nothing says that it
// was all, and returns the status that the server answers with meanwhile.
func trickle(ctx context.Context, lis *bufconn.Listener, method string, message []byte) (grpcStatus string, err error) {
	conn, err := lis.DialContext(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	var mu sync.Mutex // the framer writes from two goroutines
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	write := func(f func() error) error {
		mu.Lock()
		defer mu.Unlock()
		return f()
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return "", err
	}
	err = write(func() error {
		return errors.Join(framer.WriteSettings(), framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: head(method)}))
	})
	if err != nil {
		return "", err
	}
	over := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := range message {
			select {
			case <-tick.C:
			case <-over:
				return
			}
			if write(func() error { return framer.WriteData(1, false, message[i:i+1]) }) != nil {
				return
			}
		}
	})
	defer writer.Wait()
	defer close(over)
	if err := conn.SetReadDeadline(time.Now().Add(10 * arrival)); err != nil {
		return "", err
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "", err
		}
		switch f := frame.(type) {
		case *http2.PingFrame:
			if !f.IsAck() {
				err = write(func() error { return framer.WritePing(true, f.Data) })
			}
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				if h.Name == "grpc-status" {
					return h.Value, nil
				}
			}
		case *http2.RSTStreamFrame:
			return "reset " + f.ErrCode.String(), nil
		}
		if err != nil {
			return "", err
		}
	}
}

func head(method string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into memory
	}
	return b.Bytes()
}

// TestMessagesArriveInTime: a call whose message trickles in ends, and so does one
// whose message is there and of which nothing says that it was all.
func TestMessagesArriveInTime(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	providers := telemetry.Nop()
	providers.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	called := make(chan string, 16)
	var lis *bufconn.Listener
	f := startAt(t, &chat{
		send: func(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
			called <- "send"
			return &axpchatv1.SendMessageResponse{}, nil
		},
		watch: func(*axpchatv1.WatchEventsRequest, grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
			called <- "watch"
			return nil
		},
	}, &lis, func(p *grpcx.ServerParams) { p.Config.MessageTimeout, p.Providers = arrival, providers })
	long := append([]byte{0, 0, 0, 3, 0}, bytes.Repeat([]byte{'a'}, 1000)...)
	for name, c := range map[string]struct {
		method  string
		message []byte
	}{
		"a call":                       {axpchatv1.ChatService_SendMessage_FullMethodName, long},
		"a call without any message":   {axpchatv1.ChatService_SendMessage_FullMethodName, nil},
		"a call that does not end":     {axpchatv1.ChatService_SendMessage_FullMethodName, []byte{0, 0, 0, 0, 0}},
		"a stream":                     {axpchatv1.ChatService_WatchEvents_FullMethodName, long},
		"a stream that does not begin": {axpchatv1.ChatService_WatchEvents_FullMethodName, []byte{0, 0, 0, 0, 0}},
		"a probe of health":            {"/grpc.health.v1.Health/Check", long},
		"a stream of health":           {"/grpc.health.v1.Health/Watch", nil},
	} {
		began := time.Now()
		got, err := trickle(patient(t), lis, c.method, c.message)
		if err != nil || got != "4" { // DEADLINE_EXCEEDED
			t.Errorf("%s: status %q, %v", name, got, err)
		}
		if took := time.Since(began); took < arrival/2 {
			t.Errorf("%s was ended after %s", name, took)
		}
	}
	f.stop()
	if len(called) > 0 {
		t.Errorf("a handler was called: %s", <-called)
	}
	var m metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &m); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(m); !strings.Contains(text, "DEADLINE_EXCEEDED") {
		t.Errorf("not counted: %s", text)
	}
}

// TestWhatHasArrivedMayTakeItsTime: the limit is for the message alone, and streams
// whose clients speak now and then have none.
func TestWhatHasArrivedMayTakeItsTime(t *testing.T) {
	slow := func(ctx context.Context) error {
		select {
		case <-time.After(3 * arrival):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f := start(t, &chat{
		send: func(ctx context.Context, _ *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
			return &axpchatv1.SendMessageResponse{}, slow(ctx)
		},
		watch: func(_ *axpchatv1.WatchEventsRequest, s grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
			return errors.Join(slow(s.Context()), s.Send(&axpchatv1.WatchEventsResponse{}))
		},
		connect: func(s grpc.BidiStreamingServer[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse]) error {
			_, err := s.Recv()
			return errors.Join(err, s.Send(&axpchatv1.ConnectResponse{}))
		},
	}, func(p *grpcx.ServerParams) { p.Config.MessageTimeout = arrival })
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := f.client.SendMessage(patient(t), message()); err != nil {
			t.Errorf("a call: %v", err)
		}
	})
	group.Go(func() {
		s, err := f.client.WatchEvents(patient(t), &axpchatv1.WatchEventsRequest{SessionId: "s"})
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			t.Errorf("a stream: %v", err)
		}
	})
	group.Go(func() {
		s, err := f.client.Connect(patient(t))
		if err == nil {
			err = errors.Join(slow(t.Context()), s.Send(&axpchatv1.ConnectRequest{}))
		}
		if err == nil {
			_, err = s.Recv()
		}
		if err != nil {
			t.Errorf("a stream both ways: %v", err)
		}
	})
	group.Wait()
}
