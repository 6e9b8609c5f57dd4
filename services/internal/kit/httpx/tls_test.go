package httpx_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
)

// serveTLS runs a server with the files.
func serveTLS(t testing.TB, f tlsx.Files, clients []string, cfg httpx.ServerConfig, h http.Handler) (addr string, log *logtest.Records) {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log = &logtest.Records{}
	if lis, err = httpx.Secure(lis, f, clients, log.Logger()); err != nil {
		t.Fatal(err)
	}
	server := httpx.NewServer("test", lis, h, cfg, log.Logger())
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return server.Addr(), log
}

// browser makes one request on a connection of its own.
func browser(t testing.TB, addr string, f tlsx.Files) (*http.Response, error) {
	t.Helper()
	source, err := tlsx.Open(f, logx.Discard())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: source.Client("127.0.0.1"), DisableKeepAlives: true}
	r, err := http.NewRequestWithContext(patient(t), http.MethodGet, "https://"+addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	return transport.RoundTrip(r)
}

func TestSecureWithoutFilesIsTheListenerItself(t *testing.T) {
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	if got, err := httpx.Secure(lis, tlsx.Files{}, nil, logx.Discard()); err != nil || got != lis {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := httpx.Secure(lis, tlsx.Files{Cert: "missing", Key: "missing"}, nil, logx.Discard()); err == nil {
		t.Error("files that are not there were taken")
	}
	for key, files := range map[string]httpx.TLSConfig{"HTTP_TLS_KEY_FILE": {CertFile: "c"}, "HTTP_TLS_CERT_FILE": {KeyFile: "k"}} {
		if got := files.Validate(); len(got) != 1 || got[0].Key != key {
			t.Errorf("got %v, want %s", got, key)
		}
	}
	var cfg httpx.TLSConfig
	if err := config.Load(&cfg, config.Map(map[string]string{"HTTP_TLS_CERT_FILE": "c", "HTTP_TLS_KEY_FILE": "k"})); err != nil || cfg.Files() != (tlsx.Files{Cert: "c", Key: "k"}) {
		t.Errorf("got %+v, %v", cfg, err)
	}
}

// TestTheCertificateIsRenewedInTheMiddleOfAStream holds an answer open while the
// server's certificate changes.
func TestTheCertificateIsRenewedInTheMiddleOfAStream(t *testing.T) {
	old, next := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	f := tlsxtest.Files(t, old.Issue([]string{"127.0.0.1"}))
	more := make(chan struct{})
	addr, _ := serveTLS(t, f, nil, httpx.ServerConfig{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.URL.Path == "/stream" {
			select {
			case <-more:
				_, _ = io.WriteString(w, "line\n")
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	trusting := func(a *tlsxtest.Authority) tlsx.Files { return tlsxtest.Files(t, tlsxtest.Pair{}, a) }
	go func() { more <- struct{}{} }()
	stream, err := browser(t, addr+"/stream", trusting(old))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Body.Close() }()
	lines := bufio.NewReader(stream.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	tlsxtest.Write(t, f, next.Issue([]string{"127.0.0.1"}))
	res, err := browser(t, addr, trusting(next))
	if err != nil {
		t.Fatalf("the new certificate is not in use: %v", err)
	}
	_ = res.Body.Close()
	if res.ProtoMajor != 1 {
		t.Errorf("got %s", res.Proto)
	}
	if _, err := browser(t, addr, trusting(old)); err == nil {
		t.Error("the old certificate is in use")
	}
	more <- struct{}{}
	if _, err := lines.ReadString('\n'); err != nil {
		t.Errorf("the stream broke: %v", err)
	}
}

func TestOnlyClientsWithARightCertificateGetIn(t *testing.T) {
	own, partner := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	f := tlsxtest.Files(t, own.Issue([]string{"127.0.0.1"}), partner)
	called := false
	addr, log := serveTLS(t, f, []string{"callbacks.example.com"}, httpx.ServerConfig{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		called = true
	}))
	for _, c := range []struct {
		name string
		pair tlsxtest.Pair
		in   bool
	}{
		{"the partner", partner.Issue([]string{"callbacks.example.com"}), true},
		{"another one of the partner's authority", partner.Issue([]string{"else.example.com"}), false},
		{"somebody of a foreign authority", own.Issue([]string{"callbacks.example.com"}), false},
		{"the partner of yesterday", partner.Issue([]string{"callbacks.example.com"}, tlsxtest.Expired), false},
		{"nobody", tlsxtest.Pair{}, false},
	} {
		called = false
		res, err := browser(t, addr, tlsxtest.Files(t, c.pair, own))
		if err == nil {
			_ = res.Body.Close()
		}
		if (err == nil) != c.in || called != c.in {
			t.Errorf("%s: %v, called %v", c.name, err, called)
		}
	}
	// Four handshakes failed; strangers could make them by the thousand.
	if lines := log.Named(t, "HTTP connection"); len(lines) != 1 || !strings.Contains(lines[0]["error"].(string), `the client's certificate is of ["else.example.com"]`) {
		t.Errorf("got %s", log.String())
	}
}

func TestASilentConnectionIsClosed(t *testing.T) {
	secure := tlsxtest.Files(t, tlsxtest.NewAuthority(t).Issue([]string{"127.0.0.1"}))
	for _, c := range []struct {
		name  string
		files tlsx.Files
		says  string
	}{
		{"that says nothing at all, for which TLS waits", secure, ""},
		{"that begins a handshake", secure, "\x16\x03\x01\x02\x00\x01"},
		{"that begins a request", tlsx.Files{}, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, _ := serveTLS(t, c.files, nil, httpx.ServerConfig{ReadHeaderTimeout: 100 * time.Millisecond}, http.NotFoundHandler())
			conn, err := (&net.Dialer{}).DialContext(patient(t), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, c.says); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			var timeout net.Error
			if _, err := io.Copy(io.Discard, conn); errors.As(err, &timeout) && timeout.Timeout() {
				t.Error("the connection is held for as long as its owner likes")
			}
		})
	}
}

func TestFaultsOfConnectionsHoldNoAddress(t *testing.T) {
	f := tlsxtest.Files(t, tlsxtest.NewAuthority(t).Issue([]string{"127.0.0.1"}))
	addr, log := serveTLS(t, f, nil, httpx.ServerConfig{ReadHeaderTimeout: 50 * time.Millisecond}, http.NotFoundHandler())
	conn, err := (&net.Dialer{}).DialContext(patient(t), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Read(make([]byte, 1)) // until the server gives up
	got := log.Await(t, "HTTP connection")[0]["error"].(string)
	if got != "http: TLS handshake error: read: i/o timeout" {
		t.Errorf("got %q", got)
	}
	if host, port, _ := net.SplitHostPort(conn.LocalAddr().String()); strings.Contains(log.String(), host) || strings.Contains(log.String(), port) {
		t.Errorf("an address is logged: %s", log.String())
	}
}
