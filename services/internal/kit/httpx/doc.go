// Package httpx owns how the services serve HTTP: the server as a component that
// drains, application/problem+json, request ids, and the middleware that every
// handler gets.
//
// Invariants: logs name the route and never the path or the query, since those
// hold tickets, callback keys and ids; a failure has the same content as over
// gRPC, from the catalogue of package errs; the server has no timeout for
// writing, since streams live long, but none of its reads waits for ever.
//
// A handler is wrapped from the inside out like this:
//
//	h = httpx.Mux(mux)
//	h = httpx.LimitBody(n, h)
//	h = httpx.SecurityHeaders(h)
//	h = httpx.Recover(panics, h)
//	h = httpx.AccessLog(log, h)
//	h = httpx.Instrument(providers, h)
//	h = httpx.RequestID(h)
//
// The package has no routes and knows no service. It is called by the services'
// assembly and by their handlers.
package httpx
