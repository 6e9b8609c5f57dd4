package callback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/axpchat/connector/services/internal/kit/config"
)

// Verifier checks a signature of the body in a header: HMAC-SHA-256 over the
// bytes as they came, in hex or base64, with or without "sha256=" in front. AXP
// documents none today; a proxy in front of the connector may add one.
type Verifier struct {
	header string
	secret []byte
}

// NewVerifier makes a verifier; nil, which takes everything, without a header.
func NewVerifier(header string, secret config.Secret) *Verifier {
	if header == "" {
		return nil
	}
	return &Verifier{header: header, secret: []byte(secret.Reveal())}
}

// Verify tells whether the body is signed, in constant time for signatures of
// the right length.
func (v *Verifier) Verify(h http.Header, body []byte) bool {
	if v == nil {
		return true
	}
	values := h.Values(v.header)
	if len(values) != 1 {
		return false
	}
	mac := hmac.New(sha256.New, v.secret)
	mac.Write(body)
	want := mac.Sum(nil)
	text := strings.TrimPrefix(strings.TrimSpace(values[0]), "sha256=")
	ok := false
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString,
		base64.StdEncoding.DecodeString,
		base64.RawURLEncoding.DecodeString,
	} {
		got, err := decode(text)
		ok = err == nil && hmac.Equal(got, want) || ok
	}
	return ok
}
