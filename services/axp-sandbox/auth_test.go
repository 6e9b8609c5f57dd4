package sandbox_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	sandbox "github.com/axpchat/connector/services/axp-sandbox"
	"github.com/axpchat/connector/services/internal/kit/await"
)

func TestATokenHasTheDocumentedForm(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.TokenLifetime = 15 * time.Minute })
	got := into[object](b.post(tokenPath, credentials()).want(200))
	if got["expires_in"] != 900.0 || strings.Count(text(got, "access_token"), ".") != 2 || text(got, "refresh_token") == "" {
		t.Errorf("token %v", got)
	}
}

func TestTokenRequestsAreChecked(t *testing.T) {
	b := start(t, nil)
	form := func(more ...string) url.Values {
		f := credentials()
		for i := 0; i < len(more); i += 2 {
			f.Set(more[i], more[i+1])
		}
		return f
	}
	for _, c := range []struct {
		name   string
		form   url.Values
		status int
		field  string
	}{
		{"an unknown grant", form("grant_type", "authorization_code"), 400, "grant_type"},
		{"no grant", form("grant_type", ""), 400, "grant_type"},
		{"no client", form("client_id", ""), 400, "client_id"},
		{"no secret", form("client_secret", ""), 400, "client_secret"},
		{"no refresh token", form("grant_type", "refresh_token"), 400, "refresh_token"},
		{"a refresh token that never was", form("grant_type", "refresh_token", "refresh_token", "x"), 400, "refresh_token"},
		{"no user", form("grant_type", "password", "password", "x"), 400, "username"},
		{"no password", form("grant_type", "password", "username", "x"), 400, "password"},
		{"a wrong client", form("client_id", "x"), 401, ""},
		{"a wrong secret", form("client_secret", "x"), 401, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := b.in(t)
			got := b.post(tokenPath, c.form)
			if c.field != "" {
				got.refused(c.field)
			}
			got.want(c.status)
		})
	}
	if got := b.call(http.MethodPost, tokenPath, credentials(), header("appkey", "x")).want(401).text("detail"); !strings.Contains(got, "[Appkey]") {
		t.Errorf("a wrong key is answered %q", got)
	}
	b.call(http.MethodPost, tokenPath, credentials(), header("Content-Type", "application/json")).want(http.StatusUnsupportedMediaType)
	b.post(strings.Replace(tokenPath, account, "OTHERS", 1), credentials()).want(404)
	b.post(strings.Replace(tokenPath, account, "TOOLONG", 1), credentials()).refused("accountId")
	refresh := b.post(tokenPath, credentials()).want(200).text("refresh_token")
	b.token = b.post(tokenPath, form("grant_type", "refresh_token", "refresh_token", refresh)).want(200).text("access_token")
	b.get(hooks).want(200)
}

func TestARefusedCredentialIsNamedInBrackets(t *testing.T) {
	b := start(t, nil)
	for _, c := range []struct {
		name   string
		change request
		want   string
	}{
		{"no key", header("appkey", ""), "[Appkey]"},
		{"a wrong key", header("appkey", "x"), "[Appkey]"},
		{"no token", header("Authorization", ""), "[Access-Token]"},
		{"a wrong token", header("Authorization", "Bearer x"), "[Access-Token]"},
		{"another scheme", header("Authorization", "Basic "+b.token), "[Access-Token]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := b.in(t)
			got := b.call(http.MethodGet, hooks, nil, c.change).want(401)
			if !strings.Contains(got.text("detail"), c.want) || got.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s %s", got.header.Get("Content-Type"), got.data)
			}
		})
	}
	b.call(http.MethodGet, strings.Replace(hooks, account, "SIX123", 1), nil).refused("accountId")
	b.call(http.MethodGet, strings.Replace(hooks, account, "OTHERS", 1), nil).want(403)
}

func TestATokenExpires(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.TokenLifetime = 300 * time.Millisecond })
	b.login()
	b.get(hooks).want(200)
	await.Until(t, "the token to expire", func() bool { return b.get(hooks).status == 401 })
	b.login()
	b.get(hooks).want(200)
}

func TestTokensCanBeRevoked(t *testing.T) {
	b := start(t, nil)
	b.control("tokens/revoke", nil)
	b.get(hooks).want(401)
	b.login()
	b.get(hooks).want(200)
}

func TestAnswersCarryIdsForTheLogs(t *testing.T) {
	b := start(t, nil)
	got := b.call(http.MethodGet, hooks, nil, header("X-Request-Id", "0123456789abcdef")).header
	if got.Get("X-Request-Id") != "0123456789abcdef" || got.Get("Av-Log-Id") == "" {
		t.Errorf("headers %v", got)
	}
	if b.get(hooks).header.Get("X-Request-Id") == "" {
		t.Error("no request id of its own")
	}
}

func TestWhatDoesNotExistIsNotFound(t *testing.T) {
	b := start(t, nil)
	for _, c := range []struct{ method, path string }{
		{"GET", chat + "/nothing"}, {"PATCH", chat + "/sessions"}, {"POST", chat + "/sessions/" + nobody}, {"POST", chat + "/sessions/" + nobody + ":close"},
		{"POST", chat + "/engagements/" + nobody + ":leave"}, {"GET", "/api/digital/channel/v2/accounts/" + account + "/sessions"},
	} {
		if got := b.call(c.method, c.path, nil).want(404); got.text("instance") != c.path {
			t.Errorf("%s %s: instance %q", c.method, c.path, got.text("instance"))
		}
	}
}
