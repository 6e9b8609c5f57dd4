package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// field is one leaf or list of a configuration struct, bound to the value that
// it fills.
type field struct {
	env      string // environment variable, empty for what the file alone can set
	key      string // key in the file
	tag      string // yaml tag: the key in the file when the struct is a list's element
	value    reflect.Value
	list     bool // a slice of structs
	required bool
	reload   bool   // may change while the service runs
	fallback string // tag default
	doc      string
	example  string
}

// name is what a mistake calls the field.
func (f field) name(prefix string) string {
	if prefix == "" && f.env != "" {
		return f.env
	}
	return prefix + f.key
}

func (f field) secret() bool { return f.value.Type() == reflect.TypeFor[Secret]() }

// fieldsOf lists the fields of a struct in their order of declaration. Structs
// without a tag of their own are walked as if their fields stood in the parent.
func fieldsOf(v reflect.Value) ([]field, error) {
	var out []field
	t := v.Type()
	for i := range t.NumField() {
		sf, fv := t.Field(i), v.Field(i)
		if !sf.IsExported() {
			// Silence would be a setting that nobody can set.
			if sf.Anonymous || sf.Tag.Get("env") != "" || yamlTag(sf) != "" {
				return nil, fmt.Errorf("config: field %s.%s is not exported", t, sf.Name)
			}
			continue
		}
		f := field{
			env:      sf.Tag.Get("env"),
			tag:      yamlTag(sf),
			value:    fv,
			required: sf.Tag.Get("required") == "true",
			reload:   sf.Tag.Get("reload") == "true",
			fallback: sf.Tag.Get("default"),
			doc:      sf.Tag.Get("doc"),
			example:  sf.Tag.Get("example"),
		}
		if f.key = f.tag; f.env != "" {
			f.key = strings.ToLower(f.env)
		}
		switch {
		case f.tag == "-":
			// Set by code, whatever its type.
		case f.key == "" && fv.Kind() == reflect.Struct && !isText(fv.Type()):
			inner, err := fieldsOf(fv)
			if err != nil {
				return nil, err
			}
			out = append(out, inner...)
		case f.key == "":
			// Not part of the configuration: something that code sets.
		case isList(fv.Type()):
			f.list = true
			out = append(out, f)
		case !isLeaf(fv.Type()):
			return nil, fmt.Errorf("config: field %s.%s has type %s, which cannot be configured", t, sf.Name, fv.Type())
		default:
			out = append(out, f)
		}
	}
	return out, nil
}

// elementFieldsOf lists the fields of a list's element. They come from the file
// alone; a field without a yaml tag uses its environment name in lower case, so
// that one struct can serve both as a part of the configuration and as an element.
func elementFieldsOf(v reflect.Value) ([]field, error) {
	fields, err := fieldsOf(v)
	if err != nil {
		return nil, err
	}
	for i := range fields {
		if fields[i].tag != "" {
			fields[i].key = fields[i].tag
		}
		fields[i].env = ""
	}
	return fields, nil
}

// yamlTag returns the key of a field's yaml tag.
func yamlTag(sf reflect.StructField) string {
	key, _, _ := strings.Cut(sf.Tag.Get("yaml"), ",")
	return key
}

func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct && !isText(t.Elem())
}

// isText reports whether a type reads itself from text.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func isLeaf(t reflect.Type) bool {
	if isText(t) || t == reflect.TypeFor[time.Duration]() {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	case reflect.Slice:
		return t.Elem().Kind() == reflect.String
	default:
		return false
	}
}

// structOf unpacks the pointer that the exported functions take.
func structOf(cfg any) (reflect.Value, error) {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return reflect.Value{}, fmt.Errorf("config: want a pointer to a struct, got %T", cfg)
	}
	return v.Elem(), nil
}
