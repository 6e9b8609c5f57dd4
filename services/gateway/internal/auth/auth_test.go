package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "a secret for tests of thirty-two bytes or more"

func claimsOf(change func(jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{
		"sub": "ada", "account": "ABCDEF", "name": "Ada", "verified": true, "iss": "us", "aud": "chat",
		"exp": time.Now().Add(time.Hour).Unix(), "identifiers": map[string][]string{"emailAddresses": {"ada@example.net"}},
	}
	if change != nil {
		change(c)
	}
	return c
}

func sign(t *testing.T, method jwt.SigningMethod, key any, kid string, c jwt.MapClaims) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, c)
	if kid != "" {
		tok.Header["kid"] = kid
	}
	s, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verifier(t *testing.T, cfg Config) *Verifier {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	cfg.Leeway = 30 * time.Second
	v, err := NewVerifier(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestHS256(t *testing.T) {
	v := verifier(t, Config{HS256Secret: secret, Issuer: "us", Audience: "chat", DefaultAccount: "DEFACC"})
	const (
		ok      = axpchatv1.ErrorReason_ERROR_REASON_UNSPECIFIED
		refused = axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED
		late    = axpchatv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED
		// anonymous: taken, but nobody knows whose it is.
		anonymous = axpchatv1.ErrorReason(-1)
	)
	set := func(key string, value any) func(jwt.MapClaims) { return func(c jwt.MapClaims) { c[key] = value } }
	unset := func(key string) func(jwt.MapClaims) { return func(c jwt.MapClaims) { delete(c, key) } }
	cases := []struct {
		name   string
		change func(jwt.MapClaims)
		want   axpchatv1.ErrorReason
	}{
		{"a sound token", nil, ok},
		{"without account the default one", unset("account"), ok},
		{"within the leeway after its expiry", set("exp", time.Now().Add(-10*time.Second).Unix()), ok},
		{"expired", set("exp", time.Now().Add(-time.Minute).Unix()), late},
		{"expired and of another issuer", func(c jwt.MapClaims) { c["exp"], c["iss"] = time.Now().Add(-time.Minute).Unix(), "them" }, refused},
		{"without expiry", unset("exp"), refused},
		{"not valid yet", set("nbf", time.Now().Add(time.Minute).Unix()), refused},
		{"of another issuer", set("iss", "them"), refused},
		{"for another audience", set("aud", "mail"), refused},
		{"without subject", unset("sub"), refused},
		{"with an account that is none", set("account", "ABC.*"), refused},
		{"with a name that is too long", set("name", strings.Repeat("n", 71)), refused},
		{"with a name too long in UTF-16", set("name", strings.Repeat("😀", 36)), refused},
		{"with an identifier without values", set("identifiers", map[string][]string{"phone": {}}), refused},
		{"with too many values", set("identifiers", map[string][]string{"phone": {"1", "2", "3", "4", "5", "6"}}), refused},
		{"with a value that is too long", set("identifiers", map[string][]string{"phone": {strings.Repeat("1", 257)}}), refused},
		{"anonymous", func(c jwt.MapClaims) { c["anonymous"], c["verified"] = true, false }, anonymous},
		{"anonymous and verified", set("anonymous", true), refused},
		{"of a customer who was anonymous", set("anonymous_sub", "visitor"), ok},
		{"of an anonymous customer who was another one", func(c jwt.MapClaims) { c["anonymous"], c["verified"], c["anonymous_sub"] = true, false, "visitor" }, refused},
		{"of a customer who was himself", set("anonymous_sub", "ada"), refused},
		{"with a subject of which a part is no text", set("sub", "ada\ufffd"), refused},
		{"with a former subject of which a part is no text", set("anonymous_sub", "visitor\ufffd"), refused},
		{"with a former subject that is too long", set("anonymous_sub", strings.Repeat("v", 257)), refused},
		{"with the name of a claim in capitals", func(c jwt.MapClaims) { c["SUB"], c["\u017fub"], c["Account"], c["EXP"] = "eve", "eve", "GHIJKL", 1 }, ok},
		{"with a subject in capitals alone", func(c jwt.MapClaims) { c["SUB"] = c["sub"]; delete(c, "sub") }, refused},
		{"with identifiers of another shape", set("identifiers", "ada"), refused},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, err := v.Verify(t.Context(), sign(t, jwt.SigningMethodHS256, []byte(secret), "", claimsOf(c.change)))
			if c.want == anonymous {
				if err != nil || !p.Anonymous || p.Verified {
					t.Fatalf("principal %+v, %v", p, err)
				}
				return
			}
			if got := reasonOf(err); got != c.want {
				t.Fatalf("got %v (%v), want %v", got, err, c.want)
			}
			if err == nil && (p.Subject != "ada" || p.Anonymous || !p.Verified || p.Identifiers["emailAddresses"][0] != "ada@example.net" || p.Account == "") {
				t.Fatalf("principal %+v", p)
			}
		})
	}
	forged := map[string]string{
		"empty":          "",
		"rubbish":        "a.b.c",
		"another secret": sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 40)), "", claimsOf(nil)),
		"alg none":       sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", claimsOf(nil)),
		"HS512":          sign(t, jwt.SigningMethodHS512, []byte(secret), "", claimsOf(nil)),
		"too long":       strings.Repeat("a", maxToken+1),
		"an extension":   extended(t),
		"forged expired": sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 40)), "", claimsOf(set("exp", 1))),
	}
	for name, tok := range forged {
		if _, err := v.Verify(t.Context(), tok); reasonOf(err) != refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// extended is a token that must not be taken by who does not know its extension.
func extended(t *testing.T) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodHS256, claimsOf(nil))
	tok.Header["crit"], tok.Header["b64"] = []string{"b64"}, false
	s, err := tok.SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func reasonOf(err error) axpchatv1.ErrorReason {
	if err == nil {
		return axpchatv1.ErrorReason_ERROR_REASON_UNSPECIFIED
	}
	return errs.From(err).Reason
}

func TestKeySet(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b64 := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	point, err := ecKey.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": "r", "alg": "RS256", "use": "sig", "n": b64(rsaKey.N.Bytes()), "e": b64(big.NewInt(int64(rsaKey.E)).Bytes())},
		{"kty": "EC", "kid": "e", "alg": "ES256", "use": "sig", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])},
	}}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(set) }))
	t.Cleanup(issuer.Close)
	v := verifier(t, Config{JWKSURL: issuer.URL})
	for name, tok := range map[string]string{
		"RS256": sign(t, jwt.SigningMethodRS256, rsaKey, "r", claimsOf(nil)),
		"ES256": sign(t, jwt.SigningMethodES256, ecKey, "e", claimsOf(nil)),
	} {
		if _, err := v.Verify(t.Context(), tok); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	der, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	for name, tok := range map[string]string{
		"the public key as a secret": sign(t, jwt.SigningMethodHS256, public, "r", claimsOf(nil)),
		"alg none":                   sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "r", claimsOf(nil)),
		"an unknown key":             sign(t, jwt.SigningMethodRS256, rsaKey, "other", claimsOf(nil)),
		"the key of another kind":    sign(t, jwt.SigningMethodES256, ecKey, "r", claimsOf(nil)),
		"another algorithm":          sign(t, jwt.SigningMethodRS512, rsaKey, "r", claimsOf(nil)),
	} {
		if _, err := v.Verify(t.Context(), tok); reasonOf(err) != axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	cases := []struct {
		name string
		cfg  Config
		keys []string
	}{
		{"a secret", Config{HS256Secret: secret}, nil},
		{"a key set", Config{JWKSURL: "https://login.example.com/keys"}, nil},
		{"neither", Config{}, []string{"AUTH_HS256_SECRET"}},
		{"both", Config{HS256Secret: secret, JWKSURL: "https://login.example.com/keys"}, []string{"AUTH_JWKS_URL"}},
		{"a short secret", Config{HS256Secret: "short"}, []string{"AUTH_HS256_SECRET"}},
		{"no address", Config{JWKSURL: "keys.json"}, []string{"AUTH_JWKS_URL"}},
		{"a wrong account and leeway", Config{HS256Secret: secret, DefaultAccount: "x", Leeway: time.Hour}, []string{"AUTH_DEFAULT_ACCOUNT", "AUTH_LEEWAY"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, m := range c.cfg.Validate() {
				got = append(got, m.Key)
			}
			if strings.Join(got, " ") != strings.Join(c.keys, " ") {
				t.Fatalf("mistakes of %v, want %v", got, c.keys)
			}
		})
	}
}

// TestNoTwoSubjectsBecomeOne: what JSON can't say as text, and what looks alike, is
// not taken for somebody else's name.
func TestNoTwoSubjectsBecomeOne(t *testing.T) {
	v := verifier(t, Config{HS256Secret: secret})
	taken := map[string]string{}
	for _, sub := range []string{
		`"ada"`, `"ada\u0000"`, `"\u0000ada"`, `"ada "`, `" ada"`, `"ADA"`, `"ada\n"`, `"ada."`, `"a.da"`, `"*"`, `">"`, `"ada.>"`, `"ada/../eve"`, `"%61da"`,
		`"\u00e5da"`, `"a\u030ada"`, `"\u212bda"`, `"a\u200bda"`, `"\u202eada"`, `"\uff41da"`, `"\u0430da"`, `"\ud83d\ude00"`,
		`"ada\ud800"`, `"ada\ud801"`, `"ada\udc00"`, "\"ada\xff\"", "\"ada\xfe\"", "\"ada\xc0\x80\"", `"ada\ufffd"`,
	} {
		enc := base64.RawURLEncoding
		said := enc.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + enc.EncodeToString([]byte(`{"sub":`+sub+`,"account":"ABCDEF","exp":9999999999}`))
		p, err := v.Verify(t.Context(), said+"."+enc.EncodeToString(mac(secret, said)))
		if err != nil {
			if reasonOf(err) != axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED {
				t.Errorf("%q: %v", sub, err)
			}
			continue
		}
		if other, there := taken[p.Subject]; there {
			t.Errorf("%q and %q are one customer", sub, other)
		}
		taken[p.Subject] = sub
	}
	if len(taken) != 22 {
		t.Errorf("%d subjects are taken, want the 22 that are text: %q", len(taken), taken)
	}
}

// TestClaimsAndHeadersOfOtherShapes: a claim twice is what stands last (RFC 7519,
// section 4), lists of audiences are lists, and what a head says beside the
// algorithm and the key's id is nothing to us.
func TestClaimsAndHeadersOfOtherShapes(t *testing.T) {
	v := verifier(t, Config{HS256Secret: secret, Issuer: "us", Audience: "chat"})
	const (
		head  = `{"alg":"HS256"}`
		sound = `"iss":"us","account":"ABCDEF","exp":9999999999`
	)
	for _, c := range []struct {
		name, head, claims string
		want               string // the subject; "": refused
	}{
		{"sub twice", head, `{"sub":"eve","aud":"chat",` + sound + `,"sub":"ada"}`, "ada"},
		{"an end twice, the last is over", head, `{"sub":"ada","aud":"chat",` + sound + `,"exp":1}`, ""},
		{"an issuer twice, the last is another", head, `{"sub":"ada","aud":"chat",` + sound + `,"iss":"them"}`, ""},
		{"one audience of many", head, `{"sub":"ada","aud":["mail","chat"],` + sound + `}`, "ada"},
		{"none of many audiences", head, `{"sub":"ada","aud":["mail","chats","cha","chat "],` + sound + `}`, ""},
		{"no audience", head, `{"sub":"ada","aud":[],` + sound + `}`, ""},
		{"an audience that is no text", head, `{"sub":"ada","aud":[["chat"]],` + sound + `}`, ""},
		{"a subject that is a list", head, `{"sub":["ada"],"aud":"chat",` + sound + `}`, ""},
		{"a subject that is a number", head, `{"sub":1,"aud":"chat",` + sound + `}`, ""},
		{"no subject at all", head, `{"sub":null,"aud":"chat",` + sound + `}`, ""},
		{"an account with a line behind it", head, `{"sub":"ada","aud":"chat",` + sound + `,"account":"ABCDEF\n"}`, ""},
		{"an account of other letters", head, `{"sub":"ada","aud":"chat",` + sound + `,"account":"АBCDEF"}`, ""},
		{"an end without end", head, `{"sub":"ada","aud":"chat",` + sound + `,"exp":1e400}`, ""},
		{"an end beyond all years", head, `{"sub":"ada","aud":"chat",` + sound + `,"exp":1e300}`, ""},
		{"something behind the claims", head, `{"sub":"ada","aud":"chat",` + sound + `}{"sub":"eve"}`, ""},
		{"claims that are a list", head, `[]`, ""},
		{"a huge key id", `{"alg":"HS256","kid":"` + strings.Repeat("../", 2000) + `"}`, `{"sub":"ada","aud":"chat",` + sound + `}`, "ada"},
		{"an algorithm twice", `{"alg":"none","alg":"HS256"}`, `{"sub":"ada","aud":"chat",` + sound + `}`, "ada"},
		{"an algorithm twice, none last", `{"alg":"HS256","alg":"none"}`, `{"sub":"ada","aud":"chat",` + sound + `}`, ""},
		{"an algorithm in other letters", `{"alg":"hs256"}`, `{"sub":"ada","aud":"chat",` + sound + `}`, ""},
		{"no algorithm", `{}`, `{"sub":"ada","aud":"chat",` + sound + `}`, ""},
		{"an extension that must be known", `{"alg":"HS256","crit":[]}`, `{"sub":"ada","aud":"chat",` + sound + `}`, ""},
	} {
		enc := base64.RawURLEncoding
		said := enc.EncodeToString([]byte(c.head)) + "." + enc.EncodeToString([]byte(c.claims))
		p, err := v.Verify(t.Context(), said+"."+enc.EncodeToString(mac(secret, said)))
		switch {
		case err != nil && c.want != "":
			t.Errorf("%s: %v", c.name, err)
		case err == nil && p.Subject != c.want:
			t.Errorf("%s: taken for %q, want %q", c.name, p.Subject, c.want)
		}
	}
}
