package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// methods knows which methods the paths of the API are for. It is safe for
// concurrent use.
type methods struct {
	mux   *runtime.ServeMux
	names []string // sorted
}

// newMethods reads the paths from the annotations of ChatService, and adds those of
// streams that have none.
func newMethods() (*methods, error) {
	m := &methods{mux: runtime.NewServeMux(runtime.WithDisableHTTPMethodOverride(), runtime.WithDisablePathLengthFallback())}
	service := axpchatv1.File_axpchat_v1_chat_service_proto.Services().ByName("ChatService")
	for i := range service.Methods().Len() {
		rule, ok := proto.GetExtension(service.Methods().Get(i).Options(), annotations.E_Http).(*annotations.HttpRule)
		if !ok {
			continue
		}
		for _, rule := range append([]*annotations.HttpRule{rule}, rule.GetAdditionalBindings()...) {
			if err := m.add(pattern(rule)); err != nil {
				return nil, err
			}
		}
	}
	// Of two patterns that fit the later one is found.
	if err := m.add(http.MethodGet, sessionsPath+"{session_id}:connect"); err != nil {
		return nil, err
	}
	slices.Sort(m.names)
	return m, nil
}

// pattern returns what a rule is for; nothing for one without a path.
func pattern(rule *annotations.HttpRule) (method, path string) {
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	}
	return "", ""
}

func (m *methods) add(method, path string) error {
	if path == "" {
		return nil
	}
	if !slices.Contains(m.names, method) {
		m.names = append(m.names, method)
	}
	err := m.mux.HandlePath(method, path, func(w http.ResponseWriter, _ *http.Request, ids map[string]string) {
		for _, id := range ids {
			if strings.Contains(id, ":") {
				return // a verb that the pattern took for part of an id
			}
		}
		w.WriteHeader(http.StatusNoContent)
	})
	if err != nil {
		return fmt.Errorf("REST: path %s: %w", path, err)
	}
	return nil
}

// of lists the methods that the path of the request is for, sorted.
func (m *methods) of(r *http.Request) []string {
	var out []string
	for _, name := range m.names {
		probe := r.Clone(r.Context())
		probe.Method = name
		found := &statusOnly{header: http.Header{}}
		m.mux.ServeHTTP(found, probe)
		if found.status == http.StatusNoContent {
			out = append(out, name)
		}
	}
	return out
}

// statusOnly takes the status of an answer and drops the rest.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(p []byte) (int, error) { return len(p), nil }
func (s *statusOnly) WriteHeader(code int)        { s.status = code }
