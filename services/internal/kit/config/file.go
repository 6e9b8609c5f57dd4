package config

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// mapping is a YAML mapping with its keys in the order of the file. A nil
// mapping is empty.
type mapping struct {
	keys   []*yaml.Node
	values map[string]*yaml.Node
}

// get returns the value of a key, nil when it is absent or null: a chart that
// renders `key:` for what its user left out means "not set".
func (m *mapping) get(key string) *yaml.Node {
	if m == nil || key == "" {
		return nil
	}
	node := m.values[key]
	if node == nil || (node.Kind == yaml.ScalarNode && node.Tag == "!!null") {
		return nil
	}
	return node
}

// readFile reads the file that CONFIG_FILE names; nil without one.
func (l *loader) readFile() *mapping {
	path, ok := l.src.env(FileKey)
	if !ok {
		return nil
	}
	l.path = path
	content, err := l.src.read(path)
	if err != nil {
		l.report.add(FileKey, "cannot be read: %v", err)
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var doc yaml.Node
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil // an empty file sets nothing
	} else if err != nil {
		l.report.add(FileKey, "%s is not YAML: %s", path, syntaxProblem(err))
		return nil
	}
	var more yaml.Node
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		l.report.add(FileKey, "%s holds more than one YAML document", path)
		return nil
	}
	if len(doc.Content) == 0 {
		return nil
	}
	return l.mappingOf(doc.Content[0], FileKey)
}

// syntaxProblem is the parser's message without what it might quote: a secret
// that begins with * and has no quotes is taken for an alias, and named.
func syntaxProblem(err error) string {
	if strings.Contains(err.Error(), "anchor") {
		return "an alias has no anchor; a value that begins with * needs quotes"
	}
	return err.Error()
}

// mappingOf unpacks a node that has to be a mapping; nil with a mistake under
// the given name when it is none.
func (l *loader) mappingOf(node *yaml.Node, name string) *mapping {
	node = resolve(node)
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return &mapping{}
	}
	if node.Kind != yaml.MappingNode {
		l.report.add(name, "wants keys with values (%s line %d)", l.path, node.Line)
		return nil
	}
	prefix := ""
	if name != FileKey {
		prefix = name + "."
	}
	m := &mapping{values: make(map[string]*yaml.Node, len(node.Content)/2)}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := resolve(node.Content[i])
		if key.Kind != yaml.ScalarNode || key.Value == "" {
			l.report.add(name, "has a key that is not a name (%s line %d)", l.path, key.Line)
			continue
		}
		if _, twice := m.values[key.Value]; twice {
			l.report.add(prefix+key.Value, "stands twice in %s (line %d)", l.path, key.Line)
			continue
		}
		m.keys = append(m.keys, key)
		m.values[key.Value] = resolve(node.Content[i+1])
	}
	return m
}

// checkKeys reports the keys of a mapping that no field has.
func (l *loader) checkKeys(m *mapping, fields []field, prefix string) {
	if m == nil {
		return
	}
	known := make([]string, 0, len(fields))
	for _, f := range fields {
		known = append(known, f.key)
		if f.secret() {
			known = append(known, f.key+"_file")
		}
	}
	for _, key := range m.keys {
		if slices.Contains(known, key.Value) {
			continue
		}
		hint := ""
		if lower := strings.ToLower(key.Value); slices.Contains(known, lower) {
			hint = "; keys are written in lower case: " + lower
		}
		l.report.add(prefix+key.Value, "is not a known key (%s line %d)%s", l.path, key.Line, hint)
	}
}

// resolve follows an alias to what it stands for.
func resolve(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode && node.Alias != nil {
		node = node.Alias
	}
	return node
}
