// Package web owns the web chat that the gateway shows at "/": a small
// demonstration shop with a chat widget, written in plain JavaScript modules
// and CSS, without a build step and without anybody else's code.
//
// The files under static/ are embedded and served from memory with an ETag
// each. The page is a client like any other: it knows the gateway by its
// public REST, WebSocket, SSE and long-polling interface only.
//
// Invariants: no inline script or style, no eval, no string parsed as HTML
// into the page; the content security policy forbids the first three, the
// modules dom.js and rich/html.js keep the fourth.
//
// The package never authenticates anybody, never mints tokens (the page asks
// Config.TokenURL) and never lists directories.
package web
