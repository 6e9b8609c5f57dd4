package delivery

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/axpchat/connector/services/internal/kit/bus"
)

func TestCursorRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := cursor{
			epoch:    rapid.StringMatching(`[0-9a-z]{1,12}`).Draw(t, "epoch"),
			tag:      sessionTag(bus.SessionKey{Account: "ABCDEF", Session: rapid.String().Draw(t, "session")}),
			sequence: rapid.Uint64().Draw(t, "sequence"),
		}
		got, err := parseCursor(want.String())
		if err != nil || got != want {
			t.Fatalf("parseCursor(%q) = %+v, %v; want %+v", want.String(), got, err, want)
		}
	})
}

func TestSessionTagTellsSessionsApart(t *testing.T) {
	a := sessionTag(bus.SessionKey{Account: "ABCDEF", Session: "s1"})
	b := sessionTag(bus.SessionKey{Account: "ABCDEF", Session: "s2"})
	if a == b || strings.Contains(a, ".") {
		t.Fatalf("tags %q and %q", a, b)
	}
}

// FuzzParseCursor: whatever a client sends, a cursor that is accepted is one
// that this package would have made, letter for letter.
func FuzzParseCursor(f *testing.F) {
	for _, seed := range []string{"", "x", "....", cursor{epoch: "e", tag: "t", sequence: 7}.String(), "MS5lLnQuMDc", "MS5lLnQuLTE", strings.Repeat("A", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text)
		if err != nil {
			if !errors.Is(err, errCursor) {
				t.Fatalf("parseCursor(%q): %v", text, err)
			}
			return
		}
		if c.String() != text {
			t.Fatalf("parseCursor(%q) accepts what it would write as %q", text, c.String())
		}
	})
}
