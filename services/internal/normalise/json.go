package normalise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/axpchat/connector/services/internal/kit/keyring"
)

const (
	// MaxDepth is how deep objects and lists may nest. AXP's own events need seven.
	MaxDepth = 64
	// MaxValues is how many values a body may hold. AXP's own events have about a
	// hundred. What is read of each takes some hundred bytes, so that one body of
	// a megabyte full of them would take a quarter of a gigabyte.
	MaxValues = 10000
)

var (
	// ErrNotJSON is returned for a body that is not one JSON value.
	ErrNotJSON = errors.New("the body is not JSON")
	// ErrNotObject is returned for JSON that is not an object.
	ErrNotObject = errors.New("the body is not a JSON object")
	// ErrTooDeep is returned for JSON that nests deeper than MaxDepth.
	ErrTooDeep = fmt.Errorf("the body nests deeper than %d levels", MaxDepth)
	// ErrTooMany is returned for JSON with more than MaxValues values.
	ErrTooMany = fmt.Errorf("the body holds more than %d values", MaxValues)
)

// byteOrderMark is what some senders put in front of UTF-8.
const byteOrderMark = "\uFEFF"

// canonical writes a value in one way only: keys sorted, no white space. It leaves
// out what is taken.
func canonical(n *node) string { return string(appendJSON(nil, n, nil)) }

// appendJSON writes a value with every text changed, keys excepted; a nil change
// leaves them. Ids are made of what it writes, so it is what encoding/json
// wrote, when ids were first made, of the same value in maps.
func appendJSON(out []byte, n *node, change func(string) string) []byte {
	switch n.kind {
	case null:
		return append(out, "null"...)
	case text:
		if change != nil {
			return appendText(out, change(n.spelling))
		}
		return appendText(out, n.spelling)
	case list:
		out = append(out, '[')
		for i := range n.inner {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendJSON(out, &n.inner[i], change)
		}
		return append(out, ']')
	case fields:
		out = append(out, '{')
		for i, field := range sorted(n.inner) {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendText(out, field.key), ':')
			out = appendJSON(out, field, change)
		}
		return append(out, '}')
	default:
		return append(out, n.spelling...)
	}
}

// sorted lists the fields that are not taken.
func sorted(all []node) []*node {
	out := make([]*node, 0, len(all))
	for i := range all {
		if !all[i].taken {
			out = append(out, &all[i])
		}
	}
	slices.SortFunc(out, func(a, b *node) int { return strings.Compare(a.key, b.key) })
	return out
}

// appendText writes a string. Where something in it has to be escaped, it is up
// to encoding/json how.
func appendText(out []byte, s string) []byte {
	for _, r := range s {
		if r < ' ' || r == '"' || r == '\\' || r == '\u2028' || r == '\u2029' || r == utf8.RuneError {
			return append(out, encoded(s)...)
		}
	}
	out = append(out, '"')
	out = append(out, s...)
	return append(out, '"')
}

// encoded is what encoding/json makes of a value.
func encoded(v any) string {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		// What a decoder has made can be encoded; this would be a defect here,
		// and must not cost the event.
		return ""
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// proof is the one in the event's own providerDialogId: AXP may repeat the value
// anywhere, also in the middle of a text, such as that of an error.
type proof struct {
	full   string // empty where the event has none
	public string
}

func proofOf(providerDialogID string) proof {
	public := keyring.PublicDialogID(providerDialogID)
	if public == providerDialogID {
		return proof{}
	}
	return proof{full: providerDialogID, public: public}
}

// takeOut rewrites the texts in which the event's proof occurs, which is all that
// is certain not to be a word of somebody's.
func (p proof) takeOut(n *node) {
	if n.kind == text {
		n.spelling = p.outOfText(n.spelling)
	}
	for i := range n.inner {
		p.takeOut(&n.inner[i])
	}
}

// outOf rewrites a text that no version understands without the event's proof,
// and without that of another dialog where it stands alone.
func (p proof) outOf(text string) string { return keyring.PublicDialogID(p.outOfText(text)) }

func (p proof) outOfText(text string) string {
	if p.full == "" {
		return text
	}
	return strings.ReplaceAll(text, p.full, p.public)
}

// outOfRaw rewrites a valid JSON object token by token, so that order and
// repeated keys stay as AXP sent them; white space does not.
func (p proof) outOfRaw(raw []byte) string {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	w := rawWriter{}
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return w.out.String()
		}
		if err != nil {
			return "" // the caller has checked the JSON: cannot happen
		}
		if text, isText := token.(string); isText {
			token = p.outOf(text)
		}
		w.write(token)
	}
}

// rawWriter puts the commas and colons back that a token stream leaves out.
type rawWriter struct {
	out   strings.Builder
	stack []rawLevel
}

type rawLevel struct {
	object bool
	count  int // tokens seen: in an object, keys and values alternate
}

func (w *rawWriter) write(token json.Token) {
	delim, isDelim := token.(json.Delim)
	if isDelim && (delim == '}' || delim == ']') {
		w.stack = w.stack[:len(w.stack)-1]
		w.out.WriteRune(rune(delim))
		return
	}
	if n := len(w.stack); n > 0 {
		level := &w.stack[n-1]
		switch {
		case level.object && level.count%2 == 1:
			w.out.WriteByte(':')
		case level.count > 0:
			w.out.WriteByte(',')
		}
		level.count++
	}
	if isDelim {
		w.stack = append(w.stack, rawLevel{object: delim == '{'})
		w.out.WriteRune(rune(delim))
		return
	}
	w.out.WriteString(encoded(token))
}
