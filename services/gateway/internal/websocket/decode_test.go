package websocket

import (
	"testing"

	ws "github.com/coder/websocket"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// FuzzDecode: whatever a client sends, there is no panic; what is no frame is told
// to be none; and what is one is the same frame in the other encoding.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"hello":{}}`, `{"hello":{"sessionId":"s","cursor":"c"}}`, `{"ping":{}}`, `{"frameId":"1","sendMessage":{"engagementId":"e","text":"hi"}}`,
		`{"frameId":"1","sendMessage":{"customData":{"a":"b"}},"hello":{}}`, `{"unknown":1}`, `[]`, `{"frameId":"\ud800"}`, `{"sendMessage":{"text":1e999}}`, "\x0a\x00", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
	} {
		f.Add([]byte(text), true, true)
		f.Add([]byte(text), false, false)
		f.Add([]byte(text), true, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, binary, sent bool) {
		kind := ws.MessageText
		if sent {
			kind = ws.MessageBinary
		}
		frame, err := decode(kind, binary, data)
		if err != nil {
			if got := errs.From(err).Reason; got != axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID || frame != nil {
				t.Errorf("%q: %v, %v", data, got, frame)
			}
			return
		}
		if binary != sent {
			t.Errorf("%q was taken by the other subprotocol", data)
		}
		again, err := proto.Marshal(frame)
		if err != nil {
			t.Fatal(err)
		}
		same, err := decode(ws.MessageBinary, true, again)
		if err != nil || !proto.Equal(frame, same) {
			t.Errorf("%q: %v became %v, %v", data, frame, same, err)
		}
	})
}
