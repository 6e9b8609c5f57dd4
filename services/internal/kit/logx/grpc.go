package logx

import (
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc/grpclog"
)

// grpcMessage is the same for all records, so that they can be counted and found;
// what gRPC says is an attribute.
const grpcMessage = "gRPC library"

// grpcEvery is how often it is written: strangers can cause any number of some.
const grpcEvery = time.Second

// TakeGRPC has gRPC and grpc-gateway write their warnings and errors to log, where
// they would write lines of their own to stderr: at most one of each level in a
// second, with left_out what was not written. Their other texts are dropped.
//
// It is for the process as a whole and is not safe for concurrent use: a command
// calls it once, before anything of gRPC runs.
func TakeGRPC(log *slog.Logger) { grpclog.SetLoggerV2(newGRPCLogger(log)) }

// grpcLogger implements grpclog.LoggerV2. Some texts hold what a client has sent,
// or its address; see shown.
type grpcLogger struct {
	warnings, errors *slog.Logger
	exit             func(code int)
}

func newGRPCLogger(log *slog.Logger) grpcLogger {
	return grpcLogger{warnings: Sparse(log, grpcEvery), errors: Sparse(log, grpcEvery), exit: os.Exit} //nolint:forbidigo // what grpclog demands of Fatal
}

// Info drops the text.
func (grpcLogger) Info(...any) {}

// Infoln drops the text.
func (grpcLogger) Infoln(...any) {}

// Infof drops the text.
func (grpcLogger) Infof(string, ...any) {}

// Warning logs a warning.
func (l grpcLogger) Warning(args ...any) { l.warn(fmt.Sprint(args...)) }

// Warningln logs a warning.
func (l grpcLogger) Warningln(args ...any) { l.warn(fmt.Sprintln(args...)) }

// Warningf logs a warning.
func (l grpcLogger) Warningf(format string, args ...any) { l.warn(formatted(format, args)) }

// Error logs an error.
func (l grpcLogger) Error(args ...any) { l.error(fmt.Sprint(args...)) }

// Errorln logs an error.
func (l grpcLogger) Errorln(args ...any) { l.error(fmt.Sprintln(args...)) }

// Errorf logs an error.
func (l grpcLogger) Errorf(format string, args ...any) { l.error(formatted(format, args)) }

// Fatal logs an error and ends the process, as grpclog demands.
func (l grpcLogger) Fatal(args ...any) { l.fatal(fmt.Sprint(args...)) }

// Fatalln logs an error and ends the process.
func (l grpcLogger) Fatalln(args ...any) { l.fatal(fmt.Sprintln(args...)) }

// Fatalf logs an error and ends the process.
func (l grpcLogger) Fatalf(format string, args ...any) { l.fatal(formatted(format, args)) }

// V is false: what is worth a level of verbosity is dropped anyway.
func (grpcLogger) V(level int) bool { return level <= 0 }

func (l grpcLogger) warn(text string)  { l.warnings.Warn(grpcMessage, "text", shown(text)) }
func (l grpcLogger) error(text string) { l.errors.Error(grpcMessage, "text", shown(text)) }

func (l grpcLogger) fatal(text string) {
	l.error(text)
	l.exit(1)
}

// formatted leaves out texts among the arguments: grpc-gateway gives the values of
// headers as such. Errors, numbers and types stay.
func formatted(format string, args []any) string {
	kept := make([]any, len(args))
	for i, arg := range args {
		if _, is := arg.(string); is {
			arg = omitted
		}
		kept[i] = arg
	}
	return fmt.Sprintf(format, kept...)
}

const (
	omitted = "…"
	// grpcTextMax bounds a record: some texts repeat a message.
	grpcTextMax = 300
)

// unfit finds what must not be in a log: what stands in quotation marks, which may
// be a client's; objects of JSON; and addresses.
var unfit = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"?|\{.*\}|\[?[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(?:%\w+)?\]?(?::\d+)?|\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?`)

// shown is a text without what must not be in a log.
func shown(text string) string {
	text = unfit.ReplaceAllString(strings.TrimSpace(text), omitted)
	if len(text) > grpcTextMax {
		text = strings.ToValidUTF8(text[:grpcTextMax], "") + omitted
	}
	return text
}
