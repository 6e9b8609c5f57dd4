package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	ws "github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// badInput is a kind of bad input. Every one that is sent is new where that costs
// the receiver more, so that nothing is gained by remembering the last one.
type badInput struct {
	name   string
	weight int      // of a hundred
	want   []string // answers that refuse it
	send   func(ctx context.Context, s *sender) (answer string, err error)
}

func (b badInput) refused(answer string) bool { return slices.Contains(b.want, answer) }

// mixOf spreads the kinds evenly, each by its weight.
func mixOf(kinds []badInput) []badInput {
	var mix []badInput
	left := make([]int, len(kinds))
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	for range total {
		best := 0
		for i, k := range kinds {
			left[i] += k.weight
			if left[i] > left[best] {
				best = i
			}
		}
		left[best] -= total
		mix = append(mix, kinds[best])
	}
	return mix
}

const (
	smallCallback = `{"eventType":"MESSAGES","accountId":"BENCHX","body":{"elementType":"text","elementText":{"text":"hello"}}}`
	// hugeBody is more than anybody takes.
	hugeBody = 64 << 20
)

func badInputs() []badInput {
	return []badInput{
		{"callback, wrong key", 28, []string{"404"}, func(ctx context.Context, s *sender) (string, error) {
			return s.http(ctx, s.t.Hook, post(keyring.CallbackPath(account)+rand.Text()+rand.Text(), "", smallCallback))
		}},
		{"callback, key of another account", 5, []string{"404"}, func(ctx context.Context, s *sender) (string, error) {
			return s.http(ctx, s.t.Hook, post(strings.Replace(s.t.HookPath, account, "OTHERS", 1), "", smallCallback))
		}},
		{"callback, not JSON", 10, []string{"400"}, func(ctx context.Context, s *sender) (string, error) {
			return s.http(ctx, s.t.Hook, post(s.t.HookPath, "", smallCallback[:len(smallCallback)-1]))
		}},
		{"callback, too large", 1, []string{"413"}, func(ctx context.Context, s *sender) (string, error) {
			return s.http(ctx, s.t.Hook, huge(s.t.HookPath, ""))
		}},
		{"REST, token of another secret", 15, []string{"401"}, func(ctx context.Context, s *sender) (string, error) {
			return s.http(ctx, s.t.HTTP, get("/v1/sessions/"+sessionID(0), forged()))
		}},
		{"REST, token without signature", 5, []string{"401"}, func(ctx context.Context, s *sender) (string, error) {
			return s.http(ctx, s.t.HTTP, get("/v1/sessions/"+sessionID(0), unsigned()))
		}},
		{"REST, expired token", 5, []string{"401"}, func(ctx context.Context, s *sender) (string, error) {
			return s.http(ctx, s.t.HTTP, post("/v1/sessions", expired(), `{}`))
		}},
		{"REST, body too large", 1, []string{"413"}, func(ctx context.Context, s *sender) (string, error) {
			return s.http(ctx, s.t.HTTP, huge("/v1/sessions", s.t.Token))
		}},
		// A browser reads no status of a handshake: it is told by the close code.
		{"WebSocket, token of another secret", 10, []string{"close 4501"}, func(ctx context.Context, s *sender) (string, error) {
			return webSocketWith(ctx, s, forged(), `{"hello":{}}`)
		}},
		{"WebSocket, frame that is none", 2, []string{"close 4503"}, func(ctx context.Context, s *sender) (string, error) {
			return webSocketWith(ctx, s, s.t.Token, `{"hello":`+rand.Text())
		}},
		{"gRPC, token of another secret", 10, []string{"Unauthenticated"}, func(ctx context.Context, s *sender) (string, error) {
			_, err := axpchatv1.NewChatServiceClient(s.grpc).GetSession(withToken(ctx, forged()), &axpchatv1.GetSessionRequest{SessionId: sessionID(0)})
			return status.Code(err).String(), nil
		}},
		{"gRPC, stream with a token of another secret", 3, []string{"Unauthenticated"}, func(ctx context.Context, s *sender) (string, error) {
			return connectWith(ctx, s, forged(), []byte("\x12\x00"))
		}},
		{"gRPC, frame that is none", 5, []string{"InvalidArgument"}, func(ctx context.Context, s *sender) (string, error) {
			return connectWith(ctx, s, s.t.Token, []byte("\xff\xff\xff\xff"+rand.Text()))
		}},
	}
}

func post(path, token, body string) string {
	return request(http.MethodPost, path, token, body, len(body))
}
func get(path, token string) string { return request(http.MethodGet, path, token, "", 0) }

// huge announces more than it sends: the answer must not wait for it.
func huge(path, token string) string { return request(http.MethodPost, path, token, "{", hugeBody) }

func request(method, path, token, body string, length int) string {
	head := ""
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	if method == http.MethodPost {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", length)
	}
	return method + " " + path + " HTTP/1.1\r\nHost: bench\r\n" + head + "\r\n" + body
}

func sign(method jwt.SigningMethod, key any, life time.Duration) string {
	text, err := jwt.NewWithClaims(method, jwt.MapClaims{
		"sub": subject, "account": account, "jti": rand.Text(), "exp": time.Now().Add(life).Unix(),
	}).SignedString(key)
	if err != nil {
		panic(err) // the key suits the method
	}
	return text
}

func forged() string {
	return sign(jwt.SigningMethodHS256, []byte("another secret of thirty-two bytes or more"), time.Hour)
}
func unsigned() string {
	return sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, time.Hour)
}
func expired() string {
	return sign(jwt.SigningMethodHS256, []byte(suitetest.TokenSecret), -time.Hour)
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// connectWith opens a two-way stream, says some bytes, and tells how it ended.
func connectWith(ctx context.Context, s *sender, token string, frame []byte) (string, error) {
	stream, err := s.grpc.NewStream(withToken(ctx, token), &axpchatv1.ChatService_ServiceDesc.Streams[0],
		axpchatv1.ChatService_Connect_FullMethodName, grpc.ForceCodec(bytesCodec{}))
	if err != nil {
		return status.Code(err).String(), nil
	}
	_ = stream.SendMsg(&frame) // that the stream has ended tells RecvMsg
	for {
		var answer []byte
		if err := stream.RecvMsg(&answer); err != nil {
			return status.Code(err).String(), nil
		}
	}
}

// bytesCodec sends bytes as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) ([]byte, error) {
	data, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("%T is not bytes", v)
	}
	return *data, nil
}

func (bytesCodec) Unmarshal(data []byte, v any) error {
	into, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is not bytes", v)
	}
	*into = slices.Clone(data)
	return nil
}

// webSocketWith opens a WebSocket, says something, and tells how it ended.
func webSocketWith(ctx context.Context, s *sender, token, frame string) (string, error) {
	conn, resp, err := ws.Dial(ctx, "ws://"+s.t.HTTP+"/v1/sessions/"+sessionID(0)+":connect", &ws.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}, Subprotocols: []string{"axpchat.v1+json"},
	})
	if err != nil {
		return "", err
	}
	if resp.Body != nil {
		_ = resp.Body.Close() // there is none after an upgrade
	}
	defer func() { _ = conn.CloseNow() }()             // it has ended already
	_ = conn.Write(ctx, ws.MessageText, []byte(frame)) // that it has ended already tells Read
	for {
		_, _, err := conn.Read(ctx)
		var end ws.CloseError
		switch {
		case errors.As(err, &end):
			return fmt.Sprintf("close %d", end.Code), nil
		case err != nil:
			return "", err
		}
	}
}
