package rest

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Origins are the origins whose pages may use the API from a browser. Its own
// origin always may. The zero value allows no other one.
type Origins struct {
	allowed map[string]bool
}

// ParseOrigins reads a list such as https://www.example.com. There is no
// wildcard: whoever wants everybody in has not thought about it.
func ParseOrigins(list []string) (Origins, []config.Mistake) {
	o := Origins{allowed: make(map[string]bool, len(list))}
	var mistakes []config.Mistake
	for _, text := range list {
		u, err := url.Parse(text)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
			mistakes = append(mistakes, config.Mistake{Key: "HTTP_ALLOWED_ORIGINS", Problem: "each must be an origin such as https://www.example.com"})
			continue
		}
		o.allowed[strings.ToLower(text)] = true
	}
	return o, mistakes
}

// Allowed tells whether the request comes from a page that may use the API, or
// from no page at all.
func (o Origins) Allowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || sameOrigin(r, origin) || o.allowed[strings.ToLower(origin)]
}

// sameOrigin compares hosts only: behind a proxy that ends TLS the scheme that
// the browser saw is not known here.
func sameOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// CORS answers a browser's questions for pages of other origins. Pages that may
// not use the API get no permission, which the browser then enforces.
func (o Origins) CORS(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		header := w.Header()
		header.Add("Vary", "Origin")
		preflight := r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
		if origin != "" && o.allowed[strings.ToLower(origin)] {
			header.Set("Access-Control-Allow-Origin", origin)
			header.Set("Access-Control-Expose-Headers", "X-Request-Id, Retry-After")
			if preflight {
				header.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
				header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id, Traceparent")
				header.Set("Access-Control-Max-Age", "600")
			}
		}
		if preflight {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.ServeHTTP(w, r)
	})
}
