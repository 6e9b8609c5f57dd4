package httpx_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
)

func TestServerConfig(t *testing.T) {
	var got httpx.ServerConfig
	if err := config.Load(&got, config.Map(nil)); err != nil {
		t.Fatal(err)
	}
	want := httpx.ServerConfig{ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: 75 * time.Second, MaxHeaderBytes: 32 << 10}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, httpx.ServerConfig{}.WithDefaults()); diff != "" {
		t.Errorf("zero values stand for other defaults: %s", diff)
	}
	for key, value := range map[string]string{
		"HTTP_READ_HEADER_TIMEOUT": "-1s", "HTTP_READ_TIMEOUT": "-1s", "HTTP_IDLE_TIMEOUT": "-1s", "HTTP_MAX_HEADER_BYTES": "2GiB",
	} {
		var mistakes config.Errors
		err := config.Load(&httpx.ServerConfig{}, config.Map(map[string]string{key: value}))
		if !errors.As(err, &mistakes) || len(mistakes) != 1 || mistakes[0].Key != key {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

func TestDrainWaitsForRequests(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	f := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = io.WriteString(w, "done")
	}), httpx.ServerConfig{})
	answer := make(chan string, 1)
	go func() {
		resp, err := f.do(t, patient(t), http.MethodGet, nil)
		if err != nil {
			answer <- err.Error()
			return
		}
		data, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		answer <- string(data)
	}()
	<-entered
	told := make(chan struct{})
	f.server.OnDrain(func() { close(told) })
	drained := make(chan error, 1)
	go func() { drained <- f.server.Drain(patient(t)) }()
	<-told
	select {
	case err := <-drained:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(leave)
	if got := <-answer; got != "done" {
		t.Errorf("got %q", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if resp, err := f.do(t, patient(t), http.MethodGet, nil); err == nil {
		_ = resp.Body.Close()
		t.Error("it still accepts")
	}
	late := false
	f.server.OnDrain(func() { late = true })()
	if !late {
		t.Error("who comes too late must be told at once")
	}
}

// socket is a WebSocket handler that lives until the server drains, or until its
// context ends when it is deaf.
func socket(server func() *httpx.Server, deaf bool, ended chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			ended <- err
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		if !deaf {
			defer server().OnDrain(cancel)()
		}
		// Not with ctx: the drain may begin when the client has the text but Write
		// has not returned yet, and what ends during a write cuts the connection.
		err = c.Write(r.Context(), websocket.MessageText, []byte("hello"))
		<-ctx.Done()
		if r.Context().Err() == nil {
			err = c.Close(websocket.StatusGoingAway, "bye")
		} else {
			_ = c.CloseNow()
		}
		ended <- err
	})
}

func dialSocket(t testing.TB, f *fixture) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(patient(t), f.url, &websocket.DialOptions{HTTPClient: f.client})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	if _, data, err := c.Read(patient(t)); err != nil || string(data) != "hello" {
		t.Fatalf("got %q, %v", data, err)
	}
	return c
}

func TestDrainTellsWebSocketsAndWaitsForThem(t *testing.T) {
	var f *fixture
	ended := make(chan error, 1)
	f = start(t, socket(func() *httpx.Server { return f.server }, false, ended), httpx.ServerConfig{})
	c := dialSocket(t, f)
	drained := make(chan error, 1)
	go func() { drained <- f.server.Drain(patient(t)) }()
	if _, _, err := c.Read(patient(t)); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("got %v", err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	default:
		t.Error("it did not wait")
	}
}

func TestDrainCutsOffWhatDoesNotEnd(t *testing.T) {
	t.Run("WebSockets", func(t *testing.T) {
		ended := make(chan error, 1)
		f := start(t, socket(nil, true, ended), httpx.ServerConfig{})
		dialSocket(t, f)
		ctx, cancel := context.WithTimeout(patient(t), 50*time.Millisecond)
		defer cancel()
		if err := f.server.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Run("requests", func(t *testing.T) {
		entered, ended := make(chan struct{}), make(chan struct{})
		f := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
			close(ended)
		}), httpx.ServerConfig{})
		failed := make(chan error, 1)
		go func() {
			resp, err := f.do(t, patient(t), http.MethodGet, nil)
			if err == nil {
				_ = resp.Body.Close()
			}
			failed <- err
		}()
		<-entered
		ctx, cancel := context.WithTimeout(patient(t), 50*time.Millisecond)
		defer cancel()
		if err := f.server.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		<-ended
		if err := <-failed; err == nil {
			t.Error("the client must notice")
		}
	})
}

func TestTheServerInALifecycle(t *testing.T) {
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := &logtest.Records{}
	s := httpx.NewServer("http", lis, httpx.NotFound(), httpx.ServerConfig{}, log.Logger())
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- lifecycle.Run(ctx, log.Logger(), patience, s) }()
	f := &fixture{url: "http://" + s.Addr(), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	resp, err := f.do(t, patient(t), http.MethodGet, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := decode(t, resp.Body); resp.StatusCode != http.StatusNotFound || p.Reason != "NOT_FOUND" {
		t.Errorf("got %d %+v", resp.StatusCode, p)
	}
	_ = resp.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRunReportsABrokenListener(t *testing.T) {
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpx.NewServer("broken", lis, httpx.NotFound(), httpx.ServerConfig{}, (&logtest.Records{}).Logger())
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Run(patient(t)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if s.Name() != "broken" || s.Ready(t.Context()) != nil {
		t.Error("name or readiness is wrong")
	}
}

func TestLimitsOfTheHead(t *testing.T) {
	f := start(t, httpx.NotFound(), httpx.ServerConfig{ReadHeaderTimeout: 50 * time.Millisecond, MaxHeaderBytes: 1 << 10})
	r, err := http.NewRequestWithContext(patient(t), http.MethodGet, f.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Large", strings.Repeat("x", 16<<10))
	resp, err := f.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d", resp.StatusCode)
	}
	conn, err := (&net.Dialer{}).DialContext(patient(t), "tcp", f.server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	// The server gives up and closes.
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err)
	}
}
