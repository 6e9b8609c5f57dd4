package normalise

import (
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// object is a JSON object that is being read. What is read is taken, so that the
// rest is what this version does not understand: unknown fields, and known ones
// whose type or word it cannot use.
type object node

// find returns a field that is not taken; nil where there is none.
func (o *object) find(key string) *node {
	for i := range o.inner {
		if n := &o.inner[i]; n.key == key && !n.taken {
			return n
		}
	}
	return nil
}

// present returns a field; null counts as absent, and is taken.
func (o *object) present(key string) *node {
	n := o.find(key)
	if n != nil && n.kind == null {
		n.taken = true
		return nil
	}
	return n
}

// absent tells whether there is no field, or null.
func (o *object) absent(key string) bool {
	n := o.find(key)
	return n == nil || n.kind == null
}

// empty tells whether all is taken.
func (o *object) empty() bool {
	for i := range o.inner {
		if !o.inner[i].taken {
			return false
		}
	}
	return true
}

// peek returns a text or a number as text, without taking it.
func (o *object) peek(key string) string {
	if n := o.find(key); n != nil && (n.kind == text || n.kind == number) {
		return n.spelling
	}
	return ""
}

// odd tells whether one of the fields, named in a list with spaces, is there with
// a type that is neither text nor number.
func (o *object) odd(keys string) bool {
	for key := range strings.SplitSeq(keys, " ") {
		if n := o.find(key); n != nil && n.kind != null && n.kind != text && n.kind != number {
			return true
		}
	}
	return false
}

// value returns a field as text whatever its type, without taking it; empty
// where there is none.
func (o *object) value(key string) string {
	n := o.find(key)
	switch {
	case n == nil || n.kind == null:
		return ""
	case n.kind == text || n.kind == number:
		return n.spelling
	default:
		return canonical(n)
	}
}

// drop takes a field whose content is known otherwise.
func (o *object) drop(key string) {
	if n := o.find(key); n != nil {
		n.taken = true
	}
}

// text takes a string; a number is taken as it is written, for ids and codes
// are numbers to some senders.
func (o *object) text(key string) string {
	n := o.present(key)
	if n == nil || n.kind != text && n.kind != number {
		return ""
	}
	n.taken = true
	return n.spelling
}

// time takes a time in one of the ways that AXP writes it.
func (o *object) time(key string) *timestamppb.Timestamp {
	n := o.present(key)
	if n == nil || n.kind != text {
		return nil
	}
	t, ok := parseTime(n.spelling)
	if !ok {
		return nil
	}
	n.taken = true
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
	if o.present(key) == nil {
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
	if o.present(key) == nil {
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
	if o.present(key) == nil {
		return 0
	}
	n := o.peekEnum(key, prefix, values)
	if n != 0 {
		o.drop(key)
	}
	return n
}

// peekEnum is the same without taking the word.
func (o *object) peekEnum(key, prefix string, values map[string]int32) int32 {
	n := o.find(key)
	if n == nil || n.kind != text {
		return 0
	}
	return values[prefix+strings.ToUpper(strings.TrimSpace(n.spelling))]
}

// object reads an inner object; what the reader leaves stays under the key.
func (o *object) object(key string, read func(*object)) {
	n := o.present(key)
	if n == nil || n.kind != fields {
		return
	}
	inner := (*object)(n)
	read(inner)
	n.taken = inner.empty()
}

// list calls read for each entry, which tells whether it took all of it.
func (o *object) list(key string, read func(entry *node) (all bool)) {
	if n := o.present(key); n != nil {
		n.entries(read)
	}
}

// entries reads a list; null counts as an empty one. What read leaves stays in a
// list of the same length, with empty objects for what was read completely, so
// that one can tell which entry a leftover belongs to.
func (n *node) entries(read func(entry *node) (all bool)) {
	if n.kind != list && n.kind != null {
		return
	}
	n.taken = true
	for i := range n.inner {
		entry := &n.inner[i]
		if entry.kind == null || read(entry) {
			*entry = node{kind: fields}
			continue
		}
		n.taken = false
	}
}

// objects reads a list of objects; entries of other types stay.
func (o *object) objects(key string, read func(*object)) {
	o.list(key, func(entry *node) bool {
		if entry.kind != fields {
			return false
		}
		inner := (*object)(entry)
		read(inner)
		return inner.empty()
	})
}

// texts takes a list of strings; entries that are none stay.
func (o *object) texts(key string) []string {
	if n := o.present(key); n != nil {
		return n.texts()
	}
	return nil
}

func (n *node) texts() []string {
	var out []string
	n.entries(func(entry *node) bool {
		text, ok := entry.scalar()
		if ok {
			out = append(out, text)
		}
		return ok
	})
	return out
}

// textMap takes a map of strings; entries that are none stay.
func (o *object) textMap(key string) map[string]string {
	var out map[string]string
	o.object(key, func(inner *object) {
		out = make(map[string]string, len(inner.inner))
		for i := range inner.inner {
			n := &inner.inner[i]
			if n.kind == null {
				n.taken = true
			} else if text, ok := n.scalar(); ok {
				out[n.key] = text
				n.taken = true
			}
		}
	})
	return out
}

// scalar is what people mean as a text where a text is asked for.
func (n *node) scalar() (string, bool) {
	return n.spelling, n.kind == text || n.kind == number || n.kind == boolean
}
