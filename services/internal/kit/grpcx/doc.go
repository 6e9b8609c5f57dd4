// Package grpcx owns how the services speak gRPC with their callers and with
// each other: the server with its chain of interceptors, the client, request ids
// and the validation of what comes in.
//
// Invariants: unary calls and streams go through the same interceptors in the
// same order (otel, request_id, access_log, recover, errors, then what the
// service adds, such as authentication, then validate); every error that leaves
// a server is a google.rpc.Status of the catalogue of package errs; a request id
// that a caller sent, or that the first server made, is found in the logs of
// every service that works on the request.
//
// The package never logs what messages hold and knows no service. It is called
// by the services' assembly; httpx uses its request ids.
package grpcx
