// Package streamtest holds what clients may say on a stream, for the tests of
// everything that reads frames. For tests only.
package streamtest

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// Session is the session that the frames are about, and its engagement.
const (
	Session    = "s1"
	Engagement = "e-s1"
)

// Hello is a first frame.
func Hello(session, cursor string) *axpchatv1.ConnectRequest {
	return &axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Hello{Hello: &axpchatv1.Hello{SessionId: session, Cursor: cursor}}}
}

// Ping is a ping.
func Ping(id string) *axpchatv1.ConnectRequest {
	return &axpchatv1.ConnectRequest{FrameId: id, Payload: &axpchatv1.ConnectRequest_Ping{Ping: &axpchatv1.Ping{}}}
}

// Refresh brings a token.
func Refresh(id, token string) *axpchatv1.ConnectRequest {
	return &axpchatv1.ConnectRequest{FrameId: id, Payload: &axpchatv1.ConnectRequest_RefreshToken{RefreshToken: &axpchatv1.RefreshToken{Token: token}}}
}

// Frames are frames of every kind, right ones and such as break a rule.
func Frames() []*axpchatv1.ConnectRequest {
	long, wide := strings.Repeat("x", 5000), strings.Repeat("😀", 2049)
	values := &axpchatv1.CustomerIdentifierValues{Values: []string{"ada@example.net"}}
	many := &axpchatv1.CustomerIdentifierValues{Values: make([]string, 300)}
	return []*axpchatv1.ConnectRequest{
		Hello(Session, ""), Hello("another", "cursor"), Hello("", ""), Hello(Session, strings.Repeat("A", 257)), Hello("*.>", ""),
		{},
		{FrameId: "no payload"},
		Ping(strings.Repeat("i", 128)), Ping(strings.Repeat("i", 129)), Ping(strings.Repeat("😀", 128)), Ping("\x00\n"),
		{FrameId: "1", Payload: &axpchatv1.ConnectRequest_SendMessage{SendMessage: &axpchatv1.SendMessageRequest{EngagementId: Engagement, ClientMessageId: "m", Text: "hi", CustomData: map[string]string{"a": "b"}}}},
		{FrameId: "2", Payload: &axpchatv1.ConnectRequest_SendMessage{SendMessage: &axpchatv1.SendMessageRequest{SessionId: "another", EngagementId: long, ClientMessageId: long, Text: long}}},
		{FrameId: "2", Payload: &axpchatv1.ConnectRequest_SendMessage{SendMessage: &axpchatv1.SendMessageRequest{EngagementId: Engagement, ClientMessageId: "\u2028", Text: wide, CustomData: map[string]string{"]\"": long}}}},
		{FrameId: "3", Payload: &axpchatv1.ConnectRequest_CreateEngagement{CreateEngagement: &axpchatv1.CreateEngagementRequest{Conversation: long, EngagementParameters: map[string]string{"topic": "bill"}}}},
		{FrameId: "3", Payload: &axpchatv1.ConnectRequest_CreateEngagement{CreateEngagement: &axpchatv1.CreateEngagementRequest{RequestId: "r", Conversation: "bill"}}},
		{FrameId: "4", Payload: &axpchatv1.ConnectRequest_EndEngagement{EndEngagement: &axpchatv1.EndEngagementRequest{EngagementId: Engagement}}},
		{FrameId: "5", Payload: &axpchatv1.ConnectRequest_UpdateSessionParameters{UpdateSessionParameters: &axpchatv1.UpdateSessionParametersRequest{SessionParameters: map[string]string{"": long}}}},
		{FrameId: "5", Payload: &axpchatv1.ConnectRequest_UpdateSessionParameters{UpdateSessionParameters: &axpchatv1.UpdateSessionParametersRequest{SessionId: Session, SessionParameters: map[string]string{"page": "/pricing"}}}},
		{FrameId: "6", Payload: &axpchatv1.ConnectRequest_AppendCustomerIdentifiers{AppendCustomerIdentifiers: &axpchatv1.AppendCustomerIdentifiersRequest{}}},
		{FrameId: "6", Payload: &axpchatv1.ConnectRequest_AppendCustomerIdentifiers{AppendCustomerIdentifiers: &axpchatv1.AppendCustomerIdentifiersRequest{CustomerIdentifiers: map[string]*axpchatv1.CustomerIdentifierValues{"emailAddresses": values}}}},
		{FrameId: "6", Payload: &axpchatv1.ConnectRequest_AppendCustomerIdentifiers{AppendCustomerIdentifiers: &axpchatv1.AppendCustomerIdentifiersRequest{CustomerIdentifiers: map[string]*axpchatv1.CustomerIdentifierValues{long: many, "none": {}}}}},
		{FrameId: "7", Payload: &axpchatv1.ConnectRequest_DeleteSession{DeleteSession: &axpchatv1.DeleteSessionRequest{}}},
		{FrameId: "7", Payload: &axpchatv1.ConnectRequest_DeleteSession{DeleteSession: &axpchatv1.DeleteSessionRequest{Reason: 99}}},
		Refresh("8", "e30.e30.AAAA"), Refresh("9", strings.Repeat("t", 16385)), Refresh("9", ""),
		{FrameId: "10", Payload: &axpchatv1.ConnectRequest_KeepAlive{KeepAlive: &axpchatv1.KeepAliveRequest{}}},
	}
}

// Seed is what a client may say in one message.
type Seed struct {
	Data []byte
	JSON bool // else protobuf
}

// Seeds are all of them: Frames in both encodings, Broken and Texts.
func Seeds(t testing.TB) []Seed {
	t.Helper()
	var out []Seed
	for _, frame := range Frames() {
		data, err := proto.Marshal(frame)
		if err != nil {
			t.Fatal(err)
		}
		text, err := protojson.Marshal(frame)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, Seed{Data: data}, Seed{text, true})
	}
	for _, data := range Broken() {
		out = append(out, Seed{Data: data})
	}
	for _, text := range Texts() {
		out = append(out, Seed{[]byte(text), true})
	}
	return out
}

// Broken are bytes that are nearly a frame in protobuf, or that only protobuf's
// rules make one.
func Broken() [][]byte {
	invalid := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "\xff\xfe\xed\xa0\x80")
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 1000, protowire.BytesType), []byte("unknown"))
	group := protowire.AppendTag(protowire.AppendTag(nil, 99, protowire.StartGroupType), 99, protowire.EndGroupType)
	deep := []byte(nil)
	for range 12000 {
		deep = protowire.AppendTag(deep, 99, protowire.StartGroupType)
	}
	// The last of two payloads counts.
	ping, _ := proto.Marshal(Ping("ping"))         // ASCII alone
	hello, _ := proto.Marshal(Hello(Session, "x")) // as well
	return [][]byte{
		invalid, unknown, group, deep, slices.Concat(ping, hello), slices.Concat(hello, ping),
		[]byte("\x0a\xff\xff\xff\xff\x0f"), []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), []byte("\x22\x05\x0a"),
	}
}

// Texts are bytes that are nearly a frame in JSON.
func Texts() []string {
	return []string{
		``, ` `, `{}`, `[]`, `null`, `{} {}`, `{"hello":{}}`, `{"hello":{"sessionId":"s1","cursor":"c"}}`, `{"hello":null}`, `{"ping":{}}`,
		`{"frame_id":"proto's own name","keep_alive":{}}`, `{"frameId":"1","frame_id":"2","ping":{}}`, `{"frameId":1,"ping":{}}`,
		`{"frameId":"1","sendMessage":{"engagementId":"e-s1","text":"hi"}}`, `{"frameId":"1","sendMessage":{"customData":{"a":"b"}},"hello":{}}`,
		`{"sendMessage":{"customData":{"a":"b","a":"c"}}}`, `{"sendMessage":{"text":1e999}}`, `{"deleteSession":{"reason":"NO_SUCH"}}`, `{"deleteSession":{"reason":1}}`,
		`{"unknown":1}`, `{"sendMessage":{"un\"known":1}}`, `{"frameId":"\ud800"}`, `{"frameId":"\u0000","ping":{}}`, "{\"frameId\":\"\xff\"}", "\xef\xbb\xbf{}",
		`{"sendMessage":` + strings.Repeat(`{"customData":`, 12000), `{"a":` + strings.Repeat(`[`, 12000), "\x0a\x00",
	}
}
