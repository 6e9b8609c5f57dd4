// Package errs owns how the services talk about failures: one catalogue of
// reasons, the values of the enum axpchat.v1.ErrorReason, and the translation of
// an error to google.rpc.Status, to application/problem+json (RFC 9457) and to
// the Problem of frames, and back.
//
// Invariants: every reason has exactly one gRPC code, one HTTP status, one title
// and one piece of advice, all in one table; an error that crosses a process
// comes out with the same reason, text, violations and waiting time; the text of
// an error that nobody wrote for callers is never shown to them.
//
// The package writes no log and starts nothing. It knows neither services nor
// transports beyond the two formats. Handlers make errors with [New]; the
// interceptors of grpcx and the writers of httpx translate them.
package errs
