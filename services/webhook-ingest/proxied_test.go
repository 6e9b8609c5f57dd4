package ingest_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/pires/go-proxyproto"
)

// TestALoadBalancerSaysWhoCalls by the PROXY protocol, and what a header of the call
// claims beside it is not believed.
func TestALoadBalancerSaysWhoCalls(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_ALLOWED_NETWORKS": "203.0.113.0/24", "PROXY_PROTOCOL_NETWORKS": "127.0.0.0/8"})
	call := func(s *service, from, forwarded string) int {
		conn := s.connect()
		var err error
		if from != "" {
			_, err = proxyproto.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.ParseIP(from), Port: 1}, &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 443}).WriteTo(conn)
		}
		body := message(s.ours(), "")
		if err == nil {
			_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Forwarded-For: %s\r\nContent-Length: %d\r\n\r\n%s", s.path(), forwarded, len(body), body)
		}
		if err != nil && !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(conn.Reader, nil)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for _, c := range []struct {
		name, from, forwarded string
		want                  int
	}{
		{"AXP", "203.0.113.7", "", http.StatusOK},
		{"AXP through somebody", "203.0.113.7", "198.51.100.1", http.StatusOK},
		{"somebody else", "198.51.100.1", "", http.StatusNotFound},
		{"somebody else who claims to forward for AXP", "198.51.100.1", "203.0.113.7", http.StatusNotFound},
		{"nobody says who", "", "203.0.113.7", 0},
	} {
		if got := call(s, c.from, c.forwarded); got != c.want && (c.want != 0 || got != http.StatusBadRequest) {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	direct := start(t, map[string]string{"WEBHOOK_ALLOWED_NETWORKS": "203.0.113.0/24", "PROXY_PROTOCOL_NETWORKS": "10.0.0.0/8"})
	if got := call(direct, "203.0.113.7", ""); got != 0 && got != http.StatusBadRequest {
		t.Errorf("a stranger who says that he is AXP: %d", got)
	}
	direct.nothingStored()
}
