package delivery

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"github.com/axpchat/connector/services/internal/kit/bus"
)

// cursorVersion is the first part of every cursor. A cursor outlives a release:
// a new form needs a new number and a reader for the old one.
const cursorVersion = "1"

// maxCursor is the longest text that is looked at; ours are far shorter.
const maxCursor = 256

// errCursor is returned for what this package has not made.
var errCursor = errors.New("delivery: not a cursor")

// cursor is a place in a session's journal: everything up to the sequence has
// been seen. It is a hint of the client, not a proof of anything: it carries no
// right, since the session is checked before it is looked at.
type cursor struct {
	epoch    string // of the stream; another one has other sequences
	tag      string // of the session
	sequence uint64
}

// String is the form that clients keep.
func (c cursor) String() string {
	text := strings.Join([]string{cursorVersion, c.epoch, c.tag, strconv.FormatUint(c.sequence, 10)}, ".")
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// parseCursor reads what String made.
func parseCursor(s string) (cursor, error) {
	if len(s) > maxCursor {
		return cursor{}, errCursor
	}
	// Strict: of the texts that decode to the same bytes only one is ours.
	text, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return cursor{}, errCursor
	}
	parts := strings.Split(string(text), ".")
	if len(parts) != 4 || parts[0] != cursorVersion || parts[1] == "" || parts[2] == "" {
		return cursor{}, errCursor
	}
	seq, err := strconv.ParseUint(parts[3], 10, 64)
	if err != nil {
		return cursor{}, errCursor
	}
	c := cursor{epoch: parts[1], tag: parts[2], sequence: seq}
	if c.String() != s { // the decoder passes over line breaks, and numbers have zeros before them
		return cursor{}, errCursor
	}
	return c, nil
}

// sessionTag tells cursors of different sessions apart without naming them.
func sessionTag(key bus.SessionKey) string {
	sum := sha256.Sum256([]byte(key.String()))
	return base64.RawURLEncoding.EncodeToString(sum[:6])
}
