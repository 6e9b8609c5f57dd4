package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"
)

//go:embed static
var files embed.FS

// DefaultCompanyName is the invented company whose site it is where the
// configuration names none.
const DefaultCompanyName = "Larkfell Outdoor"

// Config says what the page is told.
type Config struct {
	// TokenURL is where the page fetches the customer's token: POST with a JSON
	// object {subject, name, identifiers}, answered by {token, expiresAt}. Empty:
	// the page says that logging in is not set up.
	TokenURL string
	// CompanyName is the name on the page; empty: DefaultCompanyName.
	CompanyName string
}

// asset is one file, ready to be served.
type asset struct {
	body        []byte
	contentType string
	etag        string
}

// Handler serves "/", "/config.json" and "/static/*"; every other path is 404.
// It is safe for concurrent use and holds everything in memory.
func Handler(cfg Config) http.Handler {
	if cfg.CompanyName == "" {
		cfg.CompanyName = DefaultCompanyName
	}
	return &site{assets: loadAssets(cfg), tokenURL: cfg.TokenURL}
}

type site struct {
	assets   map[string]asset
	tokenURL string
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.setSecurityHeaders(w.Header(), r.Host)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	a, ok := s.assets[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("ETag", a.etag)
	// The names carry no version, so a browser must ask; the ETag makes that cheap.
	h.Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}

func (s *site) setSecurityHeaders(h http.Header, host string) {
	h.Set("Content-Security-Policy", contentSecurityPolicy(s.tokenURL, host))
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	// Geolocation only: an agent may ask for the customer's place, the browser asks again.
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(self)")
}

// contentSecurityPolicy allows what the page needs and nothing else: WebSockets to
// the host that the browser has asked alone, which some browsers don't take for
// 'self'. Agents' pictures come from wherever AXP has them. Where the token
// endpoint speaks plain http, which only a development suite does, its origin may
// also serve pictures: there the same process is the media store.
//
// No text becomes HTML or script by way of the document: the one policy for
// trusted types is for parsing apart from it (static/js/rich/html.js).
func contentSecurityPolicy(tokenURL, host string) string {
	connect, img := "'self'", "'self' https:"
	if plainHost.MatchString(host) {
		connect += " ws://" + host + " wss://" + host
	}
	if origin := originOf(tokenURL); origin != "" {
		connect += " " + origin
		if strings.HasPrefix(origin, "http://") {
			img += " " + origin
		}
	}
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src " + img,
		"connect-src " + connect,
		"frame-ancestors 'none'",
		"base-uri 'none'",
		"form-action 'self'",
		"require-trusted-types-for 'script'",
		"trusted-types inert",
	}, "; ")
}

// plainHost is a host that may become part of a header: a name or an address,
// with or without a port.
var plainHost = regexp.MustCompile(`^([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// originOf returns scheme://host of an absolute http(s) address, else "". The
// host is checked because the result becomes part of a header.
func originOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return ""
	}
	if strings.ContainsAny(u.Host, " ;,'\"\r\n\t*") {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// loadAssets reads what is embedded. It panics where an embedded file cannot be
// read or the page's own template is wrong: both are faults of the build, which
// the package's tests find.
func loadAssets(cfg Config) map[string]asset {
	assets := map[string]asset{"/config.json": configAsset(cfg)}
	walk := func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if name == "static/index.html" {
			assets["/"] = newAsset(indexPage(body, cfg), contentType(name))
			return nil
		}
		assets["/"+name] = newAsset(body, contentType(name))
		return nil
	}
	if err := fs.WalkDir(files, "static", walk); err != nil {
		panic("web: embedded files: " + err.Error())
	}
	return assets
}

func indexPage(source []byte, cfg Config) []byte {
	var page bytes.Buffer
	tmpl := template.Must(template.New("index").Parse(string(source)))
	if err := tmpl.Execute(&page, cfg); err != nil {
		panic("web: index page: " + err.Error())
	}
	return page.Bytes()
}

func configAsset(cfg Config) asset {
	body, err := json.Marshal(struct {
		TokenURL    string `json:"tokenUrl"`
		CompanyName string `json:"companyName"`
	}{cfg.TokenURL, cfg.CompanyName})
	if err != nil {
		panic("web: config.json: " + err.Error())
	}
	return newAsset(body, "application/json")
}

func newAsset(body []byte, contentType string) asset {
	sum := sha256.Sum256(body)
	return asset{body: body, contentType: contentType, etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
}

// contentType is fixed here and not asked of the machine's mime table, which
// differs from image to image.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return "application/octet-stream"
	}
}
