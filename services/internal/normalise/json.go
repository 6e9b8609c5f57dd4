package normalise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

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

// decode reads one JSON object. Numbers keep their spelling; of a repeated key
// the last one counts; bytes that are not UTF-8 become U+FFFD.
func decode(raw []byte) (map[string]any, error) {
	if !json.Valid(raw) { // which itself gives up on 10,000 levels
		return nil, ErrNotJSON
	}
	if err := measure(raw); err != nil {
		return nil, err
	}
	if text := bytes.TrimLeft(raw, " \t\r\n"); text[0] != '{' {
		return nil, ErrNotObject
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotJSON, err)
	}
	return tree, nil
}

// measure looks at what stands outside of strings. It runs before the decoder,
// which would build whatever it is given.
func measure(raw []byte) error {
	depth, values, inString := 0, 1, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++ // whatever is escaped does not end the string
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return ErrTooDeep
			}
			values++
		case c == '}' || c == ']':
			depth--
		case c == ',':
			values++
		}
		if values > MaxValues {
			return ErrTooMany
		}
	}
	return nil
}

// canonical writes a value in one way only: keys sorted, no white space.
func canonical(v any) string {
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

// outOfFields copies the fields without the event's proof, which is all that is
// certain not to be a word of somebody's.
func (p proof) outOfFields(fields map[string]any) map[string]any {
	out := make(map[string]any, len(fields))
	for key, v := range fields {
		out[key] = walk(v, p.outOfText)
	}
	return out
}

// outOf copies a value that no version understands without the event's proof,
// and without those of other dialogs where they stand alone.
func (p proof) outOf(v any) any {
	return walk(v, func(text string) string { return keyring.PublicDialogID(p.outOfText(text)) })
}

func (p proof) outOfText(text string) string {
	if p.full == "" {
		return text
	}
	return strings.ReplaceAll(text, p.full, p.public)
}

// walk copies a value with every string changed.
func walk(v any, change func(string) string) any {
	switch v := v.(type) {
	case string:
		return change(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			out[key] = walk(inner, change)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = walk(inner, change)
		}
		return out
	default:
		return v
	}
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
		if _, isDelim := token.(json.Delim); !isDelim {
			token = p.outOf(token)
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
	w.out.WriteString(canonical(token))
}
