package ingest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/axpchat/connector/services/internal/kit/logx"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
)

const wrongKey = "/webhooks/axp/" + account + "/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// raw is a connection of which a test decides every byte. What the service says is
// waited for with patience.
type raw struct {
	net.Conn
	*bufio.Reader
}

func (s *service) connect() *raw {
	s.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", s.Addr())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	return &raw{Conn: conn, Reader: bufio.NewReader(conn)}
}

func (r *raw) Read(p []byte) (int, error) { return r.Reader.Read(p) }

// says sends text and returns the status that it is answered with.
func (r *raw) says(t testing.TB, text string) *http.Response {
	t.Helper()
	if _, err := io.WriteString(r.Conn, text); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(r.Reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res
}

// ends waits for the end of the connection.
func (r *raw) ends(t testing.TB) {
	t.Helper()
	var timeout net.Error
	if _, err := io.Copy(io.Discard, r.Reader); errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the connection is held")
	}
}

func TestAFloodOfWrongKeysCostsLittle(t *testing.T) {
	s := start(t, nil)
	conn := s.connect()
	call := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", wrongKey)
	const calls = 500
	for range calls {
		// On one connection all along: another one would cost more than the answer.
		if res := conn.says(t, call); res.StatusCode != http.StatusNotFound || res.Close {
			t.Fatalf("got %d, closed %v", res.StatusCode, res.Close)
		}
	}
	if res := conn.says(t, "GET /anything/else HTTP/1.1\r\nHost: x\r\n\r\n"); res.StatusCode != http.StatusNotFound || res.Close {
		t.Errorf("got %d, closed %v", res.StatusCode, res.Close)
	}
	logs := s.logs.String()
	if n := strings.Count(logs, "\n"); n != strings.Count(logs, "call turned away") || n == 0 || n > 5 {
		t.Errorf("%d lines for %d calls: %.500s", n, calls, logs)
	}
	if strings.Contains(logs, "AAAA") || strings.Contains(logs, account) {
		t.Errorf("what strangers send is in the log: %.500s", logs)
	}
	metrics := s.metrics()
	for _, want := range []string{fmt.Sprintf(`axpchat_webhook_events_total{.*result="wrong-key",type="NONE"} %d`, calls), `axpchat_webhook_events_total{.*result="wrong-path",type="NONE"} 1`} {
		if !matches(metrics, want) {
			t.Errorf("no %s in:\n%s", want, axpchatLines(metrics))
		}
	}
	s.nothingStored()
	s.accepted(message(s.ours(), ""))
}

func TestWhatAStrangerSendsIsNotRead(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_READ_TIMEOUT": "3s"})
	for name, head := range map[string]string{
		"much":           "Content-Length: 1000000",
		"without an end": "Transfer-Encoding: chunked",
		"on demand":      "Content-Length: 1000000\r\nExpect: 100-continue",
	} {
		t.Run(name, func(t *testing.T) {
			conn := s.connect()
			// Nothing of the body comes, and the answer does not wait for it.
			if res := conn.says(t, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", wrongKey, head)); res.StatusCode != http.StatusNotFound || !res.Close {
				t.Errorf("got %d, closed %v", res.StatusCode, res.Close)
			}
			began := time.Now()
			if conn.ends(t); time.Since(began) > 2*time.Second {
				t.Errorf("the connection was held for %s", time.Since(began))
			}
		})
	}
}

// TestSlowStrangersHoldNobodyUp lets connections with incomplete requests stand
// beside a good call.
func TestSlowStrangersHoldNobodyUp(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_MAX_CONCURRENT": "1", "WEBHOOK_READ_TIMEOUT": "1s", "HTTP_READ_HEADER_TIMEOUT": "1s"})
	var slow []*raw
	for range 20 {
		for _, text := range []string{
			"", "POST ", "POST " + wrongKey + " HTTP/1.1\r\nHost: x\r\nX-Slow: ",
			"POST " + wrongKey + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
		} {
			conn := s.connect()
			if _, err := io.WriteString(conn.Conn, text); err != nil {
				t.Fatal(err)
			}
			slow = append(slow, conn)
		}
	}
	for i := range 10 {
		s.accepted(message(s.ours(), fmt.Sprintf(`,"n":%d`, i)))
	}
	for i, conn := range slow {
		if i%4 == 0 {
			continue // says nothing, and is idle for HTTP_IDLE_TIMEOUT at most
		}
		conn.ends(t)
	}
}

func TestAnIdleConnectionIsClosed(t *testing.T) {
	s := start(t, map[string]string{"HTTP_IDLE_TIMEOUT": "50ms"})
	conn := s.connect()
	if res := conn.says(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); res.Close {
		t.Error("closed at once")
	}
	conn.ends(t)
}

// secure makes the test's client use TLS with the files of the moment.
func (s *service) secure(f tlsx.Files) {
	s.t.Helper()
	source, err := tlsx.Open(f, logx.Discard())
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: source.Client("127.0.0.1")}
	s.client = &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// call posts a callback over TLS.
func (s *service) call(ctx context.Context) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.Addr()+s.path(), strings.NewReader(message(s.ours(), "")))
	if err != nil {
		return 0, err
	}
	res, err := s.client.Do(r)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

func TestOnlyAXPsCertificateGetsIn(t *testing.T) {
	own, axp, next := tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t), tlsxtest.NewAuthority(t)
	f := tlsxtest.Files(t, own.Issue([]string{"127.0.0.1"}), axp)
	s := start(t, map[string]string{
		"WEBHOOK_TLS_CERT_FILE": f.Cert, "WEBHOOK_TLS_KEY_FILE": f.Key, "WEBHOOK_TLS_CLIENT_CA_FILE": f.CA,
		"WEBHOOK_TLS_CLIENT_NAMES": "callbacks.example.com",
	})
	try := func(who string, pair tlsxtest.Pair, in bool) {
		t.Helper()
		s.secure(tlsxtest.Files(t, pair, own))
		if status, err := s.call(t.Context()); (err == nil && status == http.StatusOK) != in {
			t.Errorf("%s: %d, %v", who, status, err)
		}
	}
	right := axp.Issue([]string{"callbacks.example.com"})
	try("AXP", right, true)
	try("nobody", tlsxtest.Pair{}, false)
	try("another one of AXP's authority", axp.Issue([]string{"other.example.com"}), false)
	try("AXP of an authority that we do not know yet", next.Issue([]string{"callbacks.example.com"}), false)
	tlsxtest.Write(t, f, tlsxtest.Pair{}, next)
	try("AXP after the change", next.Issue([]string{"callbacks.example.com"}), true)
	try("AXP before the change", right, false)
	if !strings.Contains(s.logs.String(), `TLS handshake error`) || strings.Contains(s.logs.String(), "127.0.0.1:") {
		t.Errorf("the log does not tell, or tells too much: %s", s.logs.String())
	}
}
