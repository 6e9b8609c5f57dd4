package rest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"

	"github.com/axpchat/connector/gen/openapi"
)

// operation is one method of the API, as the page shows it.
type operation struct {
	Method     string      `json:"method"`
	Path       string      `json:"path"`
	Summary    string      `json:"summary,omitempty"`
	Text       string      `json:"description,omitempty"`
	Parameters []parameter `json:"parameters,omitempty"`
	Body       []parameter `json:"body,omitempty"`
	Answer     []parameter `json:"answer,omitempty"`
}

// parameter is a parameter of a method or a field of a body.
type parameter struct {
	Name string `json:"name"`
	In   string `json:"in,omitempty"`
	Type string `json:"type,omitempty"`
	Text string `json:"description,omitempty"`
}

// The parts of the description that the page shows.
type (
	swagger struct {
		Paths       map[string]map[string]swaggerOperation `yaml:"paths"`
		Definitions map[string]swaggerSchema               `yaml:"definitions"`
	}
	swaggerOperation struct {
		Summary     string             `yaml:"summary"`
		Description string             `yaml:"description"`
		Tags        []string           `yaml:"tags"`
		Parameters  []swaggerParameter `yaml:"parameters"`
		Responses   map[string]struct {
			Schema swaggerSchema `yaml:"schema"`
		} `yaml:"responses"`
	}
	swaggerParameter struct {
		Name        string        `yaml:"name"`
		In          string        `yaml:"in"`
		Type        string        `yaml:"type"`
		Description string        `yaml:"description"`
		Schema      swaggerSchema `yaml:"schema"`
	}
	swaggerSchema struct {
		Ref         string                   `yaml:"$ref"`
		Type        string                   `yaml:"type"`
		Format      string                   `yaml:"format"`
		Title       string                   `yaml:"title"`
		Description string                   `yaml:"description"`
		Properties  map[string]swaggerSchema `yaml:"properties"`
		Items       *swaggerSchema           `yaml:"items"`
	}
)

// operations reads the embedded description, whose form is fixed at build time.
func operations() ([]operation, error) {
	var doc swagger
	if err := yaml.Unmarshal(openapi.Spec(), &doc); err != nil {
		return nil, err
	}
	var out []operation
	for path, methods := range doc.Paths {
		for method, o := range methods {
			op := operation{Method: strings.ToUpper(method), Path: path, Summary: o.Summary, Text: o.Description}
			for _, p := range o.Parameters {
				if p.In == "body" {
					op.Body = doc.fields(p.Schema)
					continue
				}
				op.Parameters = append(op.Parameters, parameter{Name: p.Name, In: p.In, Type: p.Type, Text: p.Description})
			}
			op.Answer = doc.fields(o.Responses["200"].Schema)
			out = append(out, op)
		}
	}
	slices.SortFunc(out, func(a, b operation) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return strings.Compare(a.Method, b.Method)
	})
	return out, nil
}

// fields are the fields of a message, by name.
func (d swagger) fields(s swaggerSchema) []parameter {
	if s.Ref != "" {
		s = d.Definitions[refName(s.Ref)]
	}
	var out []parameter
	for name, f := range s.Properties {
		out = append(out, parameter{Name: name, Type: typeName(f), Text: strings.TrimSpace(f.Title + " " + f.Description)})
	}
	slices.SortFunc(out, func(a, b parameter) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func refName(ref string) string { return ref[strings.LastIndex(ref, "/")+1:] }

func typeName(s swaggerSchema) string {
	switch {
	case s.Ref != "":
		return refName(s.Ref)
	case s.Items != nil:
		return "list of " + typeName(*s.Items)
	case s.Format != "":
		return s.Type + " (" + s.Format + ")"
	default:
		return s.Type
	}
}

// operationsJSON is made at the first request: most gateways never show the page.
//
//nolint:gochecknoglobals // holds a constant: the embedded description in another form
var operationsJSON = sync.OnceValues(func() ([]byte, error) {
	ops, err := operations()
	if err != nil {
		return nil, err
	}
	return json.Marshal(ops)
})

func serveOperations(w http.ResponseWriter, _ *http.Request) {
	body, err := operationsJSON()
	if err != nil {
		http.Error(w, "the description can't be read", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(body) // the client may be gone
}
