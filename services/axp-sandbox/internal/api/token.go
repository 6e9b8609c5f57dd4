package api

import (
	"crypto/subtle"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// What 401 says in brackets tells the caller which credential was refused.
const (
	refusedKey   = "The request lacks valid credentials [Appkey]"
	refusedToken = "The request lacks valid credentials [Access-Token]"
)

// tokens issues and knows access tokens.
type tokens struct {
	cfg    Config
	now    func() time.Time
	secret []byte

	mu      sync.Mutex
	valid   map[string]time.Time
	refresh map[string]time.Time
}

func newTokens(cfg Config, now func() time.Time) *tokens {
	return &tokens{cfg: cfg, now: now, secret: []byte(uuid.NewString()), valid: map[string]time.Time{}, refresh: map[string]time.Time{}}
}

// revoke makes every token useless before its time.
func (t *tokens) revoke() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.valid)
	clear(t.refresh)
}

func (t *tokens) issue() (map[string]any, *problem) {
	now := t.now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": "axp", "sub": t.cfg.ClientID, "accountId": t.cfg.AccountID, "jti": uuid.NewString(),
		"iat": now.Unix(), "exp": now.Add(t.cfg.TokenLifetime).Unix(),
	}).SignedString(t.secret)
	if err != nil {
		return nil, refuse(http.StatusInternalServerError, "token can't be made")
	}
	refresh := uuid.NewString()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range []map[string]time.Time{t.valid, t.refresh} { // no more than what is alive
		maps.DeleteFunc(m, func(_ string, until time.Time) bool { return now.After(until) })
	}
	t.valid[token] = now.Add(t.cfg.TokenLifetime)
	t.refresh[refresh] = now.Add(10 * t.cfg.TokenLifetime)
	return map[string]any{"access_token": token, "expires_in": int(t.cfg.TokenLifetime / time.Second), "refresh_token": refresh, "token_type": "Bearer"}, nil
}

// grant is AXP's token endpoint.
func (t *tokens) grant(r *http.Request) (map[string]any, *problem) {
	if ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(ct), "application/x-www-form-urlencoded") {
		return nil, refuse(http.StatusUnsupportedMediaType, "the body must be application/x-www-form-urlencoded")
	}
	if p := t.key(r); p != nil {
		return nil, p
	}
	account := r.PathValue("account")
	if !accountPattern.MatchString(account) {
		return nil, invalid(fail("accountId", codePattern, "must be 6 letters")...)
	}
	if account != t.cfg.AccountID {
		return nil, refuse(http.StatusNotFound, "no such account")
	}
	if err := r.ParseForm(); err != nil {
		return nil, refuse(http.StatusBadRequest, "the body is not a form")
	}
	need := map[string][]string{
		"client_credentials": {"client_id", "client_secret"},
		"refresh_token":      {"client_id", "client_secret", "refresh_token"},
		"password":           {"client_id", "client_secret", "username", "password"},
	}[r.PostForm.Get("grant_type")]
	if need == nil {
		return nil, invalid(fail("grant_type", codeEnum, "must be client_credentials, refresh_token or password")...)
	}
	for _, name := range need {
		if r.PostForm.Get(name) == "" {
			return nil, invalid(fail(name, codeMissing, "must not be null")...)
		}
	}
	if !same(r.PostForm.Get("client_id"), t.cfg.ClientID) || !same(r.PostForm.Get("client_secret"), t.cfg.ClientSecret) {
		return nil, refuse(http.StatusUnauthorized, "Invalid client or Invalid client credentials")
	}
	if r.PostForm.Get("grant_type") == "refresh_token" {
		t.mu.Lock()
		until, ok := t.refresh[r.PostForm.Get("refresh_token")]
		t.mu.Unlock()
		if !ok || !t.now().Before(until) {
			return nil, invalid(fail("refresh_token", codePattern, "is not valid")...)
		}
	}
	return t.issue() // for the password form too: the sandbox has no users of its own
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (t *tokens) key(r *http.Request) *problem {
	if !same(r.Header.Get("appkey"), t.cfg.AppKey) {
		return refuse(http.StatusUnauthorized, refusedKey)
	}
	return nil
}

// check is what every other call must pass.
func (t *tokens) check(r *http.Request) *problem {
	if p := t.key(r); p != nil {
		return p
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	t.mu.Lock()
	until, ok := t.valid[token]
	t.mu.Unlock()
	if !strings.EqualFold(scheme, "Bearer") || !ok || !t.now().Before(until) {
		return refuse(http.StatusUnauthorized, refusedToken)
	}
	account := r.PathValue("account")
	if !accountPattern.MatchString(account) {
		return invalid(fail("accountId", codePattern, "must be 6 letters")...)
	}
	if account != t.cfg.AccountID {
		return refuse(http.StatusForbidden, "the token is for another account")
	}
	return nil
}
