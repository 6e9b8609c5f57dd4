package config

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
)

// setting is one line of the effective configuration.
type setting struct{ key, value string }

// Print writes the effective configuration, one KEY=value a line in the order of
// the fields, secrets and the user part of URLs masked. Entries of lists follow
// as list[0].key=value. Values with spaces or line breaks are quoted.
func Print(w io.Writer, cfg any) error {
	settings, err := settingsOf(cfg)
	if err != nil {
		return err
	}
	for _, s := range settings {
		if _, err := fmt.Fprintf(w, "%s=%s\n", s.key, quoted(s.value)); err != nil {
			return fmt.Errorf("config: print: %w", err)
		}
	}
	return nil
}

// LogValue returns the same as [Print] for a log record. A configuration that
// cannot be shown gives its error.
func LogValue(cfg any) slog.Value {
	settings, err := settingsOf(cfg)
	if err != nil {
		return slog.StringValue(err.Error())
	}
	attrs := make([]slog.Attr, 0, len(settings))
	for _, s := range settings {
		attrs = append(attrs, slog.String(s.key, s.value))
	}
	return slog.GroupValue(attrs...)
}

func settingsOf(cfg any) ([]setting, error) {
	root, err := structOf(cfg)
	if err != nil {
		return nil, err
	}
	fields, err := fieldsOf(root)
	if err != nil {
		return nil, err
	}
	return appendSettings(nil, fields, "", map[string]bool{})
}

func appendSettings(out []setting, fields []field, prefix string, seen map[string]bool) ([]setting, error) {
	for _, f := range fields {
		name := f.name(prefix)
		if seen[name] {
			continue // a variable that several parts share is shown once
		}
		seen[name] = true
		if !f.list {
			out = append(out, setting{name, showValue(f.value)})
			continue
		}
		for i := range f.value.Len() {
			inner, err := elementFieldsOf(f.value.Index(i))
			if err != nil {
				return nil, err
			}
			out, err = appendSettings(out, inner, fmt.Sprintf("%s[%d].", prefix+f.key, i), seen)
			if err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func quoted(s string) string {
	if strings.ContainsAny(s, " \t\r\n\"'#$\\") {
		return strconv.Quote(s)
	}
	return s
}

// Doc writes the reference of a configuration in Markdown: a table of variables
// with type, default and meaning, and a table for each list of the file. The
// result depends on the type of cfg and on the values that it has before [Load],
// which count as defaults; call it on a struct that was not loaded.
func Doc(w io.Writer, title string, cfg any) error {
	root, err := structOf(cfg)
	if err != nil {
		return err
	}
	fields, err := fieldsOf(root)
	if err != nil {
		return err
	}
	var out strings.Builder
	if title != "" {
		fmt.Fprintf(&out, "## %s\n\n", title)
	}
	out.WriteString("| variable | type | default | meaning |\n| --- | --- | --- | --- |\n")
	fmt.Fprintf(&out, "| `%s` | text | | A YAML file with these settings; its keys are the variables' names in lower case. The environment wins over the file. What is marked *Reloaded* is taken over while the service runs when the file, or a file with a secret, changes; SIGHUP has it looked at once. |\n", FileKey)
	var lists []field
	seen := map[string]bool{}
	for _, f := range fields {
		if seen[f.key] {
			continue
		}
		seen[f.key] = true
		if f.list {
			lists = append(lists, f)
			continue
		}
		docRow(&out, f)
	}
	for len(lists) > 0 {
		list := lists[0]
		inner, err := docList(&out, list)
		if err != nil {
			return err
		}
		lists = append(lists[1:], inner...)
	}
	if _, err := io.WriteString(w, out.String()); err != nil {
		return fmt.Errorf("config: doc: %w", err)
	}
	return nil
}

// reloadNote marks what [Watcher] may change.
const reloadNote = " *Reloaded.*"

func docRow(out *strings.Builder, f field) {
	kind := typeName(f.value.Type())
	name := f.env
	if name == "" {
		name = f.key
	}
	if f.secret() {
		suffix := "_FILE"
		if f.env == "" {
			suffix = "_file"
		}
		kind += fmt.Sprintf("; or `%s%s`", name, suffix)
	}
	fallback := ""
	switch {
	case !f.value.IsZero():
		fallback = "`" + showValue(f.value) + "`"
	case f.fallback != "" && f.secret():
		fallback = "`" + masked + "`"
	case f.fallback != "":
		fallback = "`" + f.fallback + "`"
	case f.required:
		fallback = "**required**"
	}
	meaning := f.doc
	if f.example != "" {
		meaning = strings.TrimSpace(meaning + " Example: `" + f.example + "`.")
	}
	if f.reload {
		meaning += reloadNote
	}
	cells := []string{"`" + name + "`", kind, fallback, meaning}
	out.WriteString("|")
	for _, c := range cells {
		if c != "" {
			out.WriteString(" " + cell(c))
		}
		out.WriteString(" |")
	}
	out.WriteString("\n")
}

// docList writes the table of a list and returns the lists inside its elements.
func docList(out *strings.Builder, list field) ([]field, error) {
	fmt.Fprintf(out, "\n### List `%s`\n\n", list.key)
	meaning := strings.TrimSpace(list.doc + " In the configuration file only.")
	if list.reload {
		meaning += reloadNote
	}
	fmt.Fprintf(out, "%s\n\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n", meaning)
	fields, err := elementFieldsOf(reflect.New(list.value.Type().Elem()).Elem())
	if err != nil {
		return nil, err
	}
	var lists []field
	for _, f := range fields {
		if f.list {
			f.key = list.key + "[]." + f.key
			lists = append(lists, f)
			continue
		}
		docRow(out, f)
	}
	return lists, nil
}

// cell makes a text fit into one cell of a Markdown table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\r", "", "\n", " ").Replace(s)
}

func typeName(t reflect.Type) string {
	switch t.String() {
	case "config.Secret":
		return "secret"
	case "config.Bytes":
		return "size"
	case "time.Duration":
		return "duration"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Slice:
		return "list"
	case reflect.Float64:
		return "number"
	case reflect.String:
		return "text"
	default:
		if isText(t) {
			return "text"
		}
		return "whole number"
	}
}
