package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Load fills the struct that cfg points to. For each field the first of these
// that is set wins:
//
//  1. its environment variable (for a [Secret] KEY, or KEY_FILE with the name of
//     a file that holds it),
//  2. its key in the YAML file that CONFIG_FILE names: the variable's name in
//     lower case (for a Secret also key_file),
//  3. a value that the struct had before Load,
//  4. the default of its tag.
//
// An empty environment variable counts as not set. A slice of structs comes from
// the file only. Several fields may name the same variable; all of them get its
// value. When the fields are filled, Validate is called on every part of the
// struct that is a [Validator].
//
// Mistakes of the configuration are returned together as [Errors]; any other
// error means that the struct itself cannot be used.
func Load(cfg any, src Sources) error {
	root, err := structOf(cfg)
	if err != nil {
		return err
	}
	fields, err := fieldsOf(root)
	if err != nil {
		return err
	}
	l := &loader{src: src, report: newReport()}
	file := l.readFile()
	l.checkKeys(file, fields, "")
	for _, f := range fields {
		if err := l.fill(f, file, ""); err != nil {
			return err
		}
	}
	l.validate(root, "")
	return l.report.err()
}

type loader struct {
	src    Sources
	path   string // of the configuration file
	report *report
}

// fill gives one field its value. It returns an error for what the program, and
// not its user, did wrong.
func (l *loader) fill(f field, file *mapping, prefix string) error {
	if f.list {
		return l.fillList(f, file, prefix)
	}
	name := f.name(prefix)
	set := l.fromEnv(f)
	if !set {
		set = l.fromFile(f, file, name)
	}
	if !set && f.value.IsZero() && f.fallback != "" {
		if err := setText(f.value, f.fallback); err != nil {
			return fmt.Errorf("config: default of %s: %w", name, err)
		}
	}
	if f.required && f.value.IsZero() && !l.report.keys[name] {
		l.report.add(name, "is required: %s", l.howToSet(f, prefix))
	}
	return nil
}

func (l *loader) howToSet(f field, prefix string) string {
	where := fmt.Sprintf("set %s in the configuration file", prefix+f.key)
	if f.env != "" {
		where = "set the environment variable " + f.env
		if f.secret() {
			where += fmt.Sprintf(" (or %s_FILE)", f.env)
		}
		where += fmt.Sprintf(", or %s in the configuration file", f.key)
	}
	if f.example != "" && !f.secret() {
		where += ", for example " + f.example
	}
	return where
}

// fromEnv reports whether the environment decides about the field, be it with a
// mistake.
func (l *loader) fromEnv(f field) bool {
	text, ok := l.src.env(f.env)
	if !f.secret() {
		if ok {
			l.setText(f, f.env, text)
		}
		return ok
	}
	if f.env == "" {
		return false
	}
	path, fromFile := l.src.env(f.env + "_FILE")
	switch {
	case ok && fromFile:
		l.report.add(f.env, "is set twice: %s and %s_FILE exclude each other", f.env, f.env)
	case ok:
		f.value.SetString(text)
	case fromFile:
		l.setSecretFile(f, f.env, f.env+"_FILE", path)
	}
	return ok || fromFile
}

// fromFile is fromEnv for the configuration file.
func (l *loader) fromFile(f field, file *mapping, name string) bool {
	node := file.get(f.key)
	if f.secret() {
		fileNode := file.get(f.key + "_file")
		switch {
		case node != nil && fileNode != nil:
			l.report.add(name, "is set twice: %s and %s_file exclude each other (line %d)", f.key, f.key, fileNode.Line)
			return true
		case fileNode != nil:
			l.setSecretFile(f, name, f.key+"_file", fileNode.Value)
			return true
		}
	}
	if node == nil {
		return false
	}
	switch {
	case node.Kind == yaml.ScalarNode:
		l.setText(f, name, node.Value)
	case node.Kind == yaml.SequenceNode && f.value.Kind() == reflect.Slice:
		l.setSequence(f, name, node)
	default:
		l.report.add(name, "wants a single value (line %d)", node.Line)
	}
	return true
}

func (l *loader) setText(f field, name, text string) {
	err := setText(f.value, text)
	if err == nil {
		return
	}
	shown := []rune(maskURLs(text))
	if len(shown) > 64 {
		shown = append(shown[:64], '…')
	}
	l.report.add(name, "%s %v", strconv.Quote(string(shown)), err)
}

func (l *loader) setSequence(f field, name string, node *yaml.Node) {
	entries := make([]string, 0, len(node.Content))
	for i, entry := range node.Content {
		entry = resolve(entry)
		if entry.Kind != yaml.ScalarNode {
			l.report.add(fmt.Sprintf("%s[%d]", name, i), "wants a single value (line %d)", entry.Line)
			return
		}
		entries = append(entries, entry.Value)
	}
	setStrings(f.value, entries)
}

func (l *loader) setSecretFile(f field, name, key, path string) {
	content, err := l.src.read(path)
	if err != nil {
		l.report.add(name, "%s cannot be read: %v", key, err)
		return
	}
	text := string(content)
	// Editors and `echo` end a file with one line break that is not meant; more
	// than one is left, for it may be.
	if rest, ok := strings.CutSuffix(text, "\n"); ok {
		text = strings.TrimSuffix(rest, "\r")
	}
	if text == "" {
		l.report.add(name, "%s names an empty file", key)
		return
	}
	f.value.SetString(text)
}

// fillList fills a slice of structs from the file.
func (l *loader) fillList(f field, file *mapping, prefix string) error {
	name := prefix + f.key
	node := file.get(f.key)
	if node == nil {
		if f.required && f.value.Len() == 0 {
			l.report.add(name, "is required: set %s in the configuration file", name)
		}
		return nil
	}
	if node.Kind != yaml.SequenceNode {
		l.report.add(name, "wants a list (line %d)", node.Line)
		return nil
	}
	if f.required && len(node.Content) == 0 {
		l.report.add(name, "wants at least one entry (line %d)", node.Line)
	}
	list := reflect.MakeSlice(f.value.Type(), len(node.Content), len(node.Content))
	for i, entry := range node.Content {
		at := fmt.Sprintf("%s[%d]", name, i)
		fields, err := elementFieldsOf(list.Index(i))
		if err != nil {
			return err
		}
		m := l.mappingOf(entry, at)
		if m == nil {
			continue
		}
		l.checkKeys(m, fields, at+".")
		for _, ef := range fields {
			if err := l.fill(ef, m, at+"."); err != nil {
				return err
			}
		}
	}
	f.value.Set(list)
	return nil
}

// validate calls the validators, inner parts first. What they say about a key
// that already has a mistake is left out: it would only follow from that.
func (l *loader) validate(v reflect.Value, prefix string) {
	for i := range v.NumField() {
		sf, fv := v.Type().Field(i), v.Field(i)
		if !sf.IsExported() {
			continue
		}
		key := yamlTag(sf)
		switch {
		case key == "-" || isText(fv.Type()) || sf.Tag.Get("env") != "":
		case fv.Kind() == reflect.Struct:
			l.validate(fv, prefix)
		case isList(fv.Type()) && key != "":
			for n := range fv.Len() {
				l.validate(fv.Index(n), fmt.Sprintf("%s%s[%d].", prefix, key, n))
			}
		}
	}
	validator, ok := reflect.TypeAssert[Validator](v.Addr())
	if !ok {
		return
	}
	before := make(map[string]bool, len(l.report.keys))
	for key := range l.report.keys {
		before[key] = true
	}
	for _, m := range validator.Validate() {
		// A part without a prefix of its own may be validated twice, once as an
		// embedded field and once through the promoted method.
		if key := prefix + m.Key; !before[key] {
			l.report.add(key, "%s", m.Problem)
		}
	}
}
