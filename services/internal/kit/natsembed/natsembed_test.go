package natsembed_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/axpchat/connector/services/internal/kit/natsembed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(tb testing.TB, dir string, opts natsembed.Options) *natsembed.Server {
	tb.Helper()
	s, err := natsembed.Start(dir, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Shutdown)
	return s
}

func connect(tb testing.TB, s *natsembed.Server) (*nats.Conn, jetstream.JetStream) {
	tb.Helper()
	nc, err := s.Connect(nats.Name("test"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	return nc, js
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	tb.Cleanup(cancel)
	return ctx
}

func TestDataOutlivesARestart(t *testing.T) {
	ctx, dir := testContext(t), t.TempDir()
	first := start(t, dir, natsembed.Options{})
	nc, js := connect(t, first)
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		ack, err := js.Publish(ctx, "s.a", fmt.Append(nil, i))
		if err != nil || ack.Sequence != uint64(i+1) {
			t.Fatalf("publish: %+v %v", ack, err)
		}
	}
	nc.Close()
	first.Shutdown()
	first.Shutdown() // a second call does nothing

	_, js = connect(t, start(t, dir, natsembed.Options{}))
	stream, err := js.Stream(ctx, "S")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetLastMsgForSubject(ctx, "s.a")
	if err != nil || msg.Sequence != 3 || string(msg.Data) != "2" {
		t.Fatalf("got %+v %v", msg, err)
	}
}

func TestADirectoryHasOneServer(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir, natsembed.Options{})
	if _, err := natsembed.Start(dir, natsembed.Options{}); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("got %v", err)
	}
	first.Shutdown()
	start(t, dir, natsembed.Options{})
}

func TestAFailedStartGivesTheDirectoryFree(t *testing.T) {
	dir := t.TempDir()
	for _, listen := range []string{"nonsense", "127.0.0.1:http", "127.0.0.1:70000"} {
		if _, err := natsembed.Start(dir, natsembed.Options{Listen: listen}); err == nil {
			t.Fatalf("%s: started", listen)
		}
	}
	if _, err := natsembed.Start("", natsembed.Options{}); err == nil {
		t.Fatal("started without a directory")
	}
	start(t, dir, natsembed.Options{})
}

func TestListening(t *testing.T) {
	silent := start(t, t.TempDir(), natsembed.Options{})
	if got := silent.ClientURL(); got != "" {
		t.Errorf("a server without a listener has the URL %s", got)
	}
	var out bytes.Buffer
	s := start(t, t.TempDir(), natsembed.Options{
		Name: "listening", Listen: "127.0.0.1:0", SyncInterval: time.Minute, MaxStore: 1 << 20, MaxMemory: 1 << 20,
		Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if got := nc.ConnectedServerName(); got != "listening" {
		t.Errorf("name: %s", got)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	// The limit of the store is what JetStream may reserve.
	_, err = js.CreateStream(testContext(t), jetstream.StreamConfig{Name: "BIG", Subjects: []string{"b"}, MaxBytes: 2 << 20})
	if err == nil || !strings.Contains(err.Error(), "insufficient storage") {
		t.Errorf("a stream above the limit: %v", err)
	}
	s.Shutdown()
	if out.Len() > 0 {
		t.Errorf("warnings: %s", out.String())
	}
}
