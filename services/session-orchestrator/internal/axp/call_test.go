package axp_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
)

func wantError(tb testing.TB, err error) *axp.Error {
	tb.Helper()
	var e *axp.Error
	if !errors.As(err, &e) {
		tb.Fatalf("got error %v (%T), want an *axp.Error", err, err)
	}
	return e
}

func TestEveryOperationSucceedsWithTokenAndKey(t *testing.T) {
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			f := newFakeAXP(t, op.good)
			if err := op.call(t.Context(), f.client()); err != nil {
				t.Fatal(err)
			}
			calls := f.calls()
			if len(calls) != 1 {
				t.Fatalf("got %d requests, want 1", len(calls))
			}
			h := calls[0].header
			media := op.name == axp.OpUploadMedia || op.name == axp.OpDownloadMedia
			wantToken, wantKey := "Bearer token-1", testAppKey
			if media {
				wantToken, wantKey = "", ""
			}
			if got := h.Get("Authorization"); got != wantToken {
				t.Errorf("Authorization is %q, want %q", got, wantToken)
			}
			if got := h.Get("appkey"); got != wantKey {
				t.Errorf("appkey is %q, want %q", got, wantKey)
			}
		})
	}
}

// The rule of Operation, for every operation: what is repeated after which
// answer, and what is then known about the effect.
func TestRetryRule(t *testing.T) {
	rules := make(map[string]axp.Operation)
	for _, op := range axp.Operations() {
		rules[op.Name] = op
	}
	cases := []struct {
		name    string
		fault   func(t *testing.T) http.HandlerFunc
		outcome axp.Outcome
		// repeated says whether an operation is, by whether it is idempotent.
		repeated func(idempotent bool) bool
	}{
		{"429 is repeated for all", func(*testing.T) http.HandlerFunc { return always(429, "") }, axp.NotApplied, func(bool) bool { return true }},
		{"500 leaves it open", func(*testing.T) http.HandlerFunc { return always(500, "") }, axp.Unknown, func(i bool) bool { return i }},
		{"503 leaves it open", func(*testing.T) http.HandlerFunc { return always(503, "") }, axp.Unknown, func(i bool) bool { return i }},
		{"408 leaves it open", func(*testing.T) http.HandlerFunc { return always(408, "") }, axp.Unknown, func(i bool) bool { return i }},
		{"a lost answer leaves it open", dropOf, axp.Unknown, func(i bool) bool { return i }},
		{"400 is final", func(*testing.T) http.HandlerFunc { return always(400, "") }, axp.NotApplied, func(bool) bool { return false }},
		{"403 is final", func(*testing.T) http.HandlerFunc { return always(403, "") }, axp.NotApplied, func(bool) bool { return false }},
		{"a redirect is final", func(*testing.T) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(http.StatusTemporaryRedirect)
			}
		}, axp.NotApplied, func(bool) bool { return false }},
	}
	for _, tc := range cases {
		for _, op := range operations() {
			t.Run(tc.name+"/"+op.name, func(t *testing.T) {
				f := newFakeAXP(t, tc.fault(t))
				// On a connection that is used again net/http repeats a GET on
				// its own once, which is not what is counted here.
				fresh := axp.NewTransport(nil)
				fresh.DisableKeepAlives = true
				client := f.client(func(p *axp.Params) { p.Transport = fresh })
				e := wantError(t, op.call(t.Context(), client))
				want := 1
				// An upload streams its file: it can be sent once only.
				if tc.repeated(rules[op.name].Idempotent) && op.name != axp.OpUploadMedia {
					want = 3
				}
				if got := len(f.calls()); got != want {
					t.Errorf("got %d requests, want %d", got, want)
				}
				if e.Outcome != tc.outcome {
					t.Errorf("outcome is %v, want %v", e.Outcome, tc.outcome)
				}
				if e.Attempts != want {
					t.Errorf("error tells of %d attempts, want %d", e.Attempts, want)
				}
				if e.Operation != op.name {
					t.Errorf("error names %s", e.Operation)
				}
			})
		}
	}
}

func dropOf(t *testing.T) http.HandlerFunc {
	t.Helper()
	return dropped(t)
}

func TestOutcomeStaysUnknownWhenALaterAttemptIsRefused(t *testing.T) {
	f := newFakeAXP(t, inTurn(always(500, ""), always(400, "")))
	_, err := f.client().UpdateSessionParameters(t.Context(), id1, nil)
	if e := wantError(t, err); e.Outcome != axp.Unknown || e.Status != 400 {
		t.Errorf("got %v with status %d, want unknown with 400", e.Outcome, e.Status)
	}
}

func TestConnectionThatCannotBeMadeIsNotApplied(t *testing.T) {
	var dials atomic.Int32
	transport := axp.NewTransport(nil)
	f := newFakeAXP(t, always(202, messageJSON))
	client := f.client(func(p *axp.Params) { p.Transport = transport })
	if err := client.CheckCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	transport.CloseIdleConnections()
	transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	_, err := client.SendMessage(t.Context(), id2, soundMessage())
	if e := wantError(t, err); e.Outcome != axp.NotApplied || e.Attempts != 3 {
		t.Errorf("got %v after %d attempts, want not applied after 3", e.Outcome, e.Attempts)
	}
	if got := dials.Load(); got != 3 {
		t.Errorf("got %d dials, want 3", got)
	}
	if !axp.Temporary(err) {
		t.Error("want a temporary error")
	}
}

func TestWaitsBetweenAttempts(t *testing.T) {
	with := func(status int, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
		}
	}
	cases := []struct {
		name   string
		faults http.HandlerFunc
		want   []time.Duration
		after  time.Duration
	}{
		{"grows without advice", with(500), []time.Duration{200 * time.Millisecond, 400 * time.Millisecond}, 0},
		{"Retry-After is obeyed", with(429, "Retry-After", "3"), []time.Duration{3 * time.Second, 3 * time.Second}, 3 * time.Second},
		{"Retry-After goes before RateLimit-Reset", with(429, "Retry-After", "2", "RateLimit-Reset", "9"),
			[]time.Duration{2 * time.Second, 2 * time.Second}, 2 * time.Second},
		{"RateLimit-Reset is obeyed on 429", with(429, "RateLimit-Reset", "4"), []time.Duration{4 * time.Second, 4 * time.Second}, 4 * time.Second},
		{"RateLimit-Reset says nothing on 500", with(500, "RateLimit-Reset", "4"), []time.Duration{200 * time.Millisecond, 400 * time.Millisecond}, 0},
		{"Retry-After may be a date", with(503, "Retry-After", "Wed, 11 Mar 2026 09:00:07 GMT"), []time.Duration{7 * time.Second}, 0},
		{"a long Retry-After is left to the caller", with(429, "Retry-After", "60"), nil, time.Minute},
		{"an absurd Retry-After is cut", with(429, "Retry-After", "1e300"), nil, time.Hour},
		{"a malformed Retry-After is no advice", with(429, "Retry-After", "soon"), []time.Duration{200 * time.Millisecond, 400 * time.Millisecond}, 0},
		{"a negative Retry-After is no advice", with(429, "Retry-After", "-5"), []time.Duration{200 * time.Millisecond, 400 * time.Millisecond}, 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := newFakeAXP(t, tc.faults)
			clock := newInstantClock()
			client := f.client(func(p *axp.Params) { p.Clock = clock })
			_, err := client.GetSession(t.Context(), id1)
			e := wantError(t, err)
			got := clock.slept()
			if strings.Contains(tc.name, "date") {
				got = got[:1] // at the second attempt the date has passed
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("waits differ (-want +got):\n%s", diff)
			}
			if e.RetryAfter != tc.after {
				t.Errorf("RetryAfter is %v, want %v", e.RetryAfter, tc.after)
			}
		})
	}
}

func TestNoWaitBeyondTheCallersDeadline(t *testing.T) {
	f := newFakeAXP(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "9")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	clock := newInstantClock()
	_, err := f.client(func(p *axp.Params) { p.Clock = clock }).GetSession(ctx, id1)
	if e := wantError(t, err); e.Status != 429 || len(clock.slept()) != 0 {
		t.Errorf("got status %d after waits %v, want 429 at once", e.Status, clock.slept())
	}
}

func TestAnswerThatNeverComes(t *testing.T) {
	release := make(chan struct{})
	f := newFakeAXP(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(release) })

	t.Run("ends with the limit of one call", func(t *testing.T) {
		client := f.client(func(p *axp.Params) { p.Config.CallTimeout = 50 * time.Millisecond })
		_, err := client.SendMessage(t.Context(), id2, soundMessage())
		e := wantError(t, err)
		if !errors.Is(err, axp.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || e.Outcome != axp.Unknown {
			t.Errorf("got %v, outcome %v; want a time-out of AXP, unknown", err, e.Outcome)
		}
	})
	t.Run("ends with the caller's deadline", func(t *testing.T) {
		client := f.client()
		if err := client.CheckCredentials(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := client.GetSession(ctx, id1)
		if e := wantError(t, err); !errors.Is(err, context.DeadlineExceeded) || e.Outcome != axp.Unknown || e.Attempts != 1 {
			t.Errorf("got %v, outcome %v; want the deadline, unknown", err, e.Outcome)
		}
	})
}

func TestRefusedTokenIsRenewedOnceAndTheCallRepeatedOnce(t *testing.T) {
	// Revoked early: token-1 is refused whatever its expiry.
	f := newFakeAXP(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer token-1" {
			answer(w, 401, `{"title":"Unauthorized","detail":"Invalid credentials [Access-Token]"}`)
			return
		}
		answer(w, 202, messageJSON)
	})
	if _, err := f.client().SendMessage(t.Context(), id2, soundMessage()); err != nil {
		t.Fatal(err)
	}
	if got := f.tokenRequests(); got != 2 {
		t.Errorf("got %d token requests, want 2", got)
	}
	if got := len(f.calls()); got != 2 {
		t.Errorf("got %d calls, want 2", got)
	}
}

func TestRefusalOfEveryTokenBringsNoStorm(t *testing.T) {
	f := newFakeAXP(t, always(401, `{"detail":"[Access-Token]"}`))
	client := f.client()
	for range 20 {
		_, err := client.GetSession(t.Context(), id1)
		if !axp.IsCredentials(err) {
			t.Fatalf("got %v, want a refusal of credentials", err)
		}
	}
	if got := f.tokenRequests(); got != 2 {
		t.Errorf("got %d token requests, want 2: the first and one renewal", got)
	}
	if got := len(f.calls()); got != 4 {
		t.Errorf("got %d calls, want 4: three that were refused, one of them twice", got)
	}
}

func TestRefusedAppKeyIsNotRenewed(t *testing.T) {
	f := newFakeAXP(t, always(401, `{"detail":"Access denied [AppKey]"}`))
	_, err := f.client().GetSession(t.Context(), id1)
	if !axp.IsCredentials(err) || f.tokenRequests() != 1 || len(f.calls()) != 1 {
		t.Errorf("got %v, %d token requests, %d calls; want a refusal, 1, 1", err, f.tokenRequests(), len(f.calls()))
	}
}

func TestGoneIsDone(t *testing.T) {
	for _, op := range operations() {
		t.Run(op.name, func(t *testing.T) {
			f := newFakeAXP(t, always(404, `{"title":"Not Found"}`))
			err := op.call(t.Context(), f.client())
			switch op.name {
			case axp.OpDeleteSession, axp.OpDisconnectEngagement, axp.OpDeleteSubscription:
				if err != nil {
					t.Errorf("got %v, want success", err)
				}
			default:
				if !axp.IsNotFound(err) {
					t.Errorf("got %v, want not found", err)
				}
			}
		})
	}
	t.Run("but not an account that the token endpoint does not know", func(t *testing.T) {
		f := newFakeAXP(t, always(204, ""))
		f.token = always(404, "")
		if err := f.client().DeleteSession(t.Context(), id1, ""); !axp.IsCredentials(err) {
			t.Errorf("got %v, want a refusal of credentials", err)
		}
	})
}

func TestSuccessThatCannotBeRead(t *testing.T) {
	html := func(status int) http.HandlerFunc { return always(status, "<html>ok</html>") }
	t.Run("is a success where nothing in it is needed", func(t *testing.T) {
		f := newFakeAXP(t, html(202))
		if _, err := f.client().SendMessage(t.Context(), id2, soundMessage()); err != nil {
			t.Errorf("got %v, want success: AXP has taken the message", err)
		}
	})
	t.Run("has an unknown outcome where its ids are needed", func(t *testing.T) {
		for _, body := range []string{"<html>ok</html>", "{}", "[]", "null", ""} {
			f := newFakeAXP(t, always(201, body))
			_, err := f.client().CreateEngagement(t.Context(), axp.CreateEngagement{SessionID: id1})
			if e := wantError(t, err); e.Outcome != axp.Unknown || len(f.calls()) != 1 {
				t.Errorf("body %q: got %v after %d calls, want unknown after 1", body, e.Outcome, len(f.calls()))
			}
		}
	})
	t.Run("is read again where that is safe", func(t *testing.T) {
		f := newFakeAXP(t, inTurn(html(200), always(200, engagementJSON)))
		if _, err := f.client().GetEngagement(t.Context(), id2); err != nil {
			t.Error(err)
		}
	})
	t.Run("is bounded", func(t *testing.T) {
		f := newFakeAXP(t, always(200, `{"sessionId":"`+strings.Repeat("x", 9<<20)+`"}`))
		if _, err := f.client().GetSession(t.Context(), id1); !errors.Is(err, axp.ErrTooLarge) {
			t.Errorf("got %v, want ErrTooLarge", err)
		}
	})
}

func TestTokenNeverFollowsARedirect(t *testing.T) {
	var reached atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	t.Cleanup(other.Close)
	f := newFakeAXP(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusFound)
	})
	client := f.client()
	if _, err := client.GetSession(t.Context(), id1); err == nil || reached.Load() {
		t.Errorf("got error %v, redirect followed: %v", err, reached.Load())
	}
	if _, err := client.DownloadMedia(t.Context(), "/v1/media/x"); err == nil || reached.Load() {
		t.Errorf("got error %v, redirect followed: %v", err, reached.Load())
	}
}

func TestIdsAreOpaqueAndEncoded(t *testing.T) {
	f := newFakeAXP(t, always(200, sessionJSON))
	client := f.client()
	cases := map[string]string{
		"plain-1":         "/sessions/plain-1:appendIdentifiers",
		"a/../b":          "/sessions/a%2F..%2Fb:appendIdentifiers",
		"x:disconnect":    "/sessions/x%3Adisconnect:appendIdentifiers",
		"q?reason=1#f":    "/sessions/q%3Freason=1%23f:appendIdentifiers",
		"{engagementId}":  "/sessions/%7BengagementId%7D:appendIdentifiers",
		"mail@host ümläu": "/sessions/mail@host%20%C3%BCml%C3%A4u:appendIdentifiers",
		"100%":            "/sessions/100%25:appendIdentifiers",
	}
	for id, want := range cases {
		if _, err := client.AppendIdentifiers(t.Context(), id, nil); err != nil {
			t.Fatalf("%q: %v", id, err)
		}
		calls := f.calls()
		if got := strings.TrimPrefix(calls[len(calls)-1].uri, "/api/digital/channel/v1/accounts/ABCDEF"); got != want {
			t.Errorf("%q: got path %s, want %s", id, got, want)
		}
	}
	n := len(f.calls())
	for _, id := range []string{"", ".", ".."} {
		if _, err := client.AppendIdentifiers(t.Context(), id, nil); !errors.Is(err, axp.ErrInvalidRequest) {
			t.Errorf("%q: got %v, want ErrInvalidRequest", id, err)
		}
	}
	if len(f.calls()) != n {
		t.Error("a request with an id that cannot be right was sent")
	}
}

func TestIncompleteRequestsAreNotSent(t *testing.T) {
	f := newFakeAXP(t, always(200, "{}"))
	c := f.client()
	ctx := t.Context()
	calls := map[string]func() error{
		"engagement without session": func() error { _, err := c.CreateEngagement(ctx, axp.CreateEngagement{}); return err },
		"list without session":       func() error { _, err := c.ListEngagements(ctx, ""); return err },
		"join without dialog": func() error {
			_, err := c.JoinEngagement(ctx, id2, axp.JoinEngagement{SessionID: id1})
			return err
		},
		"disconnect without session": func() error { return c.DisconnectEngagement(ctx, id2, axp.DisconnectEngagement{DialogID: id3}) },
		"message without dialog": func() error {
			_, err := c.SendMessage(ctx, id2, axp.SendMessage{SessionID: id1, Body: axp.TextBody("x", "")})
			return err
		},
		"message without type": func() error {
			_, err := c.SendMessage(ctx, id2, axp.SendMessage{SessionID: id1, DialogID: id3})
			return err
		},
		"page 0":           func() error { _, err := c.ListMessages(ctx, id2, id3, id1, 0, 50); return err },
		"page of 51":       func() error { _, err := c.ListMessages(ctx, id2, id3, id1, 1, 51); return err },
		"update of no id":  func() error { _, err := c.UpdateSubscription(ctx, axp.Subscription{}); return err },
		"upload of nought": func() error { _, err := c.UploadMedia(ctx, "/v1/media/x", axp.MediaFile{}); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, axp.ErrInvalidRequest) || axp.OutcomeOf(err) != axp.NotApplied {
			t.Errorf("%s: got %v, want ErrInvalidRequest, not applied", name, err)
		}
	}
	if n := len(f.calls()) + f.tokenRequests(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestNothingSecretInLogsAndErrors(t *testing.T) {
	var log bytes.Buffer
	var texts []string
	for _, fault := range []http.HandlerFunc{
		dropped(t),
		always(400, `{"title":"Bad","detail":"a@b.example is wrong","violations":[{"field":"f","message":"a@b.example","code":20006}]}`),
	} {
		client := newFakeAXP(t, fault).client(func(p *axp.Params) {
			p.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		for _, op := range operations() {
			err := op.call(t.Context(), client)
			texts = append(texts, err.Error(), wantError(t, err).AsError().Error())
		}
	}
	g := newFakeAXP(t, always(200, "{}"))
	g.token = always(401, `{"error":"unauthorized_client","error_description":"Invalid client secret"}`)
	refused := g.client(func(p *axp.Params) { p.Log = slog.New(slog.NewJSONHandler(&log, nil)) })
	texts = append(texts, refused.CheckCredentials(t.Context()).Error())
	all := log.String() + strings.Join(texts, "\n")
	for _, secret := range []string{testSecret, testAppKey, "token-1", "signature=", "a@b.example", "hello", "Ada"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q appears in logs or errors:\n%s", secret, all)
		}
	}
	if !strings.Contains(log.String(), "refuses the connector's credentials") {
		t.Errorf("the refusal of credentials is not logged:\n%s", log.String())
	}
}

func TestAccountIsChecked(t *testing.T) {
	sound := testAccountAt("https://eu.axp.example")
	if _, err := axp.NewClient(axp.Params{Account: sound}); err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(*axp.Account){
		"account_id":          func(a *axp.Account) { a.AccountID = "ABC12" },
		"client_id":           func(a *axp.Account) { a.ClientID = "" },
		"client_secret":       func(a *axp.Account) { a.ClientSecret = "" },
		"app_key":             func(a *axp.Account) { a.AppKey = config.Secret("a\r\nb") },
		"channel_provider_id": func(a *axp.Account) { a.ChannelProviderID = "ab" },
		"channel_id":          func(a *axp.Account) { a.ChannelID = "x" },
		"base_url":            func(a *axp.Account) { a.BaseURL = "https://eu.axp.example/api" },
	}
	for field, spoil := range cases {
		a := sound
		spoil(&a)
		_, err := axp.NewClient(axp.Params{Account: a})
		if err == nil || !strings.Contains(err.Error(), field+":") {
			t.Errorf("%s: got %v, want an error that names it", field, err)
		}
	}
	for _, url := range []string{"", "eu.axp.example", "ftp://x", "https://u:p@x", "https://x?y=1", "https://", "https://:443", "http://x/#f", "%"} {
		a := sound
		a.BaseURL = url
		if _, err := axp.NewClient(axp.Params{Account: a}); err == nil {
			t.Errorf("base_url %q is accepted", url)
		}
	}
}
