package privacy

import (
	"encoding/base64"
	"encoding/hex"
	"testing"
)

// TestTheSearchFinds: a search that can find nothing proves nothing.
func TestTheSearchFinds(t *testing.T) {
	t.Parallel()
	m := &marks{}
	secret := m.of("secret")
	for name, text := range map[string]string{
		"as it is":                "level=debug msg=" + secret,
		"in hex":                  "key " + hex.EncodeToString([]byte("a"+secret+"b")),
		"in base64":               "eyJ" + base64.StdEncoding.EncodeToString([]byte(secret)),
		"in base64, one further":  base64.RawURLEncoding.EncodeToString([]byte("x" + secret + "y")),
		"in base64, two further":  base64.RawStdEncoding.EncodeToString([]byte("xx" + secret + "yyy")),
		"in base64, deep in JSON": base64.RawURLEncoding.EncodeToString([]byte(`{"name":"` + secret + `"}`)),
	} {
		if len(m.find(text)) != 1 {
			t.Errorf("%s: not found in %q", name, text)
		}
	}
	if got := m.find("level=debug msg=nothing"); len(got) != 0 {
		t.Errorf("found %q where there is nothing", got)
	}
}
