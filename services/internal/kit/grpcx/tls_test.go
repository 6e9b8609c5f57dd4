package grpcx_test

import (
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/grpcx"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
)

const unavailable = axpchatv1.ErrorReason_ERROR_REASON_UNAVAILABLE

func serverOf(f tlsx.Files) grpcx.ServerConfig {
	return grpcx.ServerConfig{CertFile: f.Cert, KeyFile: f.Key, ClientCAFile: f.CA}
}

func clientOf(f tlsx.Files) grpcx.ClientConfig {
	return grpcx.ClientConfig{CertFile: f.Cert, KeyFile: f.Key, CAFile: f.CA}
}

// dialTCP returns a client, and what it logs. It connects with its first call.
func dialTCP(t testing.TB, addr string, cfg grpcx.ClientConfig) (*grpc.ClientConn, *logtest.Records) {
	t.Helper()
	log := &logtest.Records{}
	conn, err := grpcx.Dial(addr, cfg, log.Logger(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, log
}

func send(t testing.TB, conn *grpc.ClientConn) error {
	t.Helper()
	_, err := axpchatv1.NewChatServiceClient(conn).SendMessage(patient(t), message())
	return err
}

func TestTLS(t *testing.T) {
	a, stranger := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	none := tlsxtest.Pair{}
	local, gateway := a.Issue([]string{"127.0.0.1"}), a.Issue([]string{"gateway"})
	oneWay := serverOf(tlsxtest.Files(t, local))
	mutual := serverOf(tlsxtest.Files(t, local, a))
	expired := serverOf(tlsxtest.Files(t, a.Issue([]string{"127.0.0.1"}, tlsxtest.Expired), a))
	plain := grpcx.ClientConfig{}
	trusting := clientOf(tlsxtest.Files(t, none, a))
	known := clientOf(tlsxtest.Files(t, gateway, a))
	misnamed := trusting
	misnamed.ServerName = "elsewhere.example"
	forServers := a.Issue([]string{"gateway"}, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	cases := []struct {
		name             string
		server           grpcx.ServerConfig
		client           grpcx.ClientConfig
		atServer, atDial string // in whose log is why; neither: it works
	}{
		{"both without", grpcx.ServerConfig{}, plain, "", ""},
		{"both with", oneWay, trusting, "", ""},
		{"both with certificates", mutual, known, "", ""},
		{"a client without", oneWay, plain, "first record does not look like a TLS handshake", ""},
		{"a client without a certificate", mutual, trusting, "client didn't provide a certificate", ""},
		{"a client of a foreign authority", mutual, clientOf(tlsxtest.Files(t, stranger.Issue([]string{"gateway"}), a)), "unknown authority", ""},
		{"a client whose certificate has expired", mutual, clientOf(tlsxtest.Files(t, a.Issue([]string{"gateway"}, tlsxtest.Expired), a)), "has expired", ""},
		{"a client with a certificate for servers", mutual, clientOf(tlsxtest.Files(t, forServers, a)), "incompatible key usage", ""},
		{"a server of another name", oneWay, misnamed, "", "wanted to match elsewhere.example"},
		{"a server of a foreign authority", mutual, clientOf(tlsxtest.Files(t, gateway, stranger)), "", "unknown authority"},
		{"a server whose certificate has expired", expired, known, "", "has expired"},
		{"a server without", grpcx.ServerConfig{}, trusting, "", "first record does not look like a TLS handshake"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			addr, atServer := serveTCP(t, c.server, &chat{send: ok})
			conn, atDial := dialTCP(t, addr, c.client)
			err := send(t, conn)
			if good := c.atServer == "" && c.atDial == ""; good != (err == nil) || err != nil && !errs.HasReason(err, unavailable) {
				t.Errorf("got %v", err)
			}
			for _, side := range []struct {
				log  *logtest.Records
				want string
			}{{atServer, c.atServer}, {atDial, c.atDial}} {
				if side.want == "" {
					continue
				}
				// The other side may know of it first.
				lines := side.log.Await(t, "TLS handshake failed")
				if len(lines) != 1 || !strings.Contains(lines[0]["error"].(string), side.want) {
					t.Errorf("got %s", side.log.String())
				}
			}
		})
	}
}

func TestTLSFilesThatCannotBeUsed(t *testing.T) {
	a := tlsxtest.NewAuthority(t)
	f := tlsxtest.Files(t, a.Issue(nil), a)
	missing, notPEM := filepath.Join(t.TempDir(), "missing"), filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(notPEM, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []grpcx.ServerConfig{
		{CertFile: missing, KeyFile: missing}, {CertFile: f.Cert}, {KeyFile: f.Key}, {ClientCAFile: f.CA},
		{CertFile: f.Cert, KeyFile: f.Key, ClientCAFile: notPEM},
		{CertFile: f.Cert, KeyFile: f.Key, ClientCAFile: missing},
	} {
		if _, err := grpcx.NewServer(grpcx.ServerParams{Log: (&logtest.Records{}).Logger(), Config: c}); err == nil {
			t.Errorf("server %+v was made", c)
		}
	}
	for _, c := range []grpcx.ClientConfig{
		{CAFile: missing}, {CAFile: notPEM}, {CertFile: f.Cert, KeyFile: f.Key}, {CAFile: f.CA, CertFile: missing, KeyFile: missing},
	} {
		if conn, err := grpcx.Dial("127.0.0.1:1", c, (&logtest.Records{}).Logger(), nil); err == nil {
			_ = conn.Close()
			t.Errorf("client %+v was made", c)
		}
	}
}

// TestEverythingIsRenewedInTheMiddleOfAStream changes the certificates of both
// sides and their authority, while a stream is open.
func TestEverythingIsRenewedInTheMiddleOfAStream(t *testing.T) {
	old, next := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	server := tlsxtest.Files(t, old.Issue([]string{"127.0.0.1"}), old)
	client := tlsxtest.Files(t, old.Issue([]string{"gateway"}), old)
	more := make(chan struct{})
	addr, log := serveTCP(t, serverOf(server), &chat{send: ok, watch: func(_ *axpchatv1.WatchEventsRequest, s grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
		for range more {
			if err := s.Send(&axpchatv1.WatchEventsResponse{}); err != nil {
				return err
			}
		}
		return nil
	}}, grpcx.OnlyCallers([]string{"gateway"}))
	conn, _ := dialTCP(t, addr, clientOf(client))
	stream, err := axpchatv1.NewChatServiceClient(conn).WatchEvents(patient(t), &axpchatv1.WatchEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	receive := func() {
		t.Helper()
		select {
		case more <- struct{}{}:
		case <-stream.Context().Done():
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatalf("the stream broke: %v", err)
		}
	}
	receive()
	// It reads its files now, and connects later.
	later, _ := dialTCP(t, addr, clientOf(client))
	left := tlsxtest.Files(t, old.Issue([]string{"gateway"}), old, next) // was not told of the change

	tlsxtest.Write(t, server, next.Issue([]string{"127.0.0.1"}), next)
	tlsxtest.Write(t, client, next.Issue([]string{"gateway"}), next)
	receive()
	if err := send(t, later); err != nil {
		t.Errorf("a client made before the change: %v", err)
	}
	fresh, _ := dialTCP(t, addr, clientOf(client))
	if err := send(t, fresh); err != nil {
		t.Errorf("a client made after the change: %v", err)
	}
	behind, _ := dialTCP(t, addr, clientOf(left))
	if err := send(t, behind); !errs.HasReason(err, unavailable) {
		t.Errorf("a client of the authority that is gone: %v", err)
	}
	if err := send(t, conn); err != nil {
		t.Errorf("the open connection takes no calls: %v", err)
	}
	receive()
	close(more)
	if _, err := stream.Recv(); err != io.EOF { //nolint:errorlint // exactly that
		t.Errorf("got %v", err)
	}
	if lines := log.Named(t, "certificates read anew"); len(lines) == 0 {
		t.Errorf("the server did not tell: %s", log.String())
	}
}

func TestOnlyCallersOfARightNameGetIn(t *testing.T) {
	a := tlsxtest.NewAuthority(t)
	cases := []struct {
		name  string
		certs []string
		in    bool
		log   string
	}{
		{"the gateway", []string{"gateway"}, true, ""},
		{"by one of several names", []string{"pod-1.chat.svc", "GATEWAY"}, true, ""},
		{"by its workload's identity", []string{"spiffe://cluster.local/ns/chat/sa/gateway"}, true, ""},
		{"another service", []string{"webhook-ingest"}, false, "the caller's certificate is of webhook-ingest, allowed are gateway, spiffe://cluster.local/ns/chat/sa/gateway"},
		{"a name around the right one", []string{"gateway.example.com", "*"}, false, "is of gateway.example.com, *,"},
		{"a certificate without a name", nil, false, "is of nobody"},
	}
	links := grpcx.OnlyCallers([]string{"gateway", "spiffe://cluster.local/ns/chat/sa/gateway"})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			addr, log := serveTCP(t, serverOf(tlsxtest.Files(t, a.Issue([]string{"127.0.0.1"}), a)), &chat{send: ok, watch: nothing}, links)
			conn, _ := dialTCP(t, addr, clientOf(tlsxtest.Files(t, a.Issue(c.certs), a)))
			calls := map[string]error{"call": send(t, conn)}
			stream, err := axpchatv1.NewChatServiceClient(conn).WatchEvents(patient(t), &axpchatv1.WatchEventsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err = stream.Recv(); err == io.EOF { //nolint:errorlint // exactly that
				err = nil
			}
			calls["stream"] = err
			_, calls["health"] = healthpb.NewHealthClient(conn).Check(patient(t), &healthpb.HealthCheckRequest{})
			for kind, err := range calls {
				if c.in != (err == nil) || err != nil && (!errs.HasReason(err, unavailable) || !strings.Contains(err.Error(), "the caller's certificate")) {
					t.Errorf("%s: got %v", kind, err)
				}
			}
			if lines := log.Named(t, "call failed"); !c.in && (len(lines) != 3 || !strings.Contains(lines[0]["error"].(string), c.log)) {
				t.Errorf("got %s", log.String())
			}
		})
	}
}

func nothing(*axpchatv1.WatchEventsRequest, grpc.ServerStreamingServer[axpchatv1.WatchEventsResponse]) error {
	return nil
}

func TestWithoutCertificatesNobodyHasAName(t *testing.T) {
	a := tlsxtest.NewAuthority(t)
	links := grpcx.OnlyCallers([]string{"gateway"})
	for name, c := range map[string]struct {
		server grpcx.ServerConfig
		client grpcx.ClientConfig
	}{
		"in the open": {},
		"TLS that asks for no certificate": {
			serverOf(tlsxtest.Files(t, a.Issue([]string{"127.0.0.1"}))), clientOf(tlsxtest.Files(t, a.Issue([]string{"gateway"}), a)),
		},
	} {
		addr, _ := serveTCP(t, c.server, &chat{send: ok}, links)
		conn, _ := dialTCP(t, addr, c.client)
		if err := send(t, conn); !errs.HasReason(err, unavailable) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAConnectionThatSaysNothingIsClosed(t *testing.T) {
	a := tlsxtest.NewAuthority(t)
	for name, cfg := range map[string]grpcx.ServerConfig{
		"in the open": {}, "before TLS": serverOf(tlsxtest.Files(t, a.Issue([]string{"127.0.0.1"}))),
	} {
		t.Run(name, func(t *testing.T) {
			cfg.HandshakeTimeout = 100 * time.Millisecond
			addr, _ := serveTCP(t, cfg, &chat{})
			conn, err := net.DialTimeout("tcp", addr, patience)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(patience))
			// What a server of HTTP/2 says first may come; then the end must.
			if _, err := io.Copy(io.Discard, conn); os.IsTimeout(err) {
				t.Error("the connection is held for as long as its owner likes")
			}
		})
	}
}

func TestAConnectionWithoutCallsIsClosedAndNobodyNotices(t *testing.T) {
	addr, _ := serveTCP(t, grpcx.ServerConfig{MaxConnectionIdle: 50 * time.Millisecond}, &chat{send: ok})
	conn, _ := dialTCP(t, addr, grpcx.ClientConfig{})
	if err := send(t, conn); err != nil {
		t.Fatal(err)
	}
	for state := conn.GetState(); ; state = conn.GetState() {
		if state.String() == "IDLE" {
			break
		}
		if !conn.WaitForStateChange(patient(t), state) {
			t.Fatal("the connection is kept")
		}
	}
	if err := send(t, conn); err != nil {
		t.Errorf("got %v", err)
	}
}
