// Command kubeschemas makes strict JSON schemas for kubeconform, of Kubernetes'
// own OpenAPI and of the custom resources that the chart uses. Their text is in
// Go modules, so that nothing but the module proxy is needed.
// Usage: kubeschemas MODULES-FILE FOLDER.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

type object = map[string]any

// definitions are places of custom resource definitions within a module.
var definitions = map[string]string{
	"sigs.k8s.io/gateway-api":                            "config/crd/standard/gateway.networking.k8s.io_*routes.yaml",
	"github.com/cert-manager/cert-manager":               "deploy/crds/cert-manager.io_*.yaml",
	"github.com/prometheus-operator/prometheus-operator": "example/prometheus-operator-crd/monitoring.coreos.com_*.yaml",
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: kubeschemas MODULES-FILE FOLDER")
		os.Exit(2)
	}
	n, err := run(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubeschemas:", err)
		os.Exit(1)
	}
	fmt.Printf("kubeschemas: %d schemas\n", n)
}

func run(modules, out string) (int, error) {
	list, err := os.ReadFile(modules)
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return 0, err
	}
	n := 0
	for _, line := range strings.Split(strings.TrimSpace(string(list)), "\n") {
		name, version, _ := strings.Cut(line, " ")
		dir, err := download(name + "@" + version)
		if err != nil {
			return 0, err
		}
		made := 0
		if pattern, ok := definitions[name]; ok {
			made, err = custom(filepath.Join(dir, pattern), out)
		} else {
			made, err = native(filepath.Join(dir, "api", "openapi-spec", "swagger.json"), out)
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", line, err)
		}
		if made == 0 {
			return 0, fmt.Errorf("%s: there is no schema", line)
		}
		n += made
	}
	return n, nil
}

func download(module string) (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	text, err := cmd.Output()
	var got struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(text, &got); jsonErr != nil {
		return "", errors.Join(err, jsonErr)
	}
	if got.Error != "" {
		return "", errors.New(got.Error)
	}
	return got.Dir, nil
}

// native reads Kubernetes' own kinds. Each schema refers to one file with all
// definitions.
func native(swagger, out string) (int, error) {
	raw, err := os.ReadFile(swagger)
	if err != nil {
		return 0, err
	}
	var doc struct{ Definitions map[string]object }
	if err := json.Unmarshal(raw, &doc); err != nil {
		return 0, err
	}
	for name, d := range doc.Definitions {
		if strings.HasSuffix(name, "IntOrString") || strings.HasSuffix(name, "resource.Quantity") {
			doc.Definitions[name] = object{"oneOf": []any{object{"type": "string"}, object{"type": "number"}}}
			continue
		}
		tighten(d)
	}
	if err := write(filepath.Join(out, "_definitions.json"), object{"definitions": doc.Definitions}); err != nil {
		return 0, err
	}
	n := 0
	for name, d := range doc.Definitions {
		kinds, _ := d["x-kubernetes-group-version-kind"].([]any)
		properties, _ := d["properties"].(object)
		if properties["apiVersion"] == nil {
			continue
		}
		for _, k := range kinds {
			gvk, _ := k.(object)
			if err := write(filepath.Join(out, fileName(gvk["kind"], gvk["group"], gvk["version"])), object{"$ref": "_definitions.json#/definitions/" + name}); err != nil {
				return 0, err
			}
			n++
		}
	}
	return n, nil
}

// custom reads the definitions of custom resources.
func custom(pattern, out string) (int, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return 0, err
		}
		for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var crd struct {
				Spec struct {
					Group    string
					Names    struct{ Kind string }
					Versions []struct {
						Name   string
						Schema struct {
							OpenAPIV3Schema object `yaml:"openAPIV3Schema"`
						}
					}
				}
			}
			if err := d.Decode(&crd); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return 0, fmt.Errorf("%s: %w", f, err)
			}
			for _, v := range crd.Spec.Versions {
				schema := v.Schema.OpenAPIV3Schema
				tighten(schema)
				if metadata, ok := schema["properties"].(object)["metadata"].(object); ok {
					delete(metadata, "additionalProperties") // it is ObjectMeta, which definitions leave out
				}
				if err := write(filepath.Join(out, fileName(crd.Spec.Names.Kind, crd.Spec.Group, v.Name)), schema); err != nil {
					return 0, err
				}
				n++
			}
		}
	}
	return n, nil
}

// fileName is what kubeconform looks for, with -schema-location
// '{{ .ResourceKind }}{{ .KindSuffix }}.json'.
func fileName(kind, group, version any) string {
	parts := []string{fmt.Sprint(kind)}
	if g := fmt.Sprint(group); g != "" {
		parts = append(parts, strings.Split(g, ".")[0])
	}
	return strings.ToLower(strings.Join(append(parts, fmt.Sprint(version)), "-")) + ".json"
}

// tighten closes objects that list their properties, and lets an empty value stand
// for none.
func tighten(v any) {
	t, ok := v.(object)
	if !ok {
		return
	}
	if t["x-kubernetes-int-or-string"] == true {
		delete(t, "type")
	}
	if properties, ok := t["properties"].(object); ok && t["type"] == "object" {
		if _, has := t["additionalProperties"]; !has && t["x-kubernetes-preserve-unknown-fields"] == nil {
			t["additionalProperties"] = false
		}
		for name, p := range properties {
			tighten(p)
			if m, ok := p.(object); ok && !slices.Contains([]string{"apiVersion", "kind"}, name) {
				if s, ok := m["type"].(string); ok {
					m["type"] = []any{s, "null"}
				}
			}
		}
	}
	tighten(t["items"])
	tighten(t["additionalProperties"])
}

func write(file string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
