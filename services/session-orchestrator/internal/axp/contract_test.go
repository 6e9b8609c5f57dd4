package axp_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"

	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

// documented is an operation of AXP's documents.
type documented struct {
	doc       *openapi3.T
	path      string // without the base path
	full      string
	item      *openapi3.PathItem
	method    string
	operation *openapi3.Operation
}

func documents(t *testing.T) map[string]documented {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(specDir(t), "openapi", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	out := make(map[string]documented)
	for _, file := range files {
		doc, err := openapi3.NewLoader().LoadFromFile(file)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for path, item := range doc.Paths.Map() {
			for method, operation := range item.Operations() {
				out[operation.OperationID] = documented{
					doc: doc, path: path, full: doc.Servers[0].URL + path, item: item, method: method, operation: operation,
				}
			}
		}
	}
	return out
}

func TestEveryDocumentedOperationHasItsRule(t *testing.T) {
	docs := documents(t)
	type row struct{ Name, Method, Path string }
	var want, got []row
	for name, d := range docs {
		want = append(want, row{name, d.method, d.full})
	}
	for _, op := range axp.Operations() {
		got = append(got, row{op.Name, op.Method, op.Path})
		if op.Why == "" {
			t.Errorf("%s gives no reason for its rule", op.Name)
		}
	}
	for _, rows := range [][]row{want, got} {
		sort.Slice(rows, func(i, j int) bool { return rows[i].Name < rows[j].Name })
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations differ (-documents +client):\n%s", diff)
	}
}

func TestReadsAndReplacementsAreIdempotent(t *testing.T) {
	for _, op := range axp.Operations() {
		if op.Method != http.MethodPost && !op.Idempotent {
			t.Errorf("%s (%s) is not repeated", op.Name, op.Method)
		}
		if op.GoneIsDone && !op.Idempotent {
			t.Errorf("%s takes 404 for done but is not repeated", op.Name)
		}
	}
	for _, name := range []string{axp.OpSendMessage, axp.OpCreateEngagement, axp.OpCreateSession, axp.OpCreateSubscription, axp.OpAppendIdentifiers, axp.OpJoinEngagement} {
		for _, op := range axp.Operations() {
			if op.Name == name && op.Idempotent {
				t.Errorf("%s is repeated although AXP may have carried it out", name)
			}
		}
	}
}

func TestTableOfOperationsIsWritten(t *testing.T) {
	var b bytes.Buffer
	if err := axp.WriteOperations(&b); err != nil {
		t.Fatal(err)
	}
	for _, op := range axp.Operations() {
		if !strings.Contains(b.String(), "| `"+op.Name+"` | `"+op.Method+" "+op.Path+"` |") {
			t.Errorf("%s is missing", op.Name)
		}
	}
}

// Every request is valid by AXP's documents, the token's included, and so are
// the answers of the double, which keeps it honest.
func TestRequestsAreValidByTheDocuments(t *testing.T) {
	docs := documents(t)
	validate := func(t *testing.T, name string, r *http.Request, status int, body string) {
		t.Helper()
		d := docs[name]
		parameters, ok := match(d.full, r.URL.EscapedPath())
		if !ok {
			t.Errorf("%s: path %s does not match %s", name, r.URL.EscapedPath(), d.full)
			return
		}
		input := &openapi3filter.RequestValidationInput{
			Request: r, PathParams: parameters,
			Route:   &routers.Route{Spec: d.doc, Path: d.path, PathItem: d.item, Method: r.Method, Operation: d.operation},
			Options: &openapi3filter.Options{AuthenticationFunc: authentication, MultiError: true, ExcludeReadOnlyValidations: false},
		}
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			t.Errorf("%s: the request is not valid: %v", name, err)
		}
		if name == axp.OpDownloadMedia {
			return
		}
		response := &openapi3filter.ResponseValidationInput{
			RequestValidationInput: input, Status: status, Header: http.Header{"Content-Type": {"application/json"}},
			Options: &openapi3filter.Options{IncludeResponseStatus: true},
		}
		response.SetBodyBytes([]byte(body))
		if err := openapi3filter.ValidateResponse(context.Background(), response); err != nil {
			t.Errorf("%s: the double's answer is not valid: %v", name, err)
		}
	}
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			signed := strings.NewReplacer("signature=s", "signature="+strings.Repeat("a", 64))
			f := newFakeAXP(t, func(w http.ResponseWriter, r *http.Request) {
				r.URL.RawQuery = signed.Replace(r.URL.RawQuery)
				record := httptest.NewRecorder()
				op.good(record, r)
				validate(t, op.name, r, record.Code, record.Body.String())
				op.good(w, r)
			})
			f.token = func(w http.ResponseWriter, r *http.Request) {
				const granted = `{"access_token":"x","expires_in":900,"refresh_token":"y"}`
				validate(t, axp.OpGenerateToken, r, 200, granted)
				answer(w, 200, granted)
			}
			if err := op.call(t.Context(), f.client()); err != nil {
				t.Error(err)
			}
		})
	}
}

// authentication checks that what a document asks for is there.
func authentication(_ context.Context, in *openapi3filter.AuthenticationInput) error {
	h := in.RequestValidationInput.Request.Header
	scheme := in.SecurityScheme
	if scheme.Type == "http" && !strings.HasPrefix(h.Get("Authorization"), "Bearer ") {
		return in.NewError(nil)
	}
	if scheme.Type == "apiKey" && h.Get(scheme.Name) == "" {
		return in.NewError(nil)
	}
	return nil
}

// match gives the parameters of a path by its template.
func match(template, path string) (map[string]string, bool) {
	names := regexp.MustCompile(`\\\{(\w+)\\\}`)
	quoted := regexp.QuoteMeta(template)
	pattern := regexp.MustCompile("^" + names.ReplaceAllString(quoted, `(?P<$1>[^/:]+)`) + "$")
	found := pattern.FindStringSubmatch(path)
	if found == nil {
		return nil, false
	}
	out := make(map[string]string)
	for i, name := range pattern.SubexpNames() {
		if name != "" {
			out[name] = found[i]
		}
	}
	return out, true
}
