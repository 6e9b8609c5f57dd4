package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

const leeway = 30 * time.Second

// mac signs as HS256 does.
func mac(key, text string) []byte {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return m.Sum(nil)
}

// refusedWell tells whether an error is one that a client may get, and repeats
// nothing of the token.
func refusedWell(err error, parts ...string) bool {
	e := errs.From(err)
	for _, part := range parts {
		if len(part) > 8 && strings.Contains(e.Detail, part) {
			return false
		}
	}
	return e.Reason == axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED || e.Reason == axpchatv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED
}

// FuzzVerify: whatever head and claims a token has, there is no panic; without the
// secret it is never taken; and whose token is taken keeps AXP's limits, is not over,
// and is what encoding/json alone makes of the claims.
func FuzzVerify(f *testing.F) {
	v, err := NewVerifier(f.Context(), Config{HS256Secret: secret, Issuer: "us", Audience: "chat", Leeway: leeway}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	const head = `{"alg":"HS256","typ":"JWT"}`
	for _, claims := range []string{
		`{"sub":"ada","account":"ABCDEF","iss":"us","aud":"chat","exp":9999999999}`,
		`{"sub":"ada","account":"ABCDEF","iss":"us","aud":["chat","x"],"exp":9999999999,"nbf":1,"identifiers":{"a":["b"]},"verified":true}`,
		`{"sub":"ada","account":"ABCDEF","iss":"us","aud":"chat","exp":9999999999,"SUB":"eve","Account":"GHIJKL","sub":"bob"}`,
		`{"SUB":"ada","account":"ABCDEF","iss":"us","aud":"chat","exp":9999999999}`,
		`{"sub":"ada","account":"ABCDEF","iss":"us","aud":"chat","exp":9999999999.75,"anonymous":true}`,
		`{"sub":"ada","account":"ABCDEF","iss":"us","aud":"chat","exp":9999999999,"anonymous_sub":"visitor","name":"\ud800"}`,
		`{"sub":"ada","account":"ABCDEF","iss":"us","aud":"chat","exp":1e12,"iat":9999999999,"nbf":null}`,
		`{"sub":"ada","account":"abc","iss":"us","aud":"chat","exp":1e400}`,
		`{"sub":"","account":"ABCDEF","iss":"us","aud":"chat","exp":-1}`,
		`{"sub":{},"account":[],"exp":"soon"}`,
		`[]`, ``, `null`,
	} {
		f.Add(head, claims, true)
		f.Add(`{"alg":"none"}`, claims, false)
	}
	f.Add(`{"alg":"RS256","kid":"../x"}`, `{}`, true)
	f.Add(`{"alg":"HS256","crit":["exp"]}`, `{}`, true)
	enc := base64.RawURLEncoding
	f.Fuzz(func(t *testing.T, head, claims string, signed bool) {
		text := enc.EncodeToString([]byte(head)) + "." + enc.EncodeToString([]byte(claims))
		key := "not the secret, but as long as the secret is"
		if signed {
			key = secret
		}
		p, err := v.Verify(t.Context(), text+"."+enc.EncodeToString(mac(key, text)))
		switch {
		case err != nil:
			if !refusedWell(err, head, claims) {
				t.Errorf("%q %q: %v", head, claims, err)
			}
			return
		case !signed:
			t.Fatalf("taken without the secret: %q %q", head, claims)
		case p.Subject == "" || length(p.Subject) > maxSubject || !accountPattern.MatchString(p.Account) || length(p.Name) > maxName || !validIdentifiers(p.Identifiers):
			t.Errorf("taken beyond the limits: %+v", p)
		case !p.ExpireTime.After(time.Now()):
			t.Errorf("taken after its end: %v", p.ExpireTime)
		case !says(head, claims, p):
			t.Errorf("%q %q: taken for %+v", head, claims, p)
		}
	})
}

// says reads a token by encoding/json alone, and tells whether it is of that
// customer and for us.
func says(head, claims string, p *Principal) bool {
	var h, c map[string]any
	if json.Unmarshal([]byte(head), &h) != nil || json.Unmarshal([]byte(claims), &c) != nil {
		return false
	}
	_, critical := h["crit"]
	audience, many := c["aud"].([]any)
	expires, _ := c["exp"].(float64)
	from, _ := c["nbf"].(float64)
	name, _ := c["name"].(string)
	verified, _ := c["verified"].(bool)
	anonymous, _ := c["anonymous"].(bool)
	former, _ := c["anonymous_sub"].(string)
	late := p.ExpireTime.Add(-leeway).Sub(time.Unix(int64(expires), 0))
	return h["alg"] == "HS256" && !critical && c["iss"] == "us" && (c["aud"] == "chat" || many && slices.Contains(audience, any("chat"))) &&
		c["sub"] == p.Subject && c["account"] == p.Account && name == p.Name && verified == p.Verified && anonymous == p.Anonymous && former == p.AnonymousSubject &&
		late >= -time.Second && late <= time.Second && from <= float64(time.Now().Add(leeway).Unix())
}

// FuzzToken: whatever text comes for a token, what is taken is signed with our
// secret, or with the issuer's key, by just that algorithm; never with a secret
// that everybody can know.
func FuzzToken(f *testing.F) {
	private := ed25519.NewKeyFromSeed([]byte("a seed for tests, 32 bytes long."))
	public := private.Public().(ed25519.PublicKey)
	set, err := keyfunc.NewJWKSetJSON(json.RawMessage(`{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"k","x":"` +
		base64.RawURLEncoding.EncodeToString(public) + `"}]}`))
	if err != nil {
		f.Fatal(err)
	}
	shared, err := NewVerifier(f.Context(), Config{HS256Secret: secret, Leeway: leeway}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	issued, err := NewVerifier(f.Context(), Config{JWKSURL: "http://127.0.0.1:1/", Leeway: leeway}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	if issued.keys, err = signing(f.Context(), set); err != nil { // without an issuer to ask for others
		f.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		f.Fatal(err)
	}
	for method, keys := range map[jwt.SigningMethod][]any{
		jwt.SigningMethodHS256: {[]byte(secret), []byte(public), der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})},
		jwt.SigningMethodHS512: {[]byte(secret)}, jwt.SigningMethodEdDSA: {private}, jwt.SigningMethodNone: {jwt.UnsafeAllowNoneSignatureType},
	} {
		for _, key := range keys {
			for _, kid := range []any{"k", "other", 1, nil} {
				for _, exp := range []int64{9999999999, 1} {
					token := jwt.NewWithClaims(method, jwt.MapClaims{"sub": "ada", "account": "ABCDEF", "exp": exp})
					if kid != nil {
						token.Header["kid"] = kid
					}
					text, err := token.SignedString(key)
					if err != nil {
						f.Fatal(err)
					}
					f.Add(text)
				}
			}
		}
	}
	for _, text := range []string{"", ".", "..", "...", "a.b.c", "e30.e30.", "e30.e30.AAAA", "Bearer e30.e30.AAAA", " e30.e30.e30", "e30=.e30=.e30=", strings.Repeat("e30.", 5000)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, byShared := shared.Verify(t.Context(), text)
		_, byIssued := issued.Verify(t.Context(), text)
		for _, err := range []error{byShared, byIssued} {
			if err != nil && !refusedWell(err, text) {
				t.Errorf("%q: %v", text, err)
			}
		}
		if byShared != nil && byIssued != nil {
			return
		}
		parts := strings.Split(text, ".")
		if len(parts) != 3 {
			t.Fatalf("%q is taken", text)
		}
		signature, err := base64.RawURLEncoding.DecodeString(parts[2])
		said := parts[0] + "." + parts[1]
		if err != nil || byShared == nil && !bytes.Equal(signature, mac(secret, said)) || byIssued == nil && !ed25519.Verify(public, []byte(said), signature) {
			t.Errorf("%q is taken, by the secret: %v, by the key: %v", text, byShared == nil, byIssued == nil)
		}
	})
}
