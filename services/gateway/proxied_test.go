package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
)

// balanced is what a load balancer says of a connection of somebody.
func balanced(version byte, from string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := proxyproto.HeaderProxyFromAddrs(version,
			&net.TCPAddr{IP: net.ParseIP(from), Port: 4711}, &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 443}).WriteTo(w)
		return err
	}
}

// asks asks for a session over gRPC, on a connection of its own that begins with what
// first says, and returns the answer's code.
func (s *suite) asks(first func(io.Writer) error, md ...string) error {
	s.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+s.gw.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			if err == nil {
				err = first(c)
			}
			return c, err
		}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(bearer(s.t.Context(), token(s.t, subject, nil)), md...)
	_, err = axpchatv1.NewChatServiceClient(conn).GetSession(ctx, &axpchatv1.GetSessionRequest{SessionId: "s1"})
	return err
}

// gets is asks over HTTP; 0: the connection was ended without an answer.
func (s *suite) gets(first func(io.Writer) error, header string) int {
	s.t.Helper()
	c, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", s.gw.HTTPAddr())
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	err = errors.Join(c.SetDeadline(time.Now().Add(patience)), first(c))
	if err == nil {
		_, err = fmt.Fprintf(c, "GET /v1/sessions/s1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n", token(s.t, subject, nil), header)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
			s.t.Errorf("neither answered nor ended: %v", err)
		}
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func nothing(io.Writer) error { return nil }

// TestALoadBalancerSaysWhoseConnectionItIs: by the PROXY protocol, on both listeners;
// the limit by address counts the customer's.
func TestALoadBalancerSaysWhoseConnectionItIs(t *testing.T) {
	s := start(t, map[string]string{"LIMIT_ADDRESS_FRAMES": "4/1h", "PROXY_PROTOCOL_NETWORKS": "127.0.0.0/8"})
	const one, two, six = "203.0.113.1", "203.0.113.2", "2001:db8::1"
	for i, version := range []byte{1, 2} {
		if err := s.asks(balanced(version, one)); status.Code(err) != codes.NotFound {
			t.Fatalf("version %d over gRPC: %v", version, err)
		}
		if code := s.gets(balanced(version, one), fmt.Sprintf("X-Forwarded-For: 198.51.100.%d\r\n", i)); code != http.StatusNotFound {
			t.Fatalf("version %d over HTTP: %d", version, code)
		}
	}
	if err := s.asks(balanced(2, one), "x-forwarded-for", "198.51.100.9"); !errs.HasReason(err, rateLimited) {
		t.Errorf("the fifth time over gRPC: %v", err)
	}
	if code := s.gets(balanced(1, one), "X-Forwarded-For: 198.51.100.9\r\n"); code != http.StatusTooManyRequests {
		t.Errorf("the sixth time over HTTP: %d", code)
	}
	for _, other := range []string{two, six} {
		if err := s.asks(balanced(2, other)); status.Code(err) != codes.NotFound {
			t.Errorf("%s pays for another one: %v", other, err)
		}
	}
	// The balancer's own probes.
	local := func(w io.Writer) error {
		_, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).WriteTo(w)
		return err
	}
	if code := s.gets(local, ""); code != http.StatusNotFound {
		t.Errorf("a probe of the balancer: %d", code)
	}
	again := func(w io.Writer) error { return errors.Join(balanced(2, two)(w), balanced(1, six)(w)) }
	socket := func(w io.Writer) error {
		_, err := (&proxyproto.Header{
			Version: 2, Command: proxyproto.PROXY, TransportProtocol: proxyproto.UnixStream,
			SourceAddr: &net.UnixAddr{Net: "unix", Name: "a"}, DestinationAddr: &net.UnixAddr{Net: "unix", Name: "b"},
		}).WriteTo(w)
		return err
	}
	for name, first := range map[string]func(io.Writer) error{"without a header": nothing, "with two headers": again, "of no address": socket} {
		if err := s.asks(first); status.Code(err) != codes.Unavailable {
			t.Errorf("%s over gRPC: %v", name, err)
		}
		if code := s.gets(first, ""); code != 0 && code != http.StatusBadRequest {
			t.Errorf("%s over HTTP: %d", name, code)
		}
	}
}

// TestAStrangerHasNoAddressOfHisChoice: the PROXY protocol from elsewhere is refused,
// and so it is where it is off; without it a connection is what it is.
func TestAStrangerHasNoAddressOfHisChoice(t *testing.T) {
	for name, networks := range map[string]string{"from elsewhere": "10.0.0.0/8,127.0.0.2", "off": ""} {
		t.Run(name, func(t *testing.T) {
			s := start(t, map[string]string{"LIMIT_ADDRESS_FRAMES": "2/1h", "PROXY_PROTOCOL_NETWORKS": networks})
			for i := range 4 {
				version := byte(1 + i%2)
				if err := s.asks(balanced(version, fmt.Sprint("203.0.113.", i))); status.Code(err) != codes.Unavailable {
					t.Errorf("version %d over gRPC: %v", version, err)
				}
				if code := s.gets(balanced(version, fmt.Sprint("203.0.113.", i)), ""); code != 0 && code != http.StatusBadRequest {
					t.Errorf("version %d over HTTP: %d", version, code)
				}
			}
			for range 2 {
				if code := s.gets(nothing, ""); code != http.StatusNotFound {
					t.Fatalf("a connection as it is: %d", code)
				}
			}
			if err := s.asks(nothing); !errs.HasReason(err, rateLimited) {
				t.Errorf("the third time: %v", err)
			}
		})
	}
}

// TestAHeaderOfTheProxyProtocolArrivesInTime: whoever connects through the balancer
// may be able to make it slow.
func TestAHeaderOfTheProxyProtocolArrivesInTime(t *testing.T) {
	const limit = 300 * time.Millisecond
	s := start(t, map[string]string{"PROXY_PROTOCOL_NETWORKS": "127.0.0.1", "PROXY_PROTOCOL_TIMEOUT": limit.String()})
	for _, addr := range []string{s.gw.GRPCAddr(), s.gw.HTTPAddr()} {
		for _, first := range []string{"", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01"} {
			c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err = io.WriteString(c, first)
			if err = errors.Join(err, c.SetReadDeadline(began.Add(patience))); err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, c)
			if took := time.Since(began); errors.Is(err, context.DeadlineExceeded) || took < limit/2 || took > patience/2 {
				t.Errorf("%q at %s ended after %s: %v", first, addr, took, err)
			}
			_ = c.Close()
		}
	}
}

// TestTheProxyProtocolComesBeforeTLS: the balancer forwards bytes, and has no part in
// what its clients agree on.
func TestTheProxyProtocolComesBeforeTLS(t *testing.T) {
	authority := tlsxtest.NewAuthority(t)
	f := tlsxtest.Files(t, authority.Issue([]string{"127.0.0.1"}))
	s := start(t, map[string]string{
		"LIMIT_ADDRESS_FRAMES": "1/1h", "PROXY_PROTOCOL_NETWORKS": "127.0.0.1",
		"HTTP_TLS_CERT_FILE": f.Cert, "HTTP_TLS_KEY_FILE": f.Key, "GRPC_TLS_CERT_FILE": f.Cert, "GRPC_TLS_KEY_FILE": f.Key,
	})
	source, err := tlsx.Open(tlsxtest.Files(t, tlsxtest.Pair{}, authority), logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []codes.Code{codes.NotFound, codes.ResourceExhausted} {
		conn, err := grpc.NewClient("passthrough:///"+s.gw.GRPCAddr(), grpc.WithTransportCredentials(credentials.NewTLS(source.Client("127.0.0.1"))), grpc.WithContextDialer(by("203.0.113.1")))
		if err != nil {
			t.Fatal(err)
		}
		_, err = axpchatv1.NewChatServiceClient(conn).GetSession(bearer(t.Context(), token(t, subject, nil)), &axpchatv1.GetSessionRequest{SessionId: "s1"})
		if status.Code(err) != want {
			t.Errorf("call %d over gRPC: %v, want %s", i, err, want)
		}
		_ = conn.Close()
	}
	for i, want := range []int{http.StatusNotFound, http.StatusTooManyRequests} {
		transport := &http.Transport{TLSClientConfig: source.Client("127.0.0.1"), DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return by("203.0.113.2")(ctx, addr) }}
		s.client.Transport = transport
		if a := s.call(http.MethodGet, "https://"+s.gw.HTTPAddr()+"/v1/sessions/s1", token(t, subject, nil), ""); a.status != want {
			t.Errorf("call %d over HTTP: %d, want %d", i, a.status, want)
		}
		transport.CloseIdleConnections()
	}
}

// by dials as the balancer does, for somebody.
func by(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			err = balanced(2, from)(c)
		}
		return c, err
	}
}
