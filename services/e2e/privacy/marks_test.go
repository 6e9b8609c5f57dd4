package privacy

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// marks are what must be found nowhere: name of the thing, and its text.
type marks struct {
	mu    sync.Mutex
	texts map[string]string
}

// mark makes a text that occurs nowhere else. It is made of letters and digits,
// so that no encoding for URLs or JSON changes it.
func mark(kind string) string { return "Zq7" + kind + "Xw4" }

func (m *marks) add(kind, text string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.texts == nil {
		m.texts = map[string]string{}
	}
	m.texts[kind] = text
	return text
}

// of makes a marked text of a kind, which is looked for from now on.
func (m *marks) of(kind string) string { return m.add(kind, mark(kind)) }

// find returns the kinds that occur in a text, plain or in the encodings in which
// one would not notice them.
func (m *marks) find(text string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []string
	for kind, secret := range m.texts {
		for _, form := range forms(secret) {
			if at := strings.Index(text, form); at >= 0 {
				found = append(found, fmt.Sprintf("%s in: …%s…", kind, around(text, at, len(form))))
				break
			}
		}
	}
	slices.Sort(found)
	return found
}

func around(text string, at, length int) string {
	return strings.ToValidUTF8(text[max(at-150, 0):min(at+length+150, len(text))], "?")
}

// forms are the ways in which a text may be written: as it is, in hex, and in
// base64, of which each of three begins gives another one.
func forms(text string) []string {
	out := []string{text, hex.EncodeToString([]byte(text))}
	for skip := range 3 {
		// Bytes before it change the first letters, what comes after it the last ones.
		padded := strings.Repeat("\x00", skip) + text
		whole := len(padded) / 3 * 3
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			out = append(out, e.EncodeToString([]byte(padded[:whole]))[(skip*4+2)/3:])
		}
	}
	return out
}
