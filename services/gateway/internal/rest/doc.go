// Package rest owns the HTTP side of the gateway but for its streams: REST by
// grpc-gateway over an in-process connection to the gRPC server (so that the
// same interceptors run), what of a request's headers becomes metadata, failures
// as application/problem+json, origins of pages, and the description of the API.
//
// It holds no rule of the chat: a request over REST and the same one over gRPC
// end in the same place, with the same violations.
package rest
