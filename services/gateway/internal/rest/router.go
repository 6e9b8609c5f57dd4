package rest

import (
	"net/http"
	"strings"

	"github.com/axpchat/connector/services/gateway/internal/sse"
	"github.com/axpchat/connector/services/internal/kit/httpx"
)

// Streams serves the paths whose answer never ends.
type Streams struct {
	WebSocket func(w http.ResponseWriter, r *http.Request, session string)
	SSE       func(w http.ResponseWriter, r *http.Request, session string)
}

const (
	sessionsPath = "/v1/sessions/"
	unmatched    = "unmatched" // the route of a path that is not of the API
)

// Router sends streams to their transports and everything else to the REST
// handler. The paths follow google.api.http, whose verbs behind a colon
// http.ServeMux has no pattern for.
func Router(api http.Handler, s Streams) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httpx.SetRoute(r.Context(), route(r.URL.Path))
		rest, ok := strings.CutPrefix(r.URL.Path, sessionsPath)
		if ok && r.Method == http.MethodGet {
			if session, is := strings.CutSuffix(rest, ":connect"); is && !strings.Contains(session, "/") {
				s.WebSocket(w, r, session)
				return
			}
			if session, is := strings.CutSuffix(rest, "/events"); is && !strings.Contains(session, "/") && sse.Wants(r) {
				s.SSE(w, r, session)
				return
			}
		}
		api.ServeHTTP(w, r)
	})
}

// isCollection and isVerb know what the paths of the API are made of.
func isCollection(part string) bool {
	switch part {
	case "sessions", "engagements", "messages", "attachments", "events", "events:poll":
		return true
	}
	return false
}

func isVerb(part string) bool {
	switch part {
	case "updateParameters", "stepUp", "keepAlive", "appendIdentifiers", "createTicket", "connect", "join", "end":
		return true
	}
	return false
}

// route is the path with its ids left out, for logs and metrics. A path that is
// not of the API has no name, so that strangers can't invent labels.
func route(path string) string {
	rest, ok := strings.CutPrefix(path, "/v1/")
	if !ok {
		return unmatched
	}
	parts := strings.Split(rest, "/")
	if len(parts) > 6 {
		return unmatched
	}
	for i, part := range parts {
		if i%2 == 0 {
			if !isCollection(part) {
				return unmatched
			}
			continue
		}
		parts[i] = "{id}"
		if _, verb, has := strings.Cut(part, ":"); has {
			if !isVerb(verb) {
				return unmatched
			}
			parts[i] += ":" + verb
		}
	}
	return "/v1/" + strings.Join(parts, "/")
}
