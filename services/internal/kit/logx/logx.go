// Package logx owns how the suite writes logs: one slog handler, JSON or text,
// with the service's name on every record and the trace of the context where
// there is one.
//
// A logger is always passed in; the package sets no default logger. It hides
// nothing by itself: what must not be in a log (texts, names, identifiers,
// tokens, secrets) must not be given to a logger. It is called by the mains and
// by tests.
package logx

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Config says what is logged, and how.
type Config struct {
	Level  string `env:"LOG_LEVEL" default:"info" doc:"Least level that is logged: debug, info, warn or error."`
	Format string `env:"LOG_FORMAT" default:"json" doc:"Form of a record: json or text."`
}

// Validate checks the names of level and format.
func (c Config) Validate() []config.Mistake {
	var out []config.Mistake
	if _, ok := level(c.Level); !ok {
		out = append(out, config.Mistake{Key: "LOG_LEVEL", Problem: "is not one of debug, info, warn, error"})
	}
	switch strings.ToLower(c.Format) {
	case "", "json", "text":
	default:
		out = append(out, config.Mistake{Key: "LOG_FORMAT", Problem: "is not one of json, text"})
	}
	return out
}

// New returns a logger that writes to w. Every record has the attribute service;
// a record with the context of a span has trace_id and span_id too. The zero
// Config gives JSON from level info; unknown names count as that as well, since
// [Config.Validate] has refused them before. The logger is safe for concurrent
// use if the writes of w are atomic, as those of a file are.
func New(w io.Writer, cfg Config, service string) *slog.Logger {
	lowest, _ := level(cfg.Level)
	opts := &slog.HandlerOptions{Level: lowest}
	var h slog.Handler = slog.NewJSONHandler(w, opts)
	if strings.EqualFold(cfg.Format, "text") {
		h = slog.NewTextHandler(w, opts)
	}
	return slog.New(traced{h}).With("service", service)
}

// Discard returns a logger that writes nothing.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func level(name string) (slog.Level, bool) {
	switch strings.ToLower(name) {
	case "debug":
		return slog.LevelDebug, true
	case "", "info":
		return slog.LevelInfo, true
	case "warn", "warning":
		return slog.LevelWarn, true
	case "error":
		return slog.LevelError, true
	default:
		return slog.LevelInfo, false
	}
}

// traced adds the ids of the context's span to a record.
type traced struct{ slog.Handler }

// Handle adds the ids and passes the record on.
func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the ids on records of the derived logger.
func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

// WithGroup keeps the ids on records of the derived logger, inside the group.
func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }
