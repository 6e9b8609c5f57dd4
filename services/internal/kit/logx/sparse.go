package logx

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Sparse returns a logger for what strangers can cause any number of: it writes at
// most one record in the time, and says in left_out how many it did not write
// since the one before. Loggers made of it by With share the count. It is safe for
// concurrent use.
func Sparse(log *slog.Logger, every time.Duration) *slog.Logger {
	return slog.New(sparse{Handler: log.Handler(), gate: &gate{every: every}})
}

type sparse struct {
	slog.Handler
	gate *gate
}

type gate struct {
	every time.Duration

	mu      sync.Mutex
	next    time.Time
	leftOut int
}

// pass tells whether a record may be written now, and how many were not since the
// last one.
func (g *gate) pass(now time.Time) (leftOut int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Before(g.next) {
		g.leftOut++
		return 0, false
	}
	leftOut, g.leftOut, g.next = g.leftOut, 0, now.Add(g.every)
	return leftOut, true
}

// Handle passes a record on, or counts it.
func (h sparse) Handle(ctx context.Context, r slog.Record) error {
	leftOut, ok := h.gate.pass(r.Time)
	if !ok {
		return nil
	}
	if leftOut > 0 {
		r.AddAttrs(slog.Int("left_out", leftOut))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the count.
func (h sparse) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sparse{Handler: h.Handler.WithAttrs(attrs), gate: h.gate}
}

// WithGroup keeps the count.
func (h sparse) WithGroup(name string) slog.Handler {
	return sparse{Handler: h.Handler.WithGroup(name), gate: h.gate}
}
