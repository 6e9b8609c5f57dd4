package httpx

import (
	"context"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"github.com/axpchat/connector/services/internal/kit/logx"
)

// faultsEvery is how often the log tells of what goes wrong on connections:
// strangers can cause any amount of it, such as with broken handshakes.
const faultsEvery = 10 * time.Second

// faults writes what net/http itself has to tell, such as failed handshakes.
type faults struct{ log *slog.Logger }

func newFaults(log *slog.Logger) faults { return faults{log: logx.Sparse(log, faultsEvery)} }

// between is what package net puts before the fault of a connection: whose it is.
var between = regexp.MustCompile(` tcp \S+->\S+:`)

// Write logs a line of net/http's, less the addresses of whose connection it is.
func (f faults) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if head, stack, ok := strings.Cut(text, "\ngoroutine "); ok {
		// A panic past Recover. What it says may repeat what was sent.
		head, _, _ = strings.Cut(head, " serving ")
		text = head + "\ngoroutine " + stack
	}
	text = between.ReplaceAllString(text, ":")
	for _, before := range []string{" from ", " serving "} {
		head, rest, ok := strings.Cut(text, before)
		if _, tail, found := strings.Cut(rest, ": "); ok && found {
			text = head + ": " + tail
			break
		}
	}
	f.log.WarnContext(context.Background(), "HTTP connection", "error", text)
	return len(line), nil
}
