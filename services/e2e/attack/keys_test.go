package attack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/connector/dev"
)

// jwk is a key as a key set shows it to everybody.
type jwk struct {
	Type     string `json:"kty"`
	ID       string `json:"kid"`
	Alg      string `json:"alg"`
	Use      string `json:"use"`
	Modulus  string `json:"n"`
	Exponent string `json:"e"`
}

func shown(kid, use string, key *rsa.PrivateKey) jwk {
	enc := base64.RawURLEncoding.EncodeToString
	return jwk{"RSA", kid, "RS256", use, enc(key.N.Bytes()), enc(big.NewInt(int64(key.E)).Bytes())}
}

// keySet serves keys and counts who asks for them.
func keySet(t *testing.T, keys ...jwk) (address string, document []byte, asked *atomic.Int64) {
	t.Helper()
	document, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	asked = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(document) // the caller may be gone
	}))
	t.Cleanup(server.Close)
	return server.URL, document, asked
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signKid signs with what else the head of the token says.
func signKid(t *testing.T, method jwt.SigningMethod, key any, head map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims("victim"))
	maps.Copy(token.Header, head)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// macs are what a gateway that takes a public key for a secret would believe:
// tokens signed with whatever form of the key everybody can have.
func macs(t *testing.T, key *rsa.PublicKey, document []byte) map[string]string {
	t.Helper()
	pkix, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(key)
	out := map[string]string{}
	for name, secret := range map[string][]byte{
		"PEM":                 pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}),
		"PEM of PKCS 1":       pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
		"DER":                 pkix,
		"DER of PKCS 1":       pkcs1,
		"modulus":             key.N.Bytes(),
		"modulus as it shows": []byte(base64.RawURLEncoding.EncodeToString(key.N.Bytes())),
		"whole key set":       document,
	} {
		out["HS256 by the public key's "+name] = signKid(t, jwt.SigningMethodHS256, secret, map[string]any{"kid": "now"})
		out["RS256 named, HS256 by the public key's "+name] = unsigned(t, `{"alg":"RS256","kid":"now","typ":"JWT"}`, claims("victim"), func(signed string) []byte {
			h := hmac.New(sha256.New, secret)
			h.Write([]byte(signed))
			return h.Sum(nil)
		})
	}
	return out
}

// TestAPublicKeyIsNoSecret: against a gateway with an issuer's key set, over the
// wire, with everything that somebody can sign who has no private key of it.
func TestAPublicKeyIsNoSecret(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	now, next, sealing, own := rsaKey(t), rsaKey(t), rsaKey(t), rsaKey(t)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	address, document, _ := keySet(t, shown("now", "sig", now), shown("next", "sig", next), shown("sealing", "enc", sealing))
	mine, _, asked := keySet(t, shown("now", "sig", own), shown("mine", "sig", own))
	kid := func(id string) map[string]any { return map[string]any{"kid": id} }
	thief := func(key *rsa.PrivateKey, id string) string {
		token := jwt.NewWithClaims(jwt.SigningMethodRS256, claims("thief"))
		token.Header["kid"] = id
		text, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	// Both keys of the set are good, so that refusals are for what is forged.
	s := startWith(ctx, t, signKid(t, jwt.SigningMethodRS256, now, kid("now")), thief(next, "next"), func(c *dev.Config) {
		c.Connector.Gateway.Auth.HS256Secret, c.Connector.Gateway.Auth.JWKSURL = "", address
	})
	rs := jwt.SigningMethodRS256
	if got := s.ask(ctx, t, request{method: http.MethodGet, path: "/v1/sessions/" + s.session, token: signKid(t, rs, next, nil)}); got.status != http.StatusOK {
		t.Fatalf("a good token without a kid: %d %s", got.status, got.body)
	}
	tokens := macs(t, &now.PublicKey, document)
	maps.Copy(tokens, map[string]string{
		"alg none":                            signKid(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid("now")),
		"alg none in other letters":           unsigned(t, `{"alg":"nOnE","kid":"now"}`, claims("victim"), func(string) []byte { return nil }),
		"no signature":                        unsigned(t, `{"alg":"RS256","kid":"now"}`, claims("victim"), func(string) []byte { return nil }),
		"a signature of zeros":                unsigned(t, `{"alg":"RS256","kid":"now"}`, claims("victim"), func(string) []byte { return make([]byte, 256) }),
		"the kid of another key":              signKid(t, rs, now, kid("next")),
		"a kid that is not known":             signKid(t, rs, now, kid("yesterday")),
		"a kid that is a path":                signKid(t, rs, own, kid("../../../../dev/null")),
		"a kid that is no text":               signKid(t, rs, now, map[string]any{"kid": 1}),
		"no kid":                              signKid(t, rs, own, nil),
		"a key of my own, its kid":            signKid(t, rs, own, kid("mine")),
		"a key of my own, the issuer's kid":   signKid(t, rs, own, kid("now")),
		"my key in the token":                 signKid(t, rs, own, map[string]any{"kid": "now", "jwk": shown("now", "sig", own)}),
		"my key set's address":                signKid(t, rs, own, map[string]any{"kid": "mine", "jku": mine}),
		"my certificate's address":            signKid(t, rs, own, map[string]any{"kid": "now", "x5u": mine}),
		"an algorithm that is not pinned":     signKid(t, jwt.SigningMethodRS512, now, kid("now")),
		"an algorithm that is not the key's":  signKid(t, jwt.SigningMethodPS256, now, kid("now")),
		"another kind of key":                 signKid(t, jwt.SigningMethodES256, curve, kid("now")),
		"a key that is not for signing":       signKid(t, rs, sealing, kid("sealing")),
		"no kid, a key not for signing":       signKid(t, rs, sealing, nil),
		"an extension that must be known":     signKid(t, rs, now, map[string]any{"kid": "now", "crit": []string{"b64"}, "b64": false}),
		"the secret that is not set up, HMAC": signKid(t, jwt.SigningMethodHS256, []byte{}, kid("now")),
	})
	var attacks []attack
	chat := axpchatv1.NewChatServiceClient(s.dial(t))
	for name, token := range tokens {
		attacks = append(attacks, attack{name, request{method: http.MethodGet, path: "/v1/sessions/" + s.session, token: token}, http.StatusUnauthorized, "UNAUTHENTICATED"})
		_, err := chat.GetSession(bearer(ctx, token), &axpchatv1.GetSessionRequest{SessionId: s.session})
		if got := reasonOf(err); got != "Unauthenticated UNAUTHENTICATED" {
			t.Errorf("%s, by gRPC: %s", name, got)
		}
	}
	s.try(ctx, t, attacks)
	if n := asked.Load(); n != 0 {
		t.Errorf("the thief's key set was fetched %d times", n)
	}
}
