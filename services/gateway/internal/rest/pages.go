package rest

import (
	"embed"
	"net/http"

	"github.com/axpchat/connector/gen/openapi"
)

//go:embed docs
var docs embed.FS

// docsPolicy allows the page of the API description its own files only.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// Pages adds the description of the API to a mux: /openapi.yaml for programs,
// /docs for people, made from it, without anybody else's code.
func Pages(mux *http.ServeMux) {
	mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(openapi.Spec()) // the client may be gone
	})
	page := func(name, kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			body, err := docs.ReadFile("docs/" + name)
			if err != nil { // the build embeds them
				http.Error(w, "missing", http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Security-Policy", docsPolicy)
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Cache-Control", "no-cache")
			_, _ = w.Write(body) // the client may be gone
		}
	}
	mux.HandleFunc("GET /docs", page("index.html", "text/html; charset=utf-8"))
	mux.HandleFunc("GET /docs/docs.js", page("docs.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /docs/docs.css", page("docs.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /docs/operations.json", serveOperations)
}
