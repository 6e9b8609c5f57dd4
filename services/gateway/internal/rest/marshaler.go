package rest

import (
	"context"
	"log/slog"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/encoding/protojson"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/unshown"
	"github.com/axpchat/connector/services/internal/kit/panics"
)

// instrumentation names the meter of what goes wrong while answers are encoded.
const instrumentation = "github.com/axpchat/connector/services/gateway/internal/rest"

// NewMarshaler returns the JSON of REST. Where an answer holds an event or a message
// that can't be encoded, that alone is left out, and said to be: whoever asks again
// would fail at the same place for ever. ctx lends its values to the log.
func NewMarshaler(ctx context.Context, log *slog.Logger, provider metric.MeterProvider) (runtime.Marshaler, error) {
	teller, err := unshown.New(log, provider)
	if err != nil {
		return nil, err
	}
	plain := &runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: false, UseProtoNames: false},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
	}
	return &careful{JSONPb: plain, encode: plain.Marshal, ctx: ctx, panics: panics.New(log, provider.Meter(instrumentation)), unshown: teller}, nil
}

type careful struct {
	*runtime.JSONPb
	encode  func(any) ([]byte, error)
	ctx     context.Context //nolint:containedctx // grpc-gateway gives a marshaler none
	panics  *panics.Watch
	unshown *unshown.Teller
}

// Marshal implements runtime.Marshaler.
func (c *careful) Marshal(v any) ([]byte, error) {
	data, err := c.try(v)
	if err == nil || !c.mend(v) {
		return data, err
	}
	return c.try(v)
}

func (c *careful) try(v any) (data []byte, err error) {
	broken := c.panics.Do(c.ctx, "encode", func() error {
		data, err = c.encode(v)
		return nil
	})
	if broken != nil {
		return nil, broken
	}
	return data, err
}

// mend replaces what can't be encoded, and tells whether there was something. The
// answer is nobody else's: it has come over the connection inside the process.
func (c *careful) mend(v any) bool {
	mended := false
	switch v := v.(type) {
	case map[string]any: // a part of an answer that goes on
		for _, part := range v {
			mended = c.mend(part) || mended
		}
	case *axpchatv1.WatchEventsResponse:
		frame, ok := v.GetFrame().GetPayload().(*axpchatv1.ConnectResponse_Event)
		if ok && c.fails(frame.Event) {
			frame.Event, mended = c.unshown.Instead(c.ctx, "rest", frame.Event), true
		}
	case *axpchatv1.PollEventsResponse:
		for i, ev := range v.GetEvents() {
			if c.fails(ev) {
				v.Events[i], mended = c.unshown.Instead(c.ctx, "rest", ev), true
			}
		}
	case *axpchatv1.ListMessagesResponse:
		for i, m := range v.GetMessages() {
			if c.fails(m) {
				v.Messages[i], mended = &axpchatv1.Message{MessageId: m.GetMessageId(), SessionId: m.GetSessionId(), EngagementId: m.GetEngagementId()}, true
			}
		}
	}
	return mended
}

func (c *careful) fails(v any) bool {
	_, err := c.try(v)
	return err != nil
}
