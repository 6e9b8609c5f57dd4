package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"testing"
	"time"
)

// FuzzVerify: whatever head and claims a token has, there is no panic; without the
// secret it is never taken; and whose token is taken keeps AXP's limits and is not
// over.
func FuzzVerify(f *testing.F) {
	v, err := NewVerifier(f.Context(), Config{HS256Secret: secret, Issuer: "us", Audience: "chat", Leeway: 30 * time.Second}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	const head = `{"alg":"HS256","typ":"JWT"}`
	for _, claims := range []string{
		`{"sub":"ada","account":"ABCDEF","iss":"us","aud":"chat","exp":9999999999}`,
		`{"sub":"ada","account":"ABCDEF","iss":"us","aud":["chat","x"],"exp":9999999999,"nbf":1,"identifiers":{"a":["b"]},"verified":true}`,
		`{"sub":"ada","account":"abc","iss":"us","aud":"chat","exp":1e400}`,
		`{"sub":"","account":"ABCDEF","iss":"us","aud":"chat","exp":-1}`,
		`{"sub":{},"account":[],"exp":"soon"}`,
		`[]`, ``,
	} {
		f.Add(head, claims, true)
		f.Add(`{"alg":"none"}`, claims, false)
	}
	f.Add(`{"alg":"RS256","kid":"../x"}`, `{}`, true)
	f.Add(`{"alg":"HS256","crit":["exp"]}`, `{}`, true)
	enc := base64.RawURLEncoding
	f.Fuzz(func(t *testing.T, head, claims string, signed bool) {
		text := enc.EncodeToString([]byte(head)) + "." + enc.EncodeToString([]byte(claims))
		key := []byte("not the secret, but as long as the secret is")
		if signed {
			key = []byte(secret)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		p, err := v.Verify(t.Context(), text+"."+enc.EncodeToString(mac.Sum(nil)))
		switch {
		case err != nil:
			return
		case !signed:
			t.Fatalf("taken without the secret: %q %q", head, claims)
		case p.Subject == "" || length(p.Subject) > maxSubject || !accountPattern.MatchString(p.Account) || length(p.Name) > maxName || !validIdentifiers(p.Identifiers):
			t.Errorf("taken beyond the limits: %+v", p)
		case !p.ExpireTime.After(time.Now()):
			t.Errorf("taken after its end: %v", p.ExpireTime)
		}
	})
}
