package natsembed

import (
	"fmt"
	"log/slog"
)

// message is the same for all records, so that they can be counted and found;
// what the server says is an attribute.
const message = "embedded NATS server"

// logger writes the server's own messages to slog. They name streams, consumers
// and subjects, and never hold a payload; debug and trace, which might, are off.
type logger struct{ log *slog.Logger }

// Noticef logs what is of interest only when something is looked for.
func (l logger) Noticef(format string, v ...any) {
	l.log.Debug(message, "text", fmt.Sprintf(format, v...))
}

// Warnf logs a warning.
func (l logger) Warnf(format string, v ...any) {
	l.log.Warn(message, "text", fmt.Sprintf(format, v...))
}

// Errorf logs an error.
func (l logger) Errorf(format string, v ...any) {
	l.log.Error(message, "text", fmt.Sprintf(format, v...))
}

// Fatalf logs an error; the server shuts itself down, the process goes on.
func (l logger) Fatalf(format string, v ...any) {
	l.log.Error(message, "text", fmt.Sprintf(format, v...))
}

// Debugf drops the message.
func (logger) Debugf(string, ...any) {}

// Tracef drops the message.
func (logger) Tracef(string, ...any) {}
