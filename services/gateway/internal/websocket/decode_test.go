package websocket

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	ws "github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/stream/streamtest"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

// FuzzDecode: whatever a client sends, there is no panic; what is no frame is told
// to be none, by a field that was sent where one is named; what is taken as JSON is
// an object for encoding/json too; and what is a frame is the same one in the other
// encoding.
func FuzzDecode(f *testing.F) {
	for _, seed := range streamtest.Seeds(f) {
		f.Add(seed.Data, !seed.JSON, !seed.JSON)
		f.Add(seed.Data, seed.JSON, seed.JSON)
		f.Add(seed.Data, seed.JSON, !seed.JSON)
	}
	f.Fuzz(func(t *testing.T, data []byte, binary, sent bool) {
		kind := ws.MessageText
		if sent {
			kind = ws.MessageBinary
		}
		frame, err := Decode(kind, binary, data)
		if err != nil {
			fault := errs.From(err)
			if fault.Reason != axpchatv1.ErrorReason_ERROR_REASON_FRAME_INVALID || frame != nil {
				t.Errorf("%q: %v, %v", data, fault.Reason, frame)
			}
			for _, v := range fault.Violations {
				if binary || !slices.Contains(words(data), v.Field) {
					t.Errorf("%q has no field %q", data, v.Field)
				}
			}
			return
		}
		if binary != sent {
			t.Errorf("%q was taken by the other subprotocol", data)
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(data, &object); !binary && (err != nil || object == nil) {
			t.Errorf("%q is taken, and no JSON object: %v", data, err)
		}
		again, err := proto.Marshal(frame)
		if err != nil {
			t.Fatal(err)
		}
		same, err := Decode(ws.MessageBinary, true, again)
		if err != nil || !proto.Equal(frame, same) {
			t.Errorf("%q: %v became %v, %v", data, frame, same, err)
		}
		text, err := protojson.Marshal(frame)
		if err != nil {
			t.Fatal(err)
		}
		same, err = Decode(ws.MessageText, false, text)
		if err != nil || !proto.Equal(known(frame), same) {
			t.Errorf("%q: %v became %v as JSON, %v", data, frame, same, err)
		}
	})
}

// words are the names and texts in some JSON, as far as it is some, and what JSON's
// own names are for those that protobuf writes otherwise.
func words(data []byte) []string {
	var out []string
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		token, err := dec.Token()
		if err != nil {
			return out
		}
		if word, ok := token.(string); ok {
			out = append(out, word, errs.JSONName(word))
		}
	}
}

// known is a frame without the fields that this version does not know, which JSON
// has no way to keep.
func known(f *axpchatv1.ConnectRequest) *axpchatv1.ConnectRequest {
	var strip func(m protoreflect.Message)
	strip = func(m protoreflect.Message) {
		m.SetUnknown(nil)
		m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			switch {
			case field.IsMap() && field.MapValue().Message() != nil:
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { strip(v.Message()); return true })
			case field.IsMap() || field.Message() == nil:
			case field.IsList():
				for i := range v.List().Len() {
					strip(v.List().Get(i).Message())
				}
			default:
				strip(v.Message())
			}
			return true
		})
	}
	strip(f.ProtoReflect())
	return f
}
