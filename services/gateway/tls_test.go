package gateway_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
)

// TestBothListenersServeTLS speaks all kinds of transport with a gateway that has
// certificates, and changes these in the middle of a stream.
func TestBothListenersServeTLS(t *testing.T) {
	old, next := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	f := tlsxtest.Files(t, old.Issue([]string{"127.0.0.1"}))
	s := start(t, map[string]string{
		"HTTP_TLS_CERT_FILE": f.Cert, "HTTP_TLS_KEY_FILE": f.Key, "GRPC_TLS_CERT_FILE": f.Cert, "GRPC_TLS_KEY_FILE": f.Key,
	})
	s.session("s1")
	source, err := tlsx.Open(tlsxtest.Files(t, tlsxtest.Pair{}, old, next), logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: source.Client("127.0.0.1"), DisableKeepAlives: true}
	client, base := &http.Client{Transport: transport}, "https://"+s.gw.HTTPAddr()
	get := func(path string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token(t, subject, nil))
		res, err := client.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
		return res
	}
	events := bufio.NewScanner(get("/v1/sessions/s1/events").Body)
	until := func(word string) {
		t.Helper()
		for events.Scan() {
			if strings.Contains(events.Text(), word) {
				return
			}
		}
		t.Fatalf("the stream ended before %q: %v", word, events.Err())
	}
	s.say("s1", "m1", "before")
	until("before")
	tlsxtest.Write(t, f, next.Issue([]string{"127.0.0.1"}))
	s.say("s1", "m2", "after")
	until("after")

	if issuer := get("/v1/sessions/s1/engagements/e-s1/messages").TLS.PeerCertificates[0].CheckSignatureFrom(next.Cert); issuer != nil {
		t.Errorf("the old certificate is shown: %v", issuer)
	}
	ws, _, err := websocket.Dial(t.Context(), base+"/v1/sessions/s1:connect", &websocket.DialOptions{HTTPClient: client, HTTPHeader: http.Header{
		"Origin": {base}, "Authorization": {"Bearer " + token(t, subject, nil)},
	}})
	if err != nil {
		t.Fatalf("WebSocket from the gateway's own page: %v", err)
	}
	_ = ws.CloseNow()
	conn, err := grpc.NewClient(s.gw.GRPCAddr(), grpc.WithTransportCredentials(credentials.NewTLS(source.Client(""))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	got, err := axpchatv1.NewChatServiceClient(conn).ListMessages(bearer(t.Context(), token(t, subject, nil)), &axpchatv1.ListMessagesRequest{SessionId: "s1", EngagementId: "e-s1"})
	if err != nil || len(got.GetMessages()) != 2 {
		t.Errorf("gRPC: %v, %v", got, err)
	}
}
