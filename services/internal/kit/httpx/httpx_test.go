package httpx_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/internal/kit/httpx"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// After refusing a request, net/http keeps the connection for half a
		// second, so that the client gets to read why.
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// patience bounds what never takes this long.
const patience = 20 * time.Second

// problem is the body of a failure.
type problem struct {
	Type, Title, Detail, Instance, Reason, RequestID string
	Status                                           int
}

func decode(t testing.TB, body io.Reader) problem {
	t.Helper()
	var p problem
	if err := json.NewDecoder(body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	return p
}

// call runs a request through the handler without a server.
func call(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func patient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// fixture is a server that runs.
type fixture struct {
	server *httpx.Server
	client *http.Client
	log    *logtest.Records
	url    string
	stop   func()
}

func start(t testing.TB, h http.Handler, cfg httpx.ServerConfig) *fixture {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{log: &logtest.Records{}}
	f.server = httpx.NewServer("test", lis, h, cfg, f.log.Logger())
	f.url = "http://" + f.server.Addr()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- f.server.Run(ctx) }()
	transport := &http.Transport{}
	f.client = &http.Client{Transport: transport}
	f.stop = sync.OnceFunc(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(f.stop)
	return f
}

func (f *fixture) do(t testing.TB, ctx context.Context, method string, body io.Reader) (*http.Response, error) { //nolint:revive // t comes first in helpers
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, f.url, body)
	if err != nil {
		t.Fatal(err)
	}
	return f.client.Do(r)
}
