package web

import (
	"encoding/json"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func get(t testing.TB, h http.Handler, method, target string, header http.Header) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	maps.Copy(r.Header, header)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t testing.TB, h http.Handler, target string) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: status %d, want 200", target, w.Code)
	}
	return w.Body.String()
}

func TestEveryAnswerCarriesTheSecurityHeaders(t *testing.T) {
	h := Handler(Config{TokenURL: "https://login.example:8443/dev/token?x=1"})
	for _, target := range []string{"/", "/config.json", "/static/js/main.js", "/no-such-file"} {
		res := get(t, h, http.MethodGet, target, nil)
		_ = res.Body.Close()
		want := "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https:; " +
			"connect-src 'self' ws://example.com wss://example.com https://login.example:8443; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; " +
			"require-trusted-types-for 'script'; trusted-types inert"
		if got := res.Header.Get("Content-Security-Policy"); got != want {
			t.Errorf("%s: policy\n got %s\nwant %s", target, got, want)
		}
		if got := res.Header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s: X-Content-Type-Options %q", target, got)
		}
		if got := res.Header.Get("Referrer-Policy"); got != "no-referrer" {
			t.Errorf("%s: Referrer-Policy %q", target, got)
		}
	}
}

func TestPolicyTakesOnlyAnOriginFromTheTokenURL(t *testing.T) {
	tests := []struct{ name, tokenURL, connect, img string }{
		{"none", "", "'self' ws://chat.example:8081 wss://chat.example:8081", "'self' https:"},
		{"plain http also serves pictures", "http://localhost:8090/dev/token",
			"'self' ws://chat.example:8081 wss://chat.example:8081 http://localhost:8090", "'self' https: http://localhost:8090"},
		{"relative", "/token", "'self' ws://chat.example:8081 wss://chat.example:8081", "'self' https:"},
		{"other scheme", "javascript:alert(1)", "'self' ws://chat.example:8081 wss://chat.example:8081", "'self' https:"},
		{"no host", "https:///x", "'self' ws://chat.example:8081 wss://chat.example:8081", "'self' https:"},
		{"an attempt to add a directive", "https://a;script-src *", "'self' ws://chat.example:8081 wss://chat.example:8081", "'self' https:"},
		{"a wildcard", "https://*.example/token", "'self' ws://chat.example:8081 wss://chat.example:8081", "'self' https:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := contentSecurityPolicy(tt.tokenURL, "chat.example:8081")
			for _, want := range []string{"connect-src " + tt.connect + ";", "img-src " + tt.img + ";"} {
				if !strings.Contains(got, want) {
					t.Errorf("policy %q lacks %q", got, want)
				}
			}
		})
	}
}

// TestPolicyTakesOnlyAHostFromTheRequest: it is the client who says it.
func TestPolicyTakesOnlyAHostFromTheRequest(t *testing.T) {
	for host, want := range map[string]string{
		"chat.example":                    "'self' ws://chat.example wss://chat.example",
		"127.0.0.1:8081":                  "'self' ws://127.0.0.1:8081 wss://127.0.0.1:8081",
		"[2001:db8::1]:8081":              "'self' ws://[2001:db8::1]:8081 wss://[2001:db8::1]:8081",
		"":                                "'self'",
		"*":                               "'self'",
		"a; script-src *":                 "'self'",
		"a wss://evil.example":            "'self'",
		"a,b":                             "'self'",
		"chat.example:8081:1":             "'self'",
		"chat.example\r\nSet-Cookie: a=b": "'self'",
	} {
		if got := contentSecurityPolicy("", host); !strings.Contains(got, "connect-src "+want+"; ") {
			t.Errorf("%q: %s", host, got)
		}
	}
}

func TestUnknownPathsAndDirectoriesAreNotFound(t *testing.T) {
	h := Handler(Config{})
	for _, target := range []string{
		"/static", "/static/", "/static/js", "/static/js/", "/index.html", "/static/index.html",
		"/static/../web.go", "/web.go", "/static/js/nope.js", "/favicon.ico", "//", "/static//js/main.js",
	} {
		res := get(t, h, http.MethodGet, target, nil)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: status %d, want 404", target, res.StatusCode)
		}
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	h := Handler(Config{})
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		res := get(t, h, method, "/", nil)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s /: status %d, Allow %q", method, res.StatusCode, res.Header.Get("Allow"))
		}
	}
	res := get(t, h, http.MethodHead, "/", nil)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("HEAD /: status %d, want 200", res.StatusCode)
	}
}

func TestAnUnchangedFileIsNotSentAgain(t *testing.T) {
	h := Handler(Config{})
	first := get(t, h, http.MethodGet, "/static/css/base.css", nil)
	_ = first.Body.Close()
	etag := first.Header.Get("ETag")
	if etag == "" || first.Header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("ETag %q, Cache-Control %q", etag, first.Header.Get("Cache-Control"))
	}
	second := get(t, h, http.MethodGet, "/static/css/base.css", http.Header{"If-None-Match": {etag}})
	_ = second.Body.Close()
	if second.StatusCode != http.StatusNotModified {
		t.Errorf("status %d, want 304", second.StatusCode)
	}
	renamed := get(t, Handler(Config{CompanyName: "Other"}), http.MethodGet, "/", nil)
	_ = renamed.Body.Close()
	page := get(t, h, http.MethodGet, "/", nil)
	_ = page.Body.Close()
	if renamed.Header.Get("ETag") == page.Header.Get("ETag") {
		t.Error("a page with another name has the same ETag")
	}
}

func TestConfigIsWhatTheGatewayWasGiven(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		want map[string]string
	}{
		{"as given", Config{TokenURL: "http://localhost:8090/dev/token", CompanyName: "A & B"},
			map[string]string{"tokenUrl": "http://localhost:8090/dev/token", "companyName": "A & B"}},
		{"nothing given", Config{}, map[string]string{"tokenUrl": "", "companyName": DefaultCompanyName}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got map[string]string
			if err := json.Unmarshal([]byte(body(t, Handler(tt.cfg), "/config.json")), &got); err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tt.want) || got["tokenUrl"] != tt.want["tokenUrl"] || got["companyName"] != tt.want["companyName"] {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTheCompanyNameIsEscapedInThePage(t *testing.T) {
	page := body(t, Handler(Config{CompanyName: "<script>x</script>"}), "/")
	if strings.Contains(page, "<script>x") || !strings.Contains(page, "&lt;script&gt;x") {
		t.Error("the name went into the page unescaped")
	}
}

// reference matches what a static file asks for: module imports, and absolute
// addresses in HTML, CSS and scripts.
var (
	importRef = regexp.MustCompile(`(?:from|import)\s+'(\.[^']+)'`)
	staticRef = regexp.MustCompile(`/static/[A-Za-z0-9._/-]+`)
	cssRef    = regexp.MustCompile(`url\(["']?([^)"']+)["']?\)`)
)

func TestEveryReferencedFileExists(t *testing.T) {
	h := Handler(Config{})
	used := map[string]bool{}
	check := func(from, target string) {
		used[target] = true
		res := get(t, h, http.MethodGet, target, nil)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s refers to %s: status %d", from, target, res.StatusCode)
		}
	}
	walkStatic(t, func(name string, text string) {
		for _, m := range importRef.FindAllStringSubmatch(text, -1) {
			check(name, "/"+path.Join(path.Dir(name), m[1]))
		}
		for _, m := range staticRef.FindAllString(text, -1) {
			check(name, m)
		}
		if path.Ext(name) == ".css" {
			for _, m := range cssRef.FindAllStringSubmatch(text, -1) {
				if !strings.HasPrefix(m[1], "data:") {
					check(name, "/"+path.Join(path.Dir(name), m[1]))
				}
			}
		}
	})
	walkStatic(t, func(name, _ string) {
		if name != "static/index.html" && !used["/"+name] {
			t.Errorf("%s is referred to by nothing", name)
		}
	})
}

// What the policy forbids would fail in the browser only; here it fails at once.
func TestNothingThatThePolicyForbids(t *testing.T) {
	forbidden := []*regexp.Regexp{
		regexp.MustCompile(`(?i)<script(?:\s[^>]*)?>[^<]*\S[^<]*</script>`),
		regexp.MustCompile(`(?i)<style`),
		regexp.MustCompile(`(?i)\sstyle\s*=\s*["']`),
		regexp.MustCompile(`(?i)<[^>]+\son[a-z]+\s*=`),
		regexp.MustCompile(`\.(?:innerHTML|outerHTML)\b|insertAdjacentHTML|document\.write|\beval\(|new Function`),
		regexp.MustCompile(`(?:src|href)\s*[=:]\s*["']https?://|@import`),
	}
	walkStatic(t, func(name, text string) {
		for _, re := range forbidden {
			if m := re.FindString(text); m != "" {
				t.Errorf("%s holds %q", name, m)
			}
		}
	})
}

func walkStatic(t testing.TB, visit func(name, text string)) {
	t.Helper()
	err := fs.WalkDir(files, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(name)
		visit(name, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The page's logic is tested in its own language where node is at hand.
func TestScripts(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed; the scripts' own tests need it")
	}
	tests, err := filepath.Glob("jstest/*.test.mjs")
	if err != nil || len(tests) == 0 {
		t.Fatalf("no script tests found: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), node, append([]string{"--test"}, tests...)...)
	cmd.Env = append(os.Environ(), "NODE_OPTIONS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
