package desk

import (
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

func get(t testing.TB, method, target string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	maps.Copy(r.Header, header)
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w
}

func TestThePageIsServedWithItsSecurityHeaders(t *testing.T) {
	for target, want := range map[string]int{"/desk": 200, "/desk/static/js/main.js": 200, "/desk/nope": 404} {
		w := get(t, http.MethodGet, target, nil)
		if w.Code != want {
			t.Errorf("%s: status %d, want %d", target, w.Code, want)
		}
		for name, value := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		} {
			if got := w.Header().Get(name); got != value {
				t.Errorf("%s: %s is %q, want %q", target, name, got, value)
			}
		}
	}
}

func TestUnknownPathsAndDirectoriesAreNotFound(t *testing.T) {
	for _, target := range []string{"/", "/desk/static", "/desk/static/", "/desk/static/js/", "/desk/index.html", "/desk/static/index.html", "/desk/api/state", "/desk/static/../desk.go"} {
		if w := get(t, http.MethodGet, target, nil); w.Code != http.StatusNotFound {
			t.Errorf("GET %s: status %d, want 404", target, w.Code)
		}
	}
}

func TestTheSlashFormLeadsToThePage(t *testing.T) {
	w := get(t, http.MethodGet, "/desk/", nil)
	if w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != "/desk" {
		t.Errorf("status %d, Location %q", w.Code, w.Header().Get("Location"))
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	w := get(t, http.MethodPost, "/desk", nil)
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("status %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
	if w := get(t, http.MethodHead, "/desk", nil); w.Code != http.StatusOK {
		t.Errorf("HEAD: status %d, want 200", w.Code)
	}
}

func TestAnUnchangedFileIsNotSentAgain(t *testing.T) {
	etag := get(t, http.MethodGet, "/desk", nil).Header().Get("ETag")
	if etag == "" {
		t.Fatal("no ETag")
	}
	if w := get(t, http.MethodGet, "/desk", http.Header{"If-None-Match": {etag}}); w.Code != http.StatusNotModified {
		t.Errorf("status %d, want 304", w.Code)
	}
}

func TestThePageSaysThatItIsASandbox(t *testing.T) {
	if !strings.Contains(get(t, http.MethodGet, "/desk", nil).Body.String(), "Sandbox") {
		t.Error("the page does not say that it is a sandbox")
	}
}

// What static files ask for: module imports and absolute addresses.
var (
	importRef = regexp.MustCompile(`(?:from|import)\s+'(\.[^']+)'`)
	staticRef = regexp.MustCompile(`/desk/static/[A-Za-z0-9._/-]+`)
	forbidden = regexp.MustCompile(`(?i)<style|<script(?:\s[^>]*)?>[^<]*\S[^<]*</script>|\sstyle\s*=\s*["']|<[^>]+\son[a-z]+\s*=|` +
		`\.(?:innerHTML|outerHTML)\b|insertAdjacentHTML|document\.write|\beval\(|new Function|@import|(?:src|href)\s*[=:]\s*["']https?://`)
)

func TestStaticFilesAreCompleteAndFitThePolicy(t *testing.T) {
	used := map[string]bool{}
	check := func(from, target string) {
		used[target] = true
		if w := get(t, http.MethodGet, target, nil); w.Code != http.StatusOK {
			t.Errorf("%s refers to %s: status %d", from, target, w.Code)
		}
	}
	walkStatic(t, func(name, text string) {
		for _, m := range importRef.FindAllStringSubmatch(text, -1) {
			check(name, "/desk/"+path.Join(path.Dir(name), m[1]))
		}
		for _, m := range staticRef.FindAllString(text, -1) {
			check(name, m)
		}
		if m := forbidden.FindString(text); m != "" {
			t.Errorf("%s holds %q, which the policy forbids", name, m)
		}
	})
	walkStatic(t, func(name, _ string) {
		if name != "static/index.html" && !used["/desk/"+name] {
			t.Errorf("%s is referred to by nothing", name)
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
