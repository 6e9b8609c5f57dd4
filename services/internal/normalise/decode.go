package normalise

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// kind is what a JSON value is.
type kind uint8

const (
	null kind = iota
	text
	number
	boolean
	list
	fields
)

// node is a JSON value. A callback is read into a tree of them, not into maps:
// what is read is marked as taken in place, where maps had to be copied first so
// that the reader could take things out.
type node struct {
	key      string // empty in a list
	spelling string // a text without its quotes and escapes; a number or a boolean as it was written
	inner    []node // of a list or an object
	kind     kind
	taken    bool
}

// decode reads one JSON object. Numbers keep their spelling; of a repeated key
// the last one counts; bytes that are not UTF-8 become U+FFFD, each of them: all
// as encoding/json does, which would take a copy, a pass to validate and a pass
// to count before the one that builds.
func decode(raw []byte) (*object, error) {
	stack, _ := stacks.Get().(*[]node) // nothing else is put in
	d := decoder{src: string(raw), values: 1, stack: (*stack)[:0]}
	root, err := d.document()
	if cap(d.stack) <= mostKept {
		clear(d.stack[:cap(d.stack)]) // the texts in it would stay in memory
		*stack = d.stack
		stacks.Put(stack)
	}
	switch {
	case (errors.Is(err, ErrTooDeep) || errors.Is(err, ErrTooMany)) && !json.Valid(raw):
		return nil, ErrNotJSON // what is no JSON at all has no size
	case err != nil:
		return nil, err
	case root.kind != fields:
		return nil, ErrNotObject
	}
	return (*object)(&root), nil
}

// stacks holds what decoders put values on until they know how many there are.
var stacks = sync.Pool{New: func() any { //nolint:gochecknoglobals // a pool is of use to all calls or to none
	s := make([]node, 0, 64)
	return &s
}}

// mostKept is how large a stack may be to be used again. AXP's own events need
// about fifty.
const mostKept = 512

// decoder reads JSON strictly. All that it makes are slices of src.
type decoder struct {
	src           string
	pos           int
	depth, values int
	stack         []node // values whose list or object has not ended yet
}

func (d *decoder) document() (node, error) {
	if err := d.value(""); err != nil {
		return node{}, err
	}
	if d.space(); d.pos < len(d.src) {
		return node{}, ErrNotJSON
	}
	return d.stack[0], nil
}

// value reads one value and puts it on the stack.
func (d *decoder) value(key string) error {
	d.space()
	if d.pos == len(d.src) {
		return ErrNotJSON
	}
	n, ok := node{key: key}, true
	switch c := d.src[d.pos]; c {
	case '{', '[':
		var err error
		if n.kind, n.inner, err = d.entries(c); err != nil {
			return err
		}
	case '"':
		n.kind = text
		n.spelling, ok = d.text()
	case 't':
		n.kind, n.spelling, ok = boolean, "true", d.word("true")
	case 'f':
		n.kind, n.spelling, ok = boolean, "false", d.word("false")
	case 'n':
		ok = d.word("null")
	default:
		n.kind = number
		n.spelling, ok = d.number()
	}
	if !ok {
		return ErrNotJSON
	}
	d.stack = append(d.stack, n)
	return nil
}

// entries reads a list or an object. Both are counted where they begin, and their
// entries at the commas, so that nothing larger than is allowed is ever built.
func (d *decoder) entries(opening byte) (kind, []node, error) {
	is, end := list, byte(']')
	if opening == '{' {
		is, end = fields, '}'
	}
	d.pos++
	if d.depth++; d.depth > MaxDepth {
		return is, nil, ErrTooDeep
	}
	if d.values++; d.values > MaxValues {
		return is, nil, ErrTooMany
	}
	from := len(d.stack)
	for ended := d.skip(end); !ended; ended = d.skip(end) {
		if len(d.stack) > from {
			if !d.skip(',') {
				return is, nil, ErrNotJSON
			}
			if d.values++; d.values > MaxValues {
				return is, nil, ErrTooMany
			}
		}
		var key string
		if is == fields {
			var ok bool
			if key, ok = d.key(); !ok {
				return is, nil, ErrNotJSON
			}
		}
		if err := d.value(key); err != nil {
			return is, nil, err
		}
	}
	d.depth--
	read := d.stack[from:]
	if is == fields {
		read = lastOfEach(read)
	}
	var inner []node
	if len(read) > 0 {
		inner = append(make([]node, 0, len(read)), read...)
	}
	d.stack = d.stack[:from]
	return is, inner, nil
}

// lastOfEach drops all but the last of the fields that share a key, in place.
func lastOfEach(all []node) []node {
	// Comparing each with each is the fastest for as many as AXP sends, and takes
	// forever for as many as a stranger might.
	const few = 48
	var at map[string]int
	if len(all) > few {
		at = make(map[string]int, len(all))
	}
	kept := 0
	for i := range all {
		same, known := at[all[i].key]
		if at == nil {
			same = indexOf(all[:kept], all[i].key)
			known = same >= 0
		}
		if known {
			all[same] = all[i]
			continue
		}
		if at != nil {
			at[all[i].key] = kept
		}
		if kept < i {
			all[kept] = all[i]
		}
		kept++
	}
	return all[:kept]
}

func indexOf(all []node, key string) int {
	for i := range all {
		if all[i].key == key {
			return i
		}
	}
	return -1
}

// key reads the name of a field and its colon.
func (d *decoder) key() (string, bool) {
	d.space()
	if d.pos == len(d.src) || d.src[d.pos] != '"' {
		return "", false
	}
	key, ok := d.text()
	return key, ok && d.skip(':')
}

func (d *decoder) space() {
	for d.pos < len(d.src) {
		switch d.src[d.pos] {
		case ' ', '\t', '\r', '\n':
			d.pos++
		default:
			return
		}
	}
}

// skip reads one character that stands for itself, if it comes next.
func (d *decoder) skip(c byte) bool {
	d.space()
	if d.pos < len(d.src) && d.src[d.pos] == c {
		d.pos++
		return true
	}
	return false
}

func (d *decoder) word(w string) bool {
	if !strings.HasPrefix(d.src[d.pos:], w) {
		return false
	}
	d.pos += len(w)
	return true
}

func (d *decoder) number() (string, bool) {
	from := d.pos
	d.one("-")
	if !d.one("0") && !d.digits() {
		return "", false
	}
	if d.one(".") && !d.digits() {
		return "", false
	}
	if d.one("eE") {
		d.one("+-")
		if !d.digits() {
			return "", false
		}
	}
	return d.src[from:d.pos], true
}

// one reads one of some characters, if there is one.
func (d *decoder) one(of string) bool {
	if d.pos < len(d.src) && strings.IndexByte(of, d.src[d.pos]) >= 0 {
		d.pos++
		return true
	}
	return false
}

func (d *decoder) digits() bool {
	from := d.pos
	for d.pos < len(d.src) && d.src[d.pos] >= '0' && d.src[d.pos] <= '9' {
		d.pos++
	}
	return d.pos > from
}

// text reads a string that begins here. Most have nothing to be rewritten.
func (d *decoder) text() (string, bool) {
	d.pos++
	from, ascii := d.pos, true
	for ; d.pos < len(d.src); d.pos++ {
		switch c := d.src[d.pos]; {
		case c == '"':
			out := d.src[from:d.pos]
			d.pos++
			if !ascii {
				out = valid(out)
			}
			return out, true
		case c == '\\':
			return d.escaped(from)
		case c < ' ':
			return "", false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", false
}

// escaped reads a string on from its first backslash.
func (d *decoder) escaped(from int) (string, bool) {
	var out strings.Builder
	out.Grow(d.pos - from + 64)
	for d.pos < len(d.src) {
		switch c := d.src[d.pos]; {
		case c == '"':
			out.WriteString(d.src[from:d.pos])
			d.pos++
			return valid(out.String()), true
		case c == '\\':
			out.WriteString(d.src[from:d.pos])
			r, ok := d.escape()
			if !ok {
				return "", false
			}
			out.WriteRune(r)
			from = d.pos
		case c < ' ':
			return "", false
		default:
			d.pos++
		}
	}
	return "", false
}

// escape reads what a backslash begins.
func (d *decoder) escape() (rune, bool) {
	if d.pos+1 == len(d.src) {
		return 0, false
	}
	c := d.src[d.pos+1]
	if c == 'u' {
		r := d.unit()
		if r < 0 {
			return 0, false
		}
		d.pos += unitLength
		if !utf16.IsSurrogate(r) {
			return r, true
		}
		// Half of a character that has no other half is none; what follows is read
		// on its own then.
		whole := utf16.DecodeRune(r, d.unit())
		if whole != unicode.ReplacementChar {
			d.pos += unitLength
		}
		return whole, true
	}
	const short, means = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	i := strings.IndexByte(short, c)
	if i < 0 {
		return 0, false
	}
	d.pos += 2
	return rune(means[i]), true
}

// unitLength is that of \u00e9.
const unitLength = 6

// unit looks at the code of a \uXXXX that begins here; -1 where there is none.
func (d *decoder) unit() rune {
	s := d.src[d.pos:]
	if len(s) < unitLength || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range []byte(s[2:unitLength]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// valid puts U+FFFD in the place of each byte that is not UTF-8; unlike
// strings.ToValidUTF8, which puts one in the place of several.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}
