package sandbox_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	sandbox "github.com/axpchat/connector/services/axp-sandbox"
	"github.com/axpchat/connector/services/internal/kit/await"
)

// sessions counts what took effect.
func (b *box) sessions() int {
	b.t.Helper()
	return len(into[struct{ Sessions []object }](b.get("/control/state").want(200)).Sessions)
}

type recorded struct {
	Operation, Method, Path, Query, Fault string
	Status                                int
	Body                                  object
}

func (b *box) calls(operation string) []recorded {
	b.t.Helper()
	return into[[]recorded](b.get("/control/calls?operation=" + operation).want(200))
}

func TestCallFaults(t *testing.T) {
	const op = "createDigitalSession"
	for _, c := range []struct {
		name   string
		fault  object
		status int // 0: the connection breaks
		effect int // sessions that there are afterwards
	}{
		{"a refusal", object{"kind": "status", "status": 503}, 503, 0},
		{"too many requests", object{"kind": "status", "status": 429}, 429, 0},
		{"a refusal after the effect", object{"kind": "status", "status": 500, "afterEffect": true}, 500, 1},
		{"a lost answer", object{"kind": "answerLost"}, 503, 1},
		{"a reset before the effect", object{"kind": "resetBefore"}, 0, 0},
		{"a reset after the effect", object{"kind": "resetAfter"}, 0, 1},
		{"a revoked token", object{"kind": "revokeToken"}, 401, 0},
		{"a delay", object{"kind": "latency", "delayMs": 1}, 201, 1},
		{"a delay after the effect", object{"kind": "latency", "delayMs": 1, "afterEffect": true}, 201, 1},
		{"no fault for others", object{"kind": "status", "status": 500, "operation": "getDigitalSession"}, 201, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := start(t, nil)
			if c.fault["operation"] == nil {
				c.fault["operation"] = op
			}
			c.fault["count"] = 1
			b.control("faults", c.fault)
			got, err := b.try(t.Context(), http.MethodPost, chat+"/sessions", newSession("Maren"))
			if (err != nil) != (c.status == 0) || got.status != c.status {
				t.Errorf("status %d (%v), want %d", got.status, err, c.status)
			}
			if n := b.sessions(); n != c.effect {
				t.Errorf("%d sessions, want %d", n, c.effect)
			}
			calls := b.calls(op)
			if len(calls) != 1 || calls[0].Status != c.status || calls[0].Body["displayName"] != "Maren" || calls[0].Path != chat+"/sessions" {
				t.Errorf("recorded %+v", calls)
			}
			b.login()
			b.post(chat+"/sessions", newSession("Nils")).want(201) // once was asked for
		})
	}
}

func TestThrottlingSaysHowLongOrNothing(t *testing.T) {
	b := start(t, nil)
	b.control("faults", object{"kind": "status", "status": 429, "count": 1})
	if got := b.get(hooks).want(429).header; got.Get("Retry-After") != "" || got.Get("RateLimit-Reset") != "" {
		t.Errorf("headers %v", got)
	}
	b.control("faults", object{"kind": "status", "status": 429, "count": 1, "retryAfterSeconds": 7})
	if got := b.get(hooks).want(429).header.Get("Retry-After"); got != "7" {
		t.Errorf("Retry-After %q", got)
	}
	b.control("faults", object{"kind": "status", "status": 429, "count": 1, "rateLimitResetSeconds": 9})
	if got := b.get(hooks).want(429).header; got.Get("RateLimit-Reset") != "9" || got.Get("RateLimit-Remaining") != "0" || got.Get("Retry-After") != "" {
		t.Errorf("headers %v", got)
	}
}

// A caller that does not wait sees nothing, whether or not it was done.
func TestLatencyOutlastsTheCaller(t *testing.T) {
	for _, after := range []bool{false, true} {
		b := start(t, nil)
		b.control("faults", object{"operation": "createDigitalSession", "kind": "latency", "delayMs": 60_000, "afterEffect": after, "count": 1})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := b.try(ctx, http.MethodPost, chat+"/sessions", newSession("Maren"))
			ended <- err
		}()
		await.Until(t, "the call to arrive", func() bool { return len(b.calls("createDigitalSession")) == 1 })
		want := 0
		if after {
			want = 1
			await.Until(t, "the effect", func() bool { return b.sessions() == 1 })
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		b.get(hooks).want(200)
		if n := b.sessions(); n != want {
			t.Errorf("%d sessions, want %d", n, want)
		}
	}
}

func TestTheTokenEndpointCanBeSlow(t *testing.T) {
	b := start(t, nil)
	b.control("faults", object{"operation": "postGenerateToken", "kind": "latency", "delayMs": 60, "count": 1})
	began := time.Now()
	b.login()
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("took %s", took)
	}
	for _, c := range b.calls("postGenerateToken") {
		if c.Body != nil {
			t.Error("a secret was recorded")
		}
	}
}

func TestFaultsEnd(t *testing.T) {
	b := start(t, nil)
	b.control("faults", object{"kind": "status", "status": 500, "count": 2})
	b.get(hooks).want(500)
	b.get(hooks).want(500)
	b.get(hooks).want(200)
	b.control("faults", object{"kind": "status", "status": 500, "durationMs": 100})
	b.get(hooks).want(500)
	await.Until(t, "the fault to end", func() bool { return b.get(hooks).status == 200 })
	b.control("faults", object{"kind": "status", "status": 500})
	b.get(hooks).want(500)
	if got := into[struct{ Calls, Callbacks []object }](b.get("/control/faults").want(200)); len(got.Calls) != 1 || got.Calls[0]["operation"] != "*" {
		t.Errorf("faults %+v", got)
	}
	b.call(http.MethodDelete, "/control/faults", nil).want(200)
	b.get(hooks).want(200)
}

func TestAnOutageEnds(t *testing.T) {
	b := start(t, nil)
	rec, tk := b.quiet()
	b.control("outage", object{"durationMs": 150})
	tk.desk("accept", object{}).want(200) // the desk is beside AXP's operations
	tk.desk("messages", object{"text": "Hi"}).want(200)
	if _, err := b.try(t.Context(), http.MethodGet, hooks, nil); err == nil {
		t.Error("a call was answered in an outage")
	}
	rec.expect("MESSAGES AGENT: Hi")
	await.Until(t, "the outage to end", func() bool { _, err := b.try(t.Context(), http.MethodGet, hooks, nil); return err == nil })
	b.control("outage", object{"durationMs": 60_000, "status": 502})
	b.get(hooks).want(502)
}

func TestProbableFaultsFollowTheSeed(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.Seed = 3 })
	b.control("faults", object{"operation": "listDigitalWebhookSubscriptions", "kind": "status", "status": 500, "probability": 0.5})
	pattern := func() (out []int) {
		for range 24 {
			out = append(out, b.get(hooks).status)
		}
		return out
	}
	one := pattern()
	other := pattern()
	b.control("seed", object{"seed": 3})
	again := pattern()
	if !slices.Equal(one, again) || slices.Equal(one, other) || !slices.Contains(one, 200) || !slices.Contains(one, 500) {
		t.Errorf("seed 3: %v, going on: %v, seed 3 again: %v", one, other, again)
	}
}

// A fault that is spelt wrong never happens: whoever relies on it must know.
func TestFaultsThatCannotHappenAreRefused(t *testing.T) {
	b := start(t, nil)
	for _, c := range []struct {
		path string
		body any
	}{
		{"faults", object{"kind": "explode"}},
		{"faults", object{"kind": "status", "status": 200}},
		{"faults", object{"kind": "status", "status": 503, "operation": "createSession"}},
		{"faults", object{"kind": "status", "status": 503, "probability": 1.5}},
		{"faults", object{"kind": "status", "status": 503, "count": -1}},
		{"faults", object{"kind": "status", "status": 503, "retryAfter": 5}},
		{"faults", object{"kind": "latency"}},
		{"faults", "{"},
		{"webhook-faults", object{"kind": "explode"}},
		{"webhook-faults", object{"kind": "delay"}},
		{"webhook-faults", object{"kind": "outage"}},
		{"webhook-faults", object{"kind": "swallow", "probability": -1}},
		{"webhook-faults", object{"kind": "swallow", "durationMs": -1}},
		{"outage", object{}},
		{"outage", object{"durationMs": 5, "status": 200}},
		{"emit", "{"},
	} {
		b.post("/control/"+c.path, c.body).want(400)
	}
	b.get(hooks).want(200)
}

func TestResetEmptiesTheWorldButKeepsSubscriptions(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.ActivationDelay = 50 * time.Millisecond })
	rec := b.receive()
	b.pending(b.session("Maren"), "") // its activation must not be heard of any more
	b.control("faults", object{"kind": "latency", "delayMs": 1})
	b.control("reset", nil)
	state := into[struct{ Sessions, Chats, Subscriptions []object }](b.get("/control/state").want(200))
	if len(state.Sessions)+len(state.Chats) != 0 || len(state.Subscriptions) != 1 || len(b.calls("")) != 0 {
		t.Errorf("state %+v", state)
	}
	tk := b.talk(b.session("Nils"))
	for _, want := range began {
		if e := rec.next(); tell(e) != want || text(e, "dialogId") != tk.dialog {
			t.Errorf("event %v, want %s of %s", e, want, tk.dialog)
		}
	}
	b.call(http.MethodDelete, "/control/calls", nil).want(200)
	if n := len(b.calls("")); n != 0 {
		t.Errorf("%d calls after they were forgotten", n)
	}
}
