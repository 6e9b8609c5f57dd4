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

// MaxDepth is how deep objects and lists may nest. AXP's own events need seven.
const MaxDepth = 64

var (
	// ErrNotJSON is returned for a body that is not one JSON value.
	ErrNotJSON = errors.New("the body is not JSON")
	// ErrNotObject is returned for JSON that is not an object.
	ErrNotObject = errors.New("the body is not a JSON object")
	// ErrTooDeep is returned for JSON that nests deeper than MaxDepth.
	ErrTooDeep = fmt.Errorf("the body nests deeper than %d levels", MaxDepth)
)

// decode reads one JSON object. Numbers keep their spelling; of a repeated key
// the last one counts; bytes that are not UTF-8 become U+FFFD.
func decode(raw []byte) (map[string]any, error) {
	if tooDeep(raw) {
		return nil, ErrTooDeep
	}
	if !json.Valid(raw) {
		return nil, ErrNotJSON
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

// tooDeep looks at the brackets outside of strings. It runs before the decoder,
// which would build whatever it is given.
func tooDeep(raw []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++ // whatever is escaped does not end the string
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
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

// withoutProofs copies a value and strips every proof of ours from its strings:
// AXP may repeat a providerDialogId under a name that is not known yet.
func withoutProofs(v any) any {
	switch v := v.(type) {
	case string:
		return keyring.PublicDialogID(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			out[key] = withoutProofs(inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = withoutProofs(inner)
		}
		return out
	default:
		return v
	}
}

// rawWithoutProofs rewrites a valid JSON object token by token, so that order
// and repeated keys stay as AXP sent them; white space does not.
func rawWithoutProofs(raw []byte) string {
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
	w.out.WriteString(canonical(withoutProofs(token)))
}
