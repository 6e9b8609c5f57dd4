package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// issuer is a login service with a key set that can change and fail.
type issuer struct {
	*httptest.Server

	mu    sync.Mutex
	keys  map[string]*ecdsa.PrivateKey
	down  bool
	odd   string // what is answered in place of the set; empty: the set
	asked int
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{keys: map[string]*ecdsa.PrivateKey{}}
	i.Server = httptest.NewServer(http.HandlerFunc(i.serve))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) serve(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked++
	if i.down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	if i.odd != "" {
		_, _ = io.WriteString(w, i.odd) // the client may have had enough
		return
	}
	set := struct {
		Keys []map[string]string `json:"keys"`
	}{}
	b64 := base64.RawURLEncoding.EncodeToString
	for kid, key := range i.keys {
		point, err := key.PublicKey.Bytes()
		if err != nil {
			http.Error(w, "no key", http.StatusInternalServerError)
			return
		}
		set.Keys = append(set.Keys, map[string]string{
			"kty": "EC", "kid": kid, "alg": "ES256", "use": "sig", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:]),
		})
	}
	_ = json.NewEncoder(w).Encode(set) //nolint:errchkjson // texts always encode; the client may be gone
}

// rotate adds a key and takes another one away.
func (i *issuer) rotate(t *testing.T, add, remove string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys[add] = key
	delete(i.keys, remove)
}

func (i *issuer) fail(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

func (i *issuer) token(t *testing.T, kid string) string {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	return sign(t, jwt.SigningMethodES256, i.keys[kid], kid, claimsOf(nil))
}

func TestKeysAreRotated(t *testing.T) {
	i := newIssuer(t)
	i.rotate(t, "old", "")
	v := verifier(t, Config{JWKSURL: i.URL})
	old := i.token(t, "old")
	if _, err := v.Verify(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	i.rotate(t, "new", "old")
	fresh := i.token(t, "new")
	var all sync.WaitGroup
	for range 100 { // everybody comes at once
		all.Go(func() {
			if _, err := v.Verify(t.Context(), fresh); err != nil {
				t.Errorf("a token of the new key: %v", err)
			}
		})
	}
	all.Wait()
	if _, err := v.Verify(t.Context(), old); reasonOf(err) != axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED {
		t.Fatalf("a token of the key that was taken away: %v", err)
	}
}

// TestAnOutageOfTheIssuerHurtsNobody whose key is known already.
func TestAnOutageOfTheIssuerHurtsNobody(t *testing.T) {
	i := newIssuer(t)
	i.rotate(t, "a", "")
	v := verifier(t, Config{JWKSURL: i.URL})
	i.fail(true)
	forged := sign(t, jwt.SigningMethodES256, i.keys["a"], "unknown", claimsOf(nil))
	began := time.Now()
	for range 200 {
		if _, err := v.Verify(t.Context(), forged); reasonOf(err) != axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED {
			t.Fatalf("a forged key id: %v", err)
		}
		if _, err := v.Verify(t.Context(), i.token(t, "a")); err != nil {
			t.Fatal(err)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.asked > 4 || time.Since(began) > 10*time.Second {
		t.Fatalf("forged key ids asked the issuer %d times, in %s", i.asked, time.Since(began))
	}
}

// TestTheIssuerMayComeLater than the gateway.
func TestTheIssuerMayComeLater(t *testing.T) {
	i := newIssuer(t)
	i.rotate(t, "a", "")
	i.fail(true)
	v := verifier(t, Config{JWKSURL: i.URL})
	if _, err := v.Verify(t.Context(), i.token(t, "a")); reasonOf(err) != axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED {
		t.Fatalf("without any key: %v", err)
	}
	i.fail(false)
	if _, err := v.Verify(t.Context(), i.token(t, "a")); err != nil {
		t.Fatal(err)
	}
}

// TestAnAnswerThatIsNoKeySetTakesNoKeyAway: what an issuer, or a proxy before one that
// is away, answers with 200.
func TestAnAnswerThatIsNoKeySetTakesNoKeyAway(t *testing.T) {
	for name, odd := range map[string]string{
		"an error of a proxy": `{"error":"try later"}`, "no keys": `{"keys":[]}`, "null": `null`, "a page": `<html></html>`,
		"keys of another shape": `{"keys":{}}`, "a set that hardly ends": `{"keys":[{"kty":"oct","k":"` + strings.Repeat("A", 2<<20) + `"}]}`,
	} {
		i := newIssuer(t)
		i.rotate(t, "a", "")
		v := verifier(t, Config{JWKSURL: i.URL})
		i.mu.Lock()
		i.odd = odd
		i.mu.Unlock()
		unknown := sign(t, jwt.SigningMethodES256, i.keys["a"], "unknown", claimsOf(nil)) // has the set fetched
		if _, err := v.Verify(t.Context(), unknown); reasonOf(err) != axpchatv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED {
			t.Errorf("%s: a forged key id: %v", name, err)
		}
		i.mu.Lock()
		asked := i.asked
		i.mu.Unlock()
		if asked < 2 {
			t.Errorf("%s: the issuer was asked %d times", name, asked)
		}
		if _, err := v.Verify(t.Context(), i.token(t, "a")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
