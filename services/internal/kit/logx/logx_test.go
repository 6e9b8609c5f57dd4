package logx_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/logx"
)

func TestRecordsCarryServiceAndTrace(t *testing.T) {
	var out strings.Builder
	logger := logx.New(&out, logx.Config{}, "gateway").With("a", 1)
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	logger.InfoContext(trace.ContextWithSpanContext(context.Background(), span), "hello", "key", config.Secret("hidden"))
	var got map[string]any
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"service": "gateway", "msg": "hello", "level": "INFO", "a": 1.0, "key": "***",
		"trace_id": "01000000000000000000000000000000", "span_id": "0200000000000000",
	} {
		if got[key] != want {
			t.Errorf("%s: got %v, want %v", key, got[key], want)
		}
	}
}

func TestRecordsWithoutASpanHaveNoTrace(t *testing.T) {
	var out strings.Builder
	logx.New(&out, logx.Config{Format: "text"}, "gateway").WithGroup("g").Info("hello", "a", 1)
	if got := out.String(); strings.Contains(got, "trace_id") || !strings.Contains(got, "service=gateway g.a=1") {
		t.Fatal(got)
	}
}

func TestLevels(t *testing.T) {
	for level, want := range map[string]slog.Level{
		"debug": slog.LevelDebug, "": slog.LevelInfo, "INFO": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError, "loud": slog.LevelInfo,
	} {
		logger := logx.New(&strings.Builder{}, logx.Config{Level: level}, "s")
		ctx := context.Background()
		if !logger.Enabled(ctx, want) || logger.Enabled(ctx, want-1) {
			t.Errorf("%q: want exactly from %s", level, want)
		}
	}
	if logx.Discard().Enabled(context.Background(), slog.LevelError) {
		t.Error("Discard logs")
	}
}

func TestUnknownNamesAreMistakes(t *testing.T) {
	var cfg logx.Config
	err := config.Load(&cfg, config.Map(map[string]string{"LOG_LEVEL": "loud", "LOG_FORMAT": "xml"}))
	if err == nil || !strings.Contains(err.Error(), "LOG_LEVEL: is not one of") || !strings.Contains(err.Error(), "LOG_FORMAT: is not one of") {
		t.Fatalf("got %v", err)
	}
	if err := config.Load(&cfg, config.Map(nil)); err == nil {
		t.Error("what Load has set before is kept, so it is still wrong")
	}
	cfg = logx.Config{}
	if err := config.Load(&cfg, config.Map(nil)); err != nil || cfg != (logx.Config{Level: "info", Format: "json"}) {
		t.Fatalf("%+v %v", cfg, err)
	}
}

func TestSparse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf strings.Builder
		log := logx.Sparse(logx.New(&buf, logx.Config{Level: "warn"}, "s"), 10*time.Second)
		lines := func() []string {
			defer buf.Reset()
			return strings.Split(strings.TrimSpace(buf.String()), "\n")
		}
		log.Info("below the level, and not counted")
		for range 1000 {
			log.With("a", 1).WithGroup("g").Warn("flood")
		}
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], `"flood"`) || strings.Contains(got[0], "left_out") {
			t.Errorf("got %q", got)
		}
		time.Sleep(10 * time.Second) //nolint:forbidigo // the bubble's clock
		log.Warn("again")
		log.Warn("again")
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], `"left_out":999`) {
			t.Errorf("got %q", got)
		}
		time.Sleep(time.Hour) //nolint:forbidigo // the bubble's clock
		log.Warn("much later")
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], `"left_out":1`) {
			t.Errorf("got %q", got)
		}
	})
}
