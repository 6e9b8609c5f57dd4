// Package logtest reads what is logged. For tests only.
package logtest

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"

	"github.com/axpchat/connector/services/internal/kit/await"
)

// Records collects what is logged. It is safe for concurrent use.
type Records struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (r *Records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(p)
}

// Logger writes records as JSON, of every level.
func (r *Records) Logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// String is all that was logged.
func (r *Records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.String()
}

// Named are the records with the message.
func (r *Records) Named(t testing.TB, msg string) []map[string]any {
	t.Helper()
	var out []map[string]any
	dec := json.NewDecoder(bytes.NewBufferString(r.String()))
	for dec.More() {
		var m map[string]any
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		if m["msg"] == msg {
			out = append(out, m)
		}
	}
	return out
}

// Await waits for records with the message.
func (r *Records) Await(t testing.TB, msg string) []map[string]any {
	t.Helper()
	var out []map[string]any
	await.Until(t, "the record "+msg, func() bool { out = r.Named(t, msg); return len(out) > 0 })
	return out
}
