package logx

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/grpclog"
)

type record struct{ Level, Msg, Text, Service string }

// TestGRPCWritesToOurLog: what grpc-gateway says of a header that can't be read.
func TestGRPCWritesToOurLog(t *testing.T) {
	var taken strings.Builder
	TakeGRPC(New(&taken, Config{}, "s"))
	defer TakeGRPC(Discard())
	r := httptest.NewRequest(http.MethodPost, "/", http.NoBody)
	r.Header["Content-Type"] = []string{"secret-words;;"}
	runtime.MarshalerForRequest(runtime.NewServeMux(), r)
	grpclog.Component("core").Info("chatter")
	var got record
	if err := json.Unmarshal([]byte(taken.String()), &got); err != nil {
		t.Fatalf("%q: %v", taken.String(), err)
	}
	want := record{"ERROR", grpcMessage, "Failed to parse Content-Type …: mime: invalid media parameter", "s"}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestGRPCShowsNothingOfClients(t *testing.T) {
	cut := &net.OpError{
		Op: "write", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 8080},
		Addr: &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 4711}, Err: errors.New("broken pipe"),
	}
	core := func(f func(c grpclog.DepthLoggerV2)) func(grpcLogger) {
		return func(l grpcLogger) {
			grpclog.SetLoggerV2(l)
			f(grpclog.Component("core"))
		}
	}
	defer TakeGRPC(Discard())
	for _, c := range []struct {
		name        string
		say         func(l grpcLogger)
		level, text string
	}{
		{"a client that has gone", func(l grpcLogger) { l.Errorf("Failed to flush response to client: %v", cut) },
			"ERROR", "Failed to flush response to client: write tcp …->…: broken pipe"},
		{"a client's header", core(func(c grpclog.DepthLoggerV2) {
			c.Warningf("Failed to decode metadata header (%q, %q): %v", "x-bin", `a"b`, io.ErrUnexpectedEOF)
		}), "WARN", "[core] Failed to decode metadata header (…, …): unexpected EOF"},
		{"a status that repeats a message", core(func(c grpclog.DepthLoggerV2) {
			c.Errorf("Failed to marshal rpc status: %s, error: %v", "{\n \"message\": \"words\"}", io.EOF)
		}), "ERROR", "[core] Failed to marshal rpc status: …, error: EOF"},
		{"an address behind a name", core(func(c grpclog.DepthLoggerV2) { c.Warning("from [::1]:80 and 1.2.3.4, too") }),
			"WARN", "[core] from … and …, too"},
		{"a long text", func(l grpcLogger) { l.Warning(strings.Repeat("x", 1000)) }, "WARN", strings.Repeat("x", grpcTextMax) + omitted},
		{"an end", func(l grpcLogger) { l.Fatal("no way on") }, "ERROR", "no way on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			l, code := newGRPCLogger(New(&out, Config{}, "s")), 0
			l.exit = func(c int) { code = c }
			c.say(l)
			var got record
			if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
				t.Fatalf("%q: %v", out.String(), err)
			}
			if got.Level != c.level || got.Text != c.text {
				t.Errorf("got %s %q, want %s %q", got.Level, got.Text, c.level, c.text)
			}
			if (code == 1) != (c.name == "an end") {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestAFloodOfWarningsHidesNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		l := newGRPCLogger(New(&out, Config{}, "s"))
		for range 1000 {
			l.Warning("flood")
		}
		l.Error("one")
		time.Sleep(grpcEvery) //nolint:forbidigo // the bubble's clock
		l.Warning("later")
		got := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(got) != 3 || !strings.Contains(got[1], `"one"`) || !strings.Contains(got[2], `"left_out":999`) {
			t.Errorf("got %q", got)
		}
	})
}
