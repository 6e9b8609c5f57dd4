package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	ws "github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/gateway/internal/tenants"
	"github.com/axpchat/connector/services/internal/kit/errs"
)

const (
	stranger  = "OTHERS" // an account beside the suite's own
	ours      = "https://shop.example.com"
	theirs    = "https://others.example.com"
	anybodys  = "https://help.example.com"
	nobodys   = "https://evil.example"
	corsAllow = "Access-Control-Allow-Origin"
)

func ofStranger(c jwt.MapClaims) { c["account"] = stranger }

// startTenants starts a gateway whose tenants are the suite's account and a
// stranger's.
func startTenants(t *testing.T) (*suite, func(...tenants.Tenant)) {
	t.Helper()
	env := map[string]string{"HTTP_ALLOWED_ORIGINS": anybodys}
	s := start(t, env)
	list := func(all ...tenants.Tenant) {
		cfg := testConfig(t, env)
		cfg.Tenants.Tenants = all
		s.gw.Reload(cfg)
	}
	list(tenants.Tenant{AccountID: account, AllowedOrigins: []string{ours}}, tenants.Tenant{AccountID: stranger, AllowedOrigins: []string{theirs}})
	return s, list
}

func TestAPageMayUseTheAPIForItsTenantAlone(t *testing.T) {
	s, _ := startTenants(t)
	s.session("s1")
	us, them := token(t, subject, nil), token(t, subject, ofStranger)
	for _, tc := range []struct {
		name, token, origin string
		status              int
		reason              string
		readable            bool // by the page
	}{
		{"its own tenant", us, ours, http.StatusOK, "", true},
		{"an origin for everybody", us, anybodys, http.StatusOK, "", true},
		{"the gateway's own page", us, s.base, http.StatusOK, "", false},
		{"no page", us, "", http.StatusOK, "", false},
		{"another tenant's page", us, theirs, http.StatusForbidden, "ORIGIN_FORBIDDEN", false},
		{"another tenant's page with its own token", them, theirs, http.StatusNotFound, "SESSION_NOT_FOUND", true},
		{"our page with another tenant's token", them, ours, http.StatusForbidden, "ORIGIN_FORBIDDEN", false},
		{"nobody's page", us, nobodys, http.StatusForbidden, "ORIGIN_FORBIDDEN", false},
		{"a sandboxed frame", us, "null", http.StatusForbidden, "ORIGIN_FORBIDDEN", false},
		{"a tenant's page must see that its token has expired", token(t, subject, expired), ours, http.StatusUnauthorized, "TOKEN_EXPIRED", true},
		{"nobody's page learns nothing", token(t, subject, expired), nobodys, http.StatusForbidden, "ORIGIN_FORBIDDEN", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := *s
			s.t = t
			var header []string
			if tc.origin != "" {
				header = []string{"Origin", tc.origin}
			}
			a := s.call(http.MethodGet, s.url("s1", "/events:poll?cursor=&wait=0s"), tc.token, "", header...)
			if a.status != tc.status || (a.header.Get(corsAllow) == tc.origin && tc.origin != "") != tc.readable {
				t.Fatalf("%d %v %s", a.status, a.header, a.body)
			}
			if tc.reason != "" {
				if p := a.problem(t); p.Reason != tc.reason {
					t.Errorf("%s", a.body)
				}
			}
		})
	}
}

// TestNoTokenIsLookedAtBeforeTheLimits: naming an origin is no way to have tokens
// checked without end.
func TestNoTokenIsLookedAtBeforeTheLimits(t *testing.T) {
	s := start(t, map[string]string{"LIMIT_ADDRESS_FRAMES": "5/1h"})
	cfg := testConfig(t, nil)
	cfg.Tenants.Tenants = []tenants.Tenant{{AccountID: account, AllowedOrigins: []string{ours}}}
	s.gw.Reload(cfg)
	for n := range 6 {
		want := http.StatusForbidden
		if n == 5 {
			want = http.StatusTooManyRequests
		}
		if a := s.call(http.MethodGet, s.url("s1", ""), "forged", "", "Origin", nobodys); a.status != want {
			t.Errorf("request %d: %d %s", n, a.status, a.body)
		}
	}
}

// TestNoOriginPassesForAnother: neither by a name around the right one nor by another
// spelling of it; browsers send one spelling alone.
func TestNoOriginPassesForAnother(t *testing.T) {
	s, _ := startTenants(t)
	s.session("s1")
	tok := token(t, subject, nil)
	for _, origin := range []string{
		ours + ".evil.example", "https://evil.example/" + ours, "https://evil.example#" + ours, "https://evil.example?" + ours, "https://evilshop.example.com",
		"https://shop.example.com@evil.example", ours + ":8443", ours + "/", ours + ".", "http://shop.example.com", "https://x.shop.example.com", ours + " " + theirs, ours + "," + theirs,
		"*", "null", "file://", "https://", "//shop.example.com", "shop.example.com", "https://shop.example.com%00.evil.example", "https://sh\u043ep.example.com", "chrome-extension://abc",
	} {
		a := s.call(http.MethodGet, s.url("s1", ""), tok, "", "Origin", origin)
		if a.status != http.StatusForbidden || a.problem(t).Reason != "ORIGIN_FORBIDDEN" || a.header.Get(corsAllow) != "" {
			t.Errorf("%q: %d, allowed %q", origin, a.status, a.header.Get(corsAllow))
		}
		q := s.call(http.MethodOptions, s.url("s1", ""), "", "", "Origin", origin, "Access-Control-Request-Method", "GET")
		if q.header.Get(corsAllow) != "" || q.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%q, asked ahead: %v", origin, q.header)
		}
		conn, refused, err := ws.Dial(t.Context(), s.url("s1", ":connect"), &ws.DialOptions{HTTPHeader: http.Header{"Origin": {origin}, "Authorization": {"Bearer " + tok}}, HTTPClient: s.client})
		if err == nil {
			_ = conn.CloseNow()
			t.Fatalf("%q may open a socket", origin)
		}
		if body, _ := io.ReadAll(refused.Body); refused.StatusCode != http.StatusForbidden || !strings.Contains(string(body), `"reason":"ORIGIN_FORBIDDEN"`) {
			t.Errorf("%q, a socket: %d %s", origin, refused.StatusCode, body)
		}
	}
}

// TestAPreflightIsAnsweredForAnyTenant: it has no token yet.
func TestAPreflightIsAnsweredForAnyTenant(t *testing.T) {
	s, list := startTenants(t)
	ask := func(origin string) string {
		a := s.call(http.MethodOptions, s.base+"/v1/sessions", "", "", "Origin", origin, "Access-Control-Request-Method", "POST")
		if a.status != http.StatusNoContent {
			t.Fatalf("%+v", a)
		}
		return a.header.Get(corsAllow)
	}
	for _, origin := range []string{ours, theirs, anybodys} {
		if got := ask(origin); got != origin {
			t.Errorf("%s: %q", origin, got)
		}
	}
	if got := ask(nobodys); got != "" {
		t.Errorf("%s: %q", nobodys, got)
	}
	list(tenants.Tenant{AccountID: account, AllowedOrigins: []string{ours}})
	if got := ask(theirs); got != "" {
		t.Errorf("after its tenant has gone: %q", got)
	}
}

// TestATicketWorksOnlyForPagesOfItsTenant: a ticket stolen by a page of another
// tenant opens no stream, over either transport.
func TestATicketWorksOnlyForPagesOfItsTenant(t *testing.T) {
	s, _ := startTenants(t)
	s.session("s1")
	s.say("s1", "a", "")
	tok := token(t, subject, nil)
	ticket := func(use string) string {
		t.Helper()
		a := s.call(http.MethodPost, s.url("s1", ":createTicket"), tok, `{"use":"`+use+`"}`, "Origin", ours)
		var out struct{ Ticket string }
		if err := json.Unmarshal([]byte(a.body), &out); err != nil || out.Ticket == "" {
			t.Fatalf("%+v: %v", a, err)
		}
		return out.Ticket
	}
	dial := func(origin string) (*wsFollower, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conn, _, err := ws.Dial(ctx, s.url("s1", ":connect?ticket="+ticket("TICKET_USE_CONNECT")), &ws.DialOptions{
			HTTPClient: s.client, Subprotocols: []string{"axpchat.v1+json"}, HTTPHeader: http.Header{"Origin": {origin}},
		})
		if err != nil {
			return nil, err
		}
		w := &wsFollower{ctx: t.Context(), conn: conn}
		t.Cleanup(w.leave)
		return w, nil
	}
	w, err := dial(ours)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.say(hello("", "")); err != nil {
		t.Fatal(err)
	}
	wantEvent(t, w, "a")
	if w, err = dial(theirs); err != nil {
		t.Fatal(err)
	}
	wantClose(t, w, axpchatv1.CloseCode_CLOSE_CODE_UNAUTHENTICATED)
	if _, err = dial(nobodys); err == nil {
		t.Error("a page of nobody's is upgraded")
	}

	events := func(origin string) error {
		t.Helper()
		resp, err := get(t.Context(), s, "", s.url("s1", "/events?ticket="+ticket("TICKET_USE_EVENTS")), map[string]string{"Accept": "text/event-stream", "Origin": origin})
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	if err := events(ours); err != nil {
		t.Errorf("our page: %v", err)
	}
	for _, origin := range []string{theirs, nobodys} {
		if err := events(origin); err == nil || errs.From(err).Reason != axpchatv1.ErrorReason_ERROR_REASON_ORIGIN_FORBIDDEN {
			t.Errorf("a page of %s: %v", origin, err)
		}
	}
}

// TestATokenOfAnUnlistedAccountIsRefused on every way in, from the moment on at
// which its account leaves the list.
func TestATokenOfAnUnlistedAccountIsRefused(t *testing.T) {
	s, list := startTenants(t)
	s.session("s1")
	tok := token(t, subject, nil)
	list(tenants.Tenant{AccountID: stranger})
	for _, tr := range transports() {
		t.Run(tr.name, func(t *testing.T) {
			reason, code := refusal(t, s, tr, tok, "s1", "")
			if reason != axpchatv1.ErrorReason_ERROR_REASON_ACCOUNT_UNKNOWN && code != axpchatv1.CloseCode_CLOSE_CODE_UNAUTHENTICATED {
				t.Errorf("%v %v", reason, code)
			}
		})
	}
	if p := s.call(http.MethodPost, s.base+"/v1/sessions", tok, `{}`).problem(t); p.Reason != "ACCOUNT_UNKNOWN" || p.Status != http.StatusForbidden {
		t.Errorf("%+v", p)
	}
	list(tenants.Tenant{AccountID: account})
	if a := s.call(http.MethodGet, s.url("s1", "/events:poll?cursor=&wait=0s"), tok, ""); a.status != http.StatusOK {
		t.Errorf("back on the list: %+v", a)
	}
	list()
	if a := s.call(http.MethodPost, s.base+"/v1/sessions", token(t, subject, ofStranger), `{}`); a.status != http.StatusOK {
		t.Errorf("without a list everybody is served: %+v", a)
	}
}
