package grpcx_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
)

func ok(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
	return &axpchatv1.SendMessageResponse{}, nil
}

func TestNewServerRefusesAnUnsoundChain(t *testing.T) {
	unary := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		return next(ctx, req)
	}
	stream := func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		return next(srv, s)
	}
	enter := func(ctx context.Context, _ string) (context.Context, error) { return ctx, nil }
	cases := []struct {
		name  string
		extra []grpcx.Interceptor
		want  string
	}{
		{"a link without streams", []grpcx.Interceptor{{Name: "auth", Unary: unary}}, "interceptor auth must be for calls and for streams"},
		{"a link without calls", []grpcx.Interceptor{{Name: "auth", Stream: stream}}, "interceptor auth must be for calls and for streams"},
		{"a link around streams and at their beginning", []grpcx.Interceptor{{Name: "auth", Unary: unary, Stream: stream, Enter: enter}}, "interceptor auth must come before those that are around streams"},
		{"a link at the beginning behind one around streams", []grpcx.Interceptor{{Name: "auth", Unary: unary, Stream: stream}, {Name: "door", Unary: unary, Enter: enter}}, "interceptor door must come before those that are around streams"},
		{"a link without a name", []grpcx.Interceptor{{Unary: unary, Stream: stream}}, "interceptor 4 has no name"},
		{"a link twice", []grpcx.Interceptor{{Name: "auth", Unary: unary, Stream: stream}, {Name: "auth", Unary: unary, Stream: stream}}, "interceptor auth comes twice"},
		{"a name of the kit", []grpcx.Interceptor{{Name: grpcx.NameErrors, Unary: unary, Stream: stream}}, "interceptor errors comes twice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := grpcx.NewServer(grpcx.ServerParams{Log: (&logtest.Records{}).Logger(), Interceptors: c.extra})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestOwnLinksComeInOrderForCallsAndStreams also shows where they are: errors of
// theirs are mapped, the request id is known, and messages are not yet checked.
func TestOwnLinksComeInOrderForCallsAndStreams(t *testing.T) {
	var order []string
	link := func(name string) grpcx.Interceptor {
		return grpcx.Interceptor{
			Name: name,
			Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				order = append(order, name+" "+grpcx.RequestID(ctx))
				return next(ctx, req)
			},
			Stream: func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				order = append(order, name+" "+grpcx.RequestID(s.Context()))
				return next(srv, grpcx.WithContext(s.Context(), s))
			},
		}
	}
	entering := func(name string) grpcx.Interceptor {
		l := link(name)
		l.Stream, l.Enter = nil, func(ctx context.Context, method string) (context.Context, error) {
			order = append(order, name+" "+grpcx.RequestID(ctx)+" "+method)
			return context.WithValue(ctx, nameKey{}, name), nil
		}
		return l
	}
	f := start(t, &chat{send: ok}, func(p *grpcx.ServerParams) {
		p.Interceptors = []grpcx.Interceptor{entering("door"), link("one"), link("two")}
		p.Interceptors[1].Stream = func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			order = append(order, "one "+grpcx.RequestID(s.Context())+" behind "+s.Context().Value(nameKey{}).(string))
			return next(srv, s)
		}
	})
	ctx := grpcx.WithRequestID(patient(t), "id")
	_, unaryErr := f.client.SendMessage(ctx, &axpchatv1.SendMessageRequest{})
	stream, err := f.client.WatchEvents(ctx, &axpchatv1.WatchEventsRequest{SessionId: strings.Repeat("x", 65)})
	if err != nil {
		t.Fatal(err)
	}
	_, streamErr := stream.Recv()
	want := []string{
		"door id", "one id", "two id",
		"door id " + axpchatv1.ChatService_WatchEvents_FullMethodName, "one id behind door", "two id",
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Error(diff)
	}
	for name, err := range map[string]error{"call": unaryErr, "stream": streamErr} {
		if !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT) || len(errs.From(err).Violations) == 0 {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

type nameKey struct{}

func TestWhoMayNotEnterIsToldSo(t *testing.T) {
	refuse := grpcx.Interceptor{
		Name: "door",
		Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(ctx, req)
		},
		Enter: func(context.Context, string) (context.Context, error) {
			return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "not you")
		},
	}
	broken := refuse
	broken.Enter = func(context.Context, string) (context.Context, error) { panic("a fault of ours") }
	for _, c := range []struct {
		name string
		link grpcx.Interceptor
		want axpchatv1.ErrorReason
	}{
		{"refused", refuse, axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED},
		{"a panic", broken, axpchatv1.ErrorReason_ERROR_REASON_INTERNAL},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, &chat{send: ok}, func(p *grpcx.ServerParams) { p.Interceptors = []grpcx.Interceptor{c.link} })
			stream, err := f.client.WatchEvents(patient(t), &axpchatv1.WatchEventsRequest{SessionId: "s"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); !errs.HasReason(err, c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestRequestIDs(t *testing.T) {
	var seen string
	f := start(t, &chat{
		send: func(ctx context.Context, _ *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
			seen = grpcx.RequestID(ctx)
			return &axpchatv1.SendMessageResponse{}, nil
		},
		watch: func(_ *axpchatv1.WatchEventsRequest, s grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
			seen = grpcx.RequestID(s.Context())
			return nil
		},
	}, nil)
	cases := []struct {
		name string
		ctx  func(context.Context) context.Context
		kept string
	}{
		{"of the context", func(ctx context.Context) context.Context { return grpcx.WithRequestID(ctx, "A-z_0.9") }, "A-z_0.9"},
		{"of the metadata wins", func(ctx context.Context) context.Context {
			return metadata.AppendToOutgoingContext(grpcx.WithRequestID(ctx, "ctx"), grpcx.RequestIDKey, "md")
		}, "md"},
		{"missing", func(ctx context.Context) context.Context { return ctx }, ""},
		{"too long", func(ctx context.Context) context.Context { return grpcx.WithRequestID(ctx, strings.Repeat("x", 129)) }, ""},
		{"with a space", func(ctx context.Context) context.Context { return grpcx.WithRequestID(ctx, "a b") }, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx := c.ctx(patient(t))
			var header metadata.MD
			if _, err := f.client.SendMessage(ctx, message(), grpc.Header(&header)); err != nil {
				t.Fatal(err)
			}
			check := func(kind string, header metadata.MD) {
				t.Helper()
				if c.kept != "" && seen != c.kept || c.kept == "" && len(seen) != 36 {
					t.Errorf("%s: got %q", kind, seen)
				}
				if diff := cmp.Diff([]string{seen}, header.Get(grpcx.RequestIDKey)); diff != "" {
					t.Errorf("%s: %s", kind, diff)
				}
			}
			check("call", header)
			stream, err := f.client.WatchEvents(ctx, &axpchatv1.WatchEventsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if header, err = stream.Header(); err != nil {
				t.Fatal(err)
			}
			check("stream", header)
		})
	}
}

func TestErrorsAreMappedAlikeForCallsAndStreams(t *testing.T) {
	cases := []struct {
		name   string
		err    error
		code   codes.Code
		reason axpchatv1.ErrorReason
		logged string
		level  string
	}{
		{"an error of the catalogue", fmt.Errorf("x: %w", errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED, "gone")),
			codes.FailedPrecondition, axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED, "", "INFO"},
		{"a fault", errors.New("secret of the store"), codes.Internal, axpchatv1.ErrorReason_ERROR_REASON_INTERNAL, "secret of the store", "WARN"},
		{"a status of gRPC", status.Error(codes.Unavailable, "secret address"), codes.Unavailable, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "secret address", "WARN"},
		{"a deadline within", context.DeadlineExceeded, codes.DeadlineExceeded, axpchatv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, "", "WARN"},
		{"a cancellation within", context.Canceled, codes.Unavailable, axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "context canceled", "WARN"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, &chat{
				send: func(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
					return nil, c.err
				},
				watch: func(*axpchatv1.WatchEventsRequest, grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
					return c.err
				},
			}, nil)
			ctx := grpcx.WithRequestID(patient(t), "req-1")
			_, unaryErr := f.client.SendMessage(ctx, message())
			stream, err := f.client.WatchEvents(ctx, &axpchatv1.WatchEventsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			_, streamErr := stream.Recv()
			for kind, err := range map[string]error{"call": unaryErr, "stream": streamErr} {
				if status.Code(err) != c.code || !errs.HasReason(err, c.reason) {
					t.Errorf("%s: got %v", kind, err)
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("%s tells a secret: %v", kind, err)
				}
				if !strings.Contains(fmt.Sprint(status.Convert(err).Details()), "req-1") {
					t.Errorf("%s: no request id in %v", kind, status.Convert(err).Details())
				}
			}
			f.stop()
			lines := f.log.Named(t, "rpc")
			if len(lines) != 2 {
				t.Fatalf("got %v", lines)
			}
			for _, l := range lines {
				if l["level"] != c.level || l["code"] != c.code.String() || l["reason"] != errs.Name(c.reason) || l["request_id"] != "req-1" {
					t.Errorf("got %v", l)
				}
			}
			causes := f.log.Named(t, "call failed")
			if c.logged == "" && len(causes) != 0 || c.logged != "" && len(causes) != 2 {
				t.Fatalf("got %v", causes)
			}
			for _, l := range causes {
				if !strings.Contains(fmt.Sprint(l["error"]), c.logged) {
					t.Errorf("got %v", l)
				}
			}
		})
	}
}

func TestAFloodOfRefusalsIsNoneOfLines(t *testing.T) {
	refused, failed := errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED, ""), errors.New("the cause")
	var err error
	f := start(t, &chat{
		send: func(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
			return nil, err
		},
	}, nil)
	ctx := patient(t)
	const each = 100
	for _, err = range []error{refused, failed} {
		for range each {
			if _, got := f.client.SendMessage(ctx, message()); got == nil {
				t.Fatal("it went well")
			}
		}
	}
	f.stop()
	got := map[any]int{}
	for _, line := range f.log.Named(t, "rpc") {
		got[line["reason"]]++
	}
	// Faults of one's own are all told of.
	if want := map[any]int{"SESSION_CLOSED": 20, "INTERNAL": each}; !maps.Equal(got, want) {
		t.Errorf("lines by reason: %v, want %v", got, want)
	}
}

func TestPanicsBecomeInternal(t *testing.T) {
	f := start(t, &chat{
		send: func(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
			panic("boom")
		},
		watch: func(*axpchatv1.WatchEventsRequest, grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
			panic("boom")
		},
	}, nil)
	ctx := patient(t)
	_, unaryErr := f.client.SendMessage(ctx, message())
	stream, err := f.client.WatchEvents(ctx, &axpchatv1.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, streamErr := stream.Recv()
	for kind, err := range map[string]error{"call": unaryErr, "stream": streamErr} {
		if !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_INTERNAL) || strings.Contains(err.Error(), "boom") {
			t.Errorf("%s: got %v", kind, err)
		}
	}
	f.stop()
	lines := f.log.Named(t, "panic")
	if len(lines) != 2 || strings.Contains(f.log.String(), "boom") || lines[0]["where"] != "rpc" || !strings.Contains(fmt.Sprint(lines[0]["stack"]), "chain_test.go") {
		t.Errorf("got %v", lines)
	}
}

func TestACallerWhoLeavesIsNobodysFault(t *testing.T) {
	entered := make(chan struct{})
	f := start(t, &chat{watch: func(_ *axpchatv1.WatchEventsRequest, s grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
		close(entered)
		<-s.Context().Done()
		return fmt.Errorf("wait: %w", s.Context().Err())
	}}, nil)
	ctx, cancel := context.WithCancel(patient(t))
	stream, err := f.client.WatchEvents(ctx, &axpchatv1.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	if err := f.component.Drain(patient(t)); err != nil {
		t.Fatal(err)
	}
	f.stop()
	lines := f.log.Named(t, "rpc")
	if len(lines) != 1 || lines[0]["code"] != "Canceled" || lines[0]["level"] != "DEBUG" || len(f.log.Named(t, "call failed")) != 0 {
		t.Errorf("got %s", f.log.String())
	}
}

func TestUnknownMethodsAreOfTheCatalogueAndNoLabels(t *testing.T) {
	f := start(t, &chat{}, nil)
	for _, method := range []string{"/nobody.Knows/This", "/axpchat.v1.ChatService/Nothing"} {
		err := f.conn.Invoke(patient(t), method, message(), &axpchatv1.SendMessageResponse{})
		if status.Code(err) != codes.Unimplemented || !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_NOT_FOUND) {
			t.Errorf("%s: got %v", method, err)
		}
	}
	f.stop()
	for _, l := range f.log.Named(t, "rpc") {
		if l["method"] != "unknown" {
			t.Errorf("got %v", l)
		}
	}
}

func TestAMessageOverTheLimitIsTooLarge(t *testing.T) {
	f := start(t, &chat{send: ok}, func(p *grpcx.ServerParams) { p.Config.MaxRecvBytes = 1 << 10 })
	m := message()
	m.Payload = strings.Repeat("x", 2<<10)
	_, err := f.client.SendMessage(patient(t), m)
	if !errs.HasReason(err, axpchatv1.ErrorReason_ERROR_REASON_TOO_LARGE) {
		t.Errorf("got %v", err)
	}
}

func TestLogsHoldNoContent(t *testing.T) {
	f := start(t, &chat{send: func(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_AXP_REJECTED, "detail for the caller")
	}}, nil)
	m := message()
	m.Text, m.SessionId = "private words", "private-session"
	if _, err := f.client.SendMessage(patient(t), m); err == nil {
		t.Fatal("it must fail")
	}
	f.stop()
	if len(f.log.Named(t, "rpc")) != 1 || strings.Contains(f.log.String(), "private") || strings.Contains(f.log.String(), "detail for") {
		t.Errorf("got %s", f.log.String())
	}
}

func TestStreamMessagesAreValidated(t *testing.T) {
	tooLong := &axpchatv1.ConnectRequest{FrameId: strings.Repeat("x", 129)}
	var got []error
	service := &chat{connect: func(s grpc.BidiStreamingServer[axpchatv1.ConnectRequest, axpchatv1.ConnectResponse]) error {
		for {
			_, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			got = append(got, err)
		}
	}}
	run := func(t *testing.T, change func(*grpcx.ServerParams)) []error {
		t.Helper()
		got = nil
		f := start(t, service, change)
		stream, err := f.client.Connect(patient(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*axpchatv1.ConnectRequest{{FrameId: "1"}, tooLong, {FrameId: "3"}} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return got
	}
	t.Run("a handler may go on after a broken one", func(t *testing.T) {
		got := run(t, nil)
		if len(got) != 3 || got[0] != nil || got[2] != nil || !errs.HasReason(got[1], axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT) {
			t.Errorf("got %v", got)
		}
	})
	t.Run("not where the handler does it", func(t *testing.T) {
		got := run(t, func(p *grpcx.ServerParams) {
			p.SelfValidating = []string{axpchatv1.ChatService_Connect_FullMethodName}
		})
		if len(got) != 3 || errors.Join(got...) != nil {
			t.Errorf("got %v", got)
		}
	})
}

func TestTracesAndMetricsOfAServer(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	reader := sdkmetric.NewManualReader()
	p := telemetry.Nop()
	p.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	p.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	f := start(t, &chat{send: func(context.Context, *axpchatv1.SendMessageRequest) (*axpchatv1.SendMessageResponse, error) {
		return nil, errs.New(axpchatv1.ErrorReason_ERROR_REASON_SESSION_CLOSED, "")
	}}, func(sp *grpcx.ServerParams) { sp.Providers = p })
	if _, err := f.client.SendMessage(patient(t), message()); err == nil {
		t.Fatal("it must fail")
	}
	f.stop()
	ended := spans.Ended()
	if len(ended) != 2 || ended[0].SpanContext().TraceID() != ended[1].SpanContext().TraceID() {
		t.Errorf("client and server must have a span each, in one trace: %v", ended)
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]metricdata.Aggregation{}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			found[m.Name] = m.Data
		}
	}
	if _, ok := found["rpc.server.call.duration"]; !ok {
		t.Errorf("got %v", found)
	}
	failed, _ := found["axpchat.rpc.server.errors"].(metricdata.Sum[int64])
	want := attribute.NewSet(attribute.String("method", "axpchat.v1.ChatService/SendMessage"),
		attribute.String("code", "FailedPrecondition"), attribute.String("reason", "SESSION_CLOSED"))
	if len(failed.DataPoints) != 1 || failed.DataPoints[0].Value != 1 || !failed.DataPoints[0].Attributes.Equals(&want) {
		t.Errorf("got %v", failed)
	}
	active, _ := found["axpchat.rpc.server.active"].(metricdata.Sum[int64])
	if len(active.DataPoints) != 1 || active.DataPoints[0].Value != 0 {
		t.Errorf("got %v", active)
	}
}
