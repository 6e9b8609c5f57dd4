// Package stream owns one client's stream on every transport: the welcome, the
// events, the answers to commands, signs of life, the token's expiry, moving
// away from a pod that ends, and why a stream ends.
//
// A transport only carries frames. What a client is told, in which order and
// why it ends is decided here, once, so that all transports behave alike. The
// first frame of a stream is its welcome, the last one its close, and nothing
// but the client's own going away ends a stream without one.
//
// The package knows nothing of gRPC streams, HTTP or NATS subjects.
package stream
