package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// BenchmarkVerify: what one look at a token costs, by how it is signed.
func BenchmarkVerify(b *testing.B) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	point, err := ecKey.PublicKey.Bytes()
	if err != nil {
		b.Fatal(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	keys, err := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": "r", "alg": "RS256", "use": "sig", "n": enc(rsaKey.N.Bytes()), "e": enc(big.NewInt(int64(rsaKey.E)).Bytes())},
		{"kty": "EC", "kid": "e", "alg": "ES256", "use": "sig", "crv": "P-256", "x": enc(point[1:33]), "y": enc(point[33:])},
	}})
	if err != nil {
		b.Fatal(err)
	}
	set, err := keyfunc.NewJWKSetJSON(keys)
	if err != nil {
		b.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	issued, err := NewVerifier(b.Context(), Config{JWKSURL: "http://127.0.0.1:1/", Leeway: time.Second}, quiet)
	if err != nil {
		b.Fatal(err)
	}
	if issued.keys, err = signing(b.Context(), set); err != nil {
		b.Fatal(err)
	}
	shared, err := NewVerifier(b.Context(), Config{HS256Secret: secret}, quiet)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		method jwt.SigningMethod
		key    any
		kid    string
		v      *Verifier
	}{
		{jwt.SigningMethodHS256, []byte(secret), "", shared},
		{jwt.SigningMethodRS256, rsaKey, "r", issued},
		{jwt.SigningMethodES256, ecKey, "e", issued},
	} {
		token := jwt.NewWithClaims(c.method, claimsOf(nil))
		token.Header["kid"] = c.kid
		text, err := token.SignedString(c.key)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.method.Alg(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.v.Verify(b.Context(), text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
