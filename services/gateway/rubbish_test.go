package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	ws "github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/stream/streamtest"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// TestWhatIsNoMessageCountsAsOne: a call or frame that can't be decoded needs a
// token and is limited like any other, and is answered in the words of the API.
func TestWhatIsNoMessageCountsAsOne(t *testing.T) {
	s := start(t, map[string]string{"LIMIT_ADDRESS_FRAMES": "8/1h"})
	s.session("s1")
	rubbish := []byte("\xff\xff\xff rubbish")
	get := func(ctx context.Context) error {
		return s.grpc.Invoke(ctx, axpchatv1.ChatService_GetSession_FullMethodName, rubbish, &axpchatv1.GetSessionResponse{}, grpc.ForceCodec(rawCodec{}))
	}
	mine := bearer(t.Context(), token(t, subject, nil))
	const invalid, frame = axpchatv1.ErrorReason_ERROR_REASON_INVALID_ARGUMENT, axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID
	for _, c := range []struct {
		name string
		ctx  context.Context
		want axpchatv1.ErrorReason
	}{
		{"a stranger's", t.Context(), axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED},
		{"a customer's", mine, invalid},
	} {
		if err := get(c.ctx); !errs.HasReason(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, greeted := range []bool{false, true} {
		peer, err := rawConnect(t.Context(), s, token(t, subject, nil))
		if err != nil {
			t.Fatal(err)
		}
		if greeted {
			hello, err := proto.Marshal(streamtest.Hello("s1", ""))
			if err != nil {
				t.Fatal(err)
			}
			if err := peer.say(hello); err != nil {
				t.Fatal(err)
			}
		}
		if err := peer.say(rubbish); err != nil {
			t.Fatal(err)
		}
		var last *axpchatv1.ConnectResponse
		for err == nil {
			var m *axpchatv1.ConnectResponse
			if m, err = peer.next(); err == nil {
				last = m
			}
		}
		peer.leave()
		if status.Code(err) != codes.InvalidArgument || !errs.HasReason(err, frame) || strings.Contains(err.Error(), "rubbish") ||
			last.GetClose().GetCode() != axpchatv1.CloseCode_CLOSE_CODE_PROTOCOL_ERROR {
			t.Errorf("a frame, after hello: %v: %v, %v", greeted, err, last)
		}
	}
	for range 8 {
		if err := get(mine); errs.HasReason(err, rateLimited) {
			return
		}
	}
	t.Error("there is no limit for what can't be decoded")
}

// TestWebSocketsAreNotCompressed, even if asked to: what is small on the way in could
// be large here, and what is secret could be guessed by its size.
func TestWebSocketsAreNotCompressed(t *testing.T) {
	s := start(t, nil)
	s.session("s1")
	conn, resp, err := ws.Dial(t.Context(), s.url("s1", ":connect"), &ws.DialOptions{
		HTTPClient: s.client, HTTPHeader: http.Header{"Authorization": {"Bearer " + token(t, subject, nil)}},
		Subprotocols: []string{"axpchat.v1+json"}, CompressionMode: ws.CompressionContextTakeover,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	if got := resp.Header.Get("Sec-Websocket-Extensions"); got != "" {
		t.Errorf("the server agrees to %s", got)
	}
}
