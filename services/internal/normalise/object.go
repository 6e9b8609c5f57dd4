package normalise

import (
	"encoding/json"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// object is a JSON object that is being read. What is read is taken out, so that
// the rest is what this version does not understand: unknown fields, and known
// ones whose type or word it cannot use.
type object struct {
	fields map[string]any
}

// newObject leaves the given map as it is: the caller still needs it.
func newObject(fields map[string]any) *object { return &object{fields: maps.Clone(fields)} }

// peek returns a text or a number as text, without taking it.
func (o *object) peek(key string) string {
	switch v := o.fields[key].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		return ""
	}
}

// value returns a field as text whatever its type, without taking it; empty
// where there is none.
func (o *object) value(key string) string {
	switch v := o.fields[key].(type) {
	case nil:
		return ""
	case string, json.Number:
		return o.peek(key)
	default:
		return canonical(v)
	}
}

// drop takes a field whose content is known otherwise.
func (o *object) drop(key string) { delete(o.fields, key) }

// text takes a string; a number is taken as it is written, for ids and codes
// are numbers to some senders.
func (o *object) text(key string) string {
	switch o.fields[key].(type) {
	case string, json.Number:
		text := o.peek(key)
		o.drop(key)
		return text
	case nil:
		o.drop(key)
	}
	return ""
}

// time takes a time in one of the ways that AXP writes it.
func (o *object) time(key string) *timestamppb.Timestamp {
	if o.fields[key] == nil {
		o.drop(key)
		return nil
	}
	text, ok := o.fields[key].(string)
	if !ok {
		return nil
	}
	t, ok := parseTime(text)
	if !ok {
		return nil
	}
	o.drop(key)
	return t
}

// parseTime reads ISO 8601 with a zone: Z, +hh:mm, +hhmm or +hh, and a fraction
// of any length, of which nine digits count.
func parseTime(text string) (*timestamppb.Timestamp, bool) {
	text = strings.TrimSpace(text)
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07"} {
		t, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		if ts := timestamppb.New(t); ts.IsValid() {
			return ts, true
		}
	}
	return nil, false
}

// integer takes a whole number, also one that is written as a string or as 3.0.
func (o *object) integer(key string) (int64, bool) {
	if o.fields[key] == nil {
		o.drop(key)
		return 0, false
	}
	text := strings.TrimSpace(o.peek(key))
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f, ok := finite(text)
		// Beyond 2^53 a float no longer tells whole numbers apart.
		if !ok || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return 0, false
		}
		n = int64(f)
	}
	o.drop(key)
	return n, true
}

// decimal takes a number, also one that is written as a string.
func (o *object) decimal(key string) (float64, bool) {
	if o.fields[key] == nil {
		o.drop(key)
		return 0, false
	}
	f, ok := finite(strings.TrimSpace(o.peek(key)))
	if ok {
		o.drop(key)
	}
	return f, ok
}

func finite(text string) (float64, bool) {
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
}

// enum takes a word that the enum knows; any other word stays. The prefix is
// that of the enum's values.
func (o *object) enum(key, prefix string, values map[string]int32) int32 {
	if o.fields[key] == nil {
		o.drop(key)
		return 0
	}
	word, ok := o.fields[key].(string)
	if !ok {
		return 0
	}
	n := values[prefix+strings.ToUpper(strings.TrimSpace(word))]
	if n != 0 {
		o.drop(key)
	}
	return n
}

// object reads an inner object; what the reader leaves stays under the key.
func (o *object) object(key string, read func(*object)) {
	switch v := o.fields[key].(type) {
	case nil:
		o.drop(key)
	case map[string]any:
		inner := newObject(v)
		read(inner)
		o.drop(key)
		if len(inner.fields) > 0 {
			o.fields[key] = inner.fields
		}
	}
}

// list calls read for each entry. What read leaves stays in a list of the same
// length, with empty objects for what was read completely, so that one can tell
// which entry a leftover belongs to.
func (o *object) list(key string, read func(entry any) (left any)) {
	switch v := o.fields[key].(type) {
	case nil:
		o.drop(key)
	case []any:
		left, some := make([]any, len(v)), false
		for i, entry := range v {
			left[i] = map[string]any{}
			if entry == nil {
				continue
			}
			if rest := read(entry); rest != nil {
				left[i], some = rest, true
			}
		}
		o.drop(key)
		if some {
			o.fields[key] = left
		}
	}
}

// objects reads a list of objects; entries of other types stay.
func (o *object) objects(key string, read func(*object)) {
	o.list(key, func(entry any) any {
		fields, ok := entry.(map[string]any)
		if !ok {
			return entry
		}
		inner := newObject(fields)
		read(inner)
		if len(inner.fields) == 0 {
			return nil
		}
		return inner.fields
	})
}

// texts takes a list of strings; entries that are none stay.
func (o *object) texts(key string) []string {
	var out []string
	o.list(key, func(entry any) any {
		text, ok := scalar(entry)
		if !ok {
			return entry
		}
		out = append(out, text)
		return nil
	})
	return out
}

// textMap takes a map of strings; entries that are none stay.
func (o *object) textMap(key string) map[string]string {
	var out map[string]string
	o.object(key, func(inner *object) {
		out = make(map[string]string, len(inner.fields))
		for name, value := range inner.fields {
			if value == nil {
				inner.drop(name)
			} else if text, ok := scalar(value); ok {
				out[name] = text
				inner.drop(name)
			}
		}
	})
	return out
}

// scalar writes what people mean as a text where a text is asked for.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	default:
		return "", false
	}
}
