package sandbox_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	sandbox "github.com/axpchat/connector/services/axp-sandbox"
	"github.com/axpchat/connector/services/internal/kit/await"
)

type attempt struct {
	EventType, DialogID, MessageID string
	Attempt, Status                int
}

func (b *box) attempts() []attempt {
	b.t.Helper()
	return into[[]attempt](b.get("/control/callbacks").want(200))
}

type stats struct{ Delivered, FailedAttempts, GivenUp, Swallowed, Pending int }

func (b *box) stats() stats {
	b.t.Helper()
	return into[struct{ Webhooks stats }](b.get("/control/state").want(200)).Webhooks
}

// quiet subscribes a receiver to messages only, in a chat that has begun.
func (b *box) quiet() (*receiver, talk) {
	b.t.Helper()
	tk := b.talk(b.session("Maren"))
	return b.receive("MESSAGES"), tk
}

func TestSubscriptionsAreKept(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.AllowHTTP = false })
	body := func(url string, types ...string) object {
		return object{"channelProviderId": provider, "callbackUrl": url, "eventTypes": types}
	}
	b.post(hooks, body("http://example.com/x", "ALL")).refused("callbackUrl")
	one := b.post(hooks, body("https://example.com/1", "MESSAGES")).want(201)
	two := b.post(hooks, body("https://example.com/1", "MESSAGES")).want(201) // a double is another one
	id := one.text("subscriptionId")
	if id == "" || id == two.text("subscriptionId") {
		t.Errorf("ids %q and %q", id, two.text("subscriptionId"))
	}
	if n := len(into[[]object](b.get(hooks + "?channelProviderId=" + provider).want(200))); n != 2 {
		t.Errorf("%d subscriptions, want 2", n)
	}
	if got := b.get(hooks + "?channelProviderId=other").want(200); string(got.data) != "[]\n" {
		t.Errorf("another provider's: %s", got.data)
	}
	put := body("https://example.com/2", "ALL", "TYPING")
	put["subscriptionId"] = id // AXP's own sample sends it
	if got := b.call(http.MethodPut, hooks+"/"+id, put).want(200); got.text("callbackUrl") != "https://example.com/2" || got.text("subscriptionId") != id {
		t.Errorf("replaced: %s", got.data)
	}
	if got := into[struct{ EventTypes []string }](b.get(hooks + "/" + id).want(200)); !slices.Equal(got.EventTypes, []string{"ALL", "TYPING"}) {
		t.Errorf("types %v", got.EventTypes)
	}
	b.call(http.MethodPut, hooks+"/"+id, object{"channelProviderId": "other-chat", "callbackUrl": "https://example.com/2", "eventTypes": []string{"ALL"}}).refused("channelProviderId")
	b.call(http.MethodPut, hooks+"/"+id, set(body("https://example.com/2", "ALL"), "subscriptionId", nobody)).refused("subscriptionId")
	b.call(http.MethodPut, hooks+"/"+id, body("http://example.com/2", "ALL")).refused("callbackUrl")
	b.call(http.MethodDelete, hooks+"/"+id, nil).want(204)
	b.call(http.MethodDelete, hooks+"/"+id, nil).want(404)
	b.get(hooks + "/" + id).want(404)
}

func TestASubscriptionGetsItsTypesOnly(t *testing.T) {
	b := start(t, nil)
	for _, c := range []struct {
		types []string
		want  []string
	}{
		{[]string{"MESSAGES"}, []string{"MESSAGES CUSTOMER: Hello", "MESSAGES AGENT: Hi"}},
		{[]string{"CUSTOMER_MESSAGES"}, []string{"MESSAGES CUSTOMER: Hello"}},
		{[]string{"CC_MESSAGES"}, []string{"MESSAGES AGENT: Hi"}},
		{[]string{"ENGAGEMENT_CREATED", "PARTICIPANT_DISCONNECTED"}, []string{"ENGAGEMENT_CREATED", "PARTICIPANT_DISCONNECTED AGENT", "PARTICIPANT_DISCONNECTED CUSTOMER"}},
		{[]string{"ALL"}, []string{
			began[0], began[1], "MESSAGES CUSTOMER: Hello", "PARTICIPANT_ADDED AGENT", "MESSAGES AGENT: Hi", "PARTICIPANT_DISCONNECTED AGENT", "PARTICIPANT_DISCONNECTED CUSTOMER",
		}},
	} {
		t.Run(fmt.Sprint(c.types), func(t *testing.T) {
			b := b.in(t)
			rec := b.receive(c.types...)
			tk := b.talk(b.session("Maren"))
			tk.say("Hello")
			tk.desk("accept", object{}).want(200)
			tk.desk("messages", object{"text": "Hi"}).want(200)
			tk.desk("end", object{}).want(200)
			rec.expect(c.want...)
			await.Until(t, "everything to be delivered", func() bool { return b.stats().Pending == 0 })
			if n := len(rec.events); n != 0 {
				t.Errorf("%d callbacks that were not asked for, first: %s", n, tell(rec.next()))
			}
		})
	}
}

func TestAnyBodyCanBeEmitted(t *testing.T) {
	b := start(t, nil)
	rec := b.receive("ENGAGEMENT_ERROR")
	typing := object{
		"eventType": "TYPING", "accountId": account, "channelProviderId": provider, "dialogId": "d", "engagementId": "e", "channelId": "Chat",
		"senderParticipantId": "p", "senderParticipantType": "AGENT", "senderParticipantDisplayName": "n", "correlationId": "c",
		"eventDate": "2026-03-11T09:12:23.950Z",
	}
	if got := into[map[string]int](b.control("emit", typing)); got["subscriptions"] != 1 {
		t.Errorf("emitted to %v", got)
	}
	if got := rec.next(); text(got, "senderParticipantDisplayName") != "n" {
		t.Errorf("callback %v", got)
	}
}

func TestEventsOfADialogComeInOrder(t *testing.T) {
	b := start(t, nil)
	rec, tk := b.quiet()
	for i := range 40 {
		tk.say(fmt.Sprint(i))
	}
	for i := range 40 {
		rec.expect(fmt.Sprint("MESSAGES CUSTOMER: ", i))
	}
}

func TestOnlyExactly200IsSuccess(t *testing.T) {
	for _, status := range []int{201, 202, 204, 302, 400, 404, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			b := start(t, nil)
			rec, tk := b.quiet()
			first := make(chan struct{}, 1)
			first <- struct{}{}
			rec.answers(func(_ object, w http.ResponseWriter, _ *http.Request) {
				select {
				case <-first:
					w.Header().Set("Location", rec.url)
					w.WriteHeader(status)
				default:
				}
			})
			tk.say("Hello")
			rec.expect("MESSAGES CUSTOMER: Hello", "MESSAGES CUSTOMER: Hello")
			await.Until(t, "the delivery", func() bool { return b.stats() == stats{Delivered: 1, FailedAttempts: 1} })
			got := b.attempts()
			if len(got) != 2 || got[0].Status != status || got[0].Attempt != 1 || got[1].Status != 200 || got[1].Attempt != 2 || got[1].DialogID != tk.dialog {
				t.Errorf("attempts %+v", got)
			}
		})
	}
}

func TestASlowAnswerIsNone(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.CallbackTimeout = 50 * time.Millisecond })
	rec, tk := b.quiet()
	first := make(chan struct{}, 1)
	first <- struct{}{}
	rec.answers(func(_ object, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-first:
			<-r.Context().Done() // until the caller hangs up
		default:
		}
	})
	tk.say("Hello")
	rec.expect("MESSAGES CUSTOMER: Hello", "MESSAGES CUSTOMER: Hello")
}

func TestAResentEventIsOvertaken(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.RetryDelay = 300 * time.Millisecond })
	rec, tk := b.quiet()
	failed := false
	rec.answers(func(event object, w http.ResponseWriter, _ *http.Request) {
		if text(event, "body.elementText.text") == "one" && !failed {
			failed = true // only the lane's first attempt comes here before it is sent again
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	for _, words := range []string{"one", "two", "three"} {
		tk.say(words)
	}
	rec.expect("MESSAGES CUSTOMER: one", "MESSAGES CUSTOMER: two", "MESSAGES CUSTOMER: three", "MESSAGES CUSTOMER: one")
}

func TestAnEventIsGivenUpAfterItsAttempts(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.MaxAttempts, c.RetryDelay = 3, time.Millisecond })
	rec, tk := b.quiet()
	rec.answers(func(_ object, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	tk.say("Hello")
	await.Until(t, "the end of the attempts", func() bool { return b.stats() == stats{FailedAttempts: 3, GivenUp: 1} })
	if n := len(b.attempts()); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
}

func TestAResentEventGoesWhereTheSubscriptionPointsNow(t *testing.T) {
	b := start(t, func(c *sandbox.Config) { c.RetryDelay, c.MaxAttempts = time.Millisecond, 1<<30 })
	old, now := listen(t), listen(t)
	old.answers(func(_ object, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	body := object{"channelProviderId": provider, "callbackUrl": old.url, "eventTypes": []string{"MESSAGES"}}
	id := b.post(hooks, body).want(201).text("subscriptionId")
	tk := b.talk(b.session("Maren"))
	tk.say("Hello")
	old.expect("MESSAGES CUSTOMER: Hello")
	body["callbackUrl"] = now.url
	b.call(http.MethodPut, hooks+"/"+id, body).want(200)
	now.expect("MESSAGES CUSTOMER: Hello")
	now.answers(func(_ object, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	tk.say("Bye")
	now.expect("MESSAGES CUSTOMER: Bye")
	b.call(http.MethodDelete, hooks+"/"+id, nil).want(204)
	await.Until(t, "the event to be given up with its subscription", func() bool { return b.stats().GivenUp == 1 && b.stats().Pending == 0 })
}

func TestCallbackFaults(t *testing.T) {
	b := start(t, nil)
	rec, tk := b.quiet()
	tk.desk("accept", object{}).want(200)
	c := func(words string) string { return "MESSAGES CUSTOMER: " + words }
	fault := func(f object) { t.Helper(); b.control("webhook-faults", f) }
	t.Run("an event comes twice", func(t *testing.T) {
		fault(object{"kind": "duplicate"})
		tk.say("1")
		rec.expect(c("1"), c("1"))
	})
	t.Run("an event comes late", func(t *testing.T) {
		fault(object{"kind": "delay", "delayMs": 200, "count": 1})
		tk.say("2")
		tk.say("3")
		rec.expect(c("3"), c("2"))
	})
	t.Run("two events change places", func(t *testing.T) {
		fault(object{"kind": "reorder", "delayMs": 5000})
		tk.say("4")
		tk.say("5")
		rec.expect(c("5"), c("4"))
	})
	t.Run("an event without a next one is not kept for ever", func(t *testing.T) {
		fault(object{"kind": "reorder", "delayMs": 10})
		tk.say("6")
		rec.expect(c("6"))
	})
	for _, kind := range []string{"swallow", "drop"} {
		t.Run("an event never comes: "+kind, func(t *testing.T) {
			before := b.stats().Swallowed
			fault(object{"kind": kind})
			tk.say("7")
			tk.say("8")
			rec.expect(c("8"))
			if got := b.stats().Swallowed; got != before+1 {
				t.Errorf("%d swallowed, want %d", got, before+1)
			}
		})
	}
	t.Run("only the echo never comes", func(t *testing.T) {
		fault(object{"kind": "swallow", "eventType": "MESSAGES", "senderType": "CUSTOMER"})
		tk.desk("messages", object{"text": "9"}).want(200)
		tk.say("10")
		tk.say("11")
		rec.expect("MESSAGES AGENT: 9", c("11"))
	})
	t.Run("only other types are hit", func(t *testing.T) {
		fault(object{"kind": "swallow", "eventType": "ENGAGEMENT_CREATED"})
		tk.say("12")
		rec.expect(c("12"))
	})
	t.Run("healing delivers what was kept back", func(t *testing.T) {
		b.call(http.MethodDelete, "/control/faults", nil).want(200)
		fault(object{"kind": "reorder", "delayMs": 60_000})
		tk.say("13")
		b.call(http.MethodDelete, "/control/faults", nil).want(200)
		rec.expect(c("13"))
	})
	await.Until(t, "everything to be delivered", func() bool { return b.stats().Pending == 0 })
}

func TestProbableCallbackFaultsFollowTheSeed(t *testing.T) {
	pattern := func(seed uint64) (out []bool) {
		b := start(t, func(c *sandbox.Config) { c.Seed = seed })
		rec, tk := b.quiet()
		b.control("webhook-faults", object{"kind": "swallow", "probability": 0.5})
		for i := range 24 {
			tk.say(fmt.Sprint(i))
		}
		b.call(http.MethodDelete, "/control/faults", nil).want(200)
		tk.say("last")
		came := map[string]bool{}
		for e := rec.next(); tell(e) != "MESSAGES CUSTOMER: last"; e = rec.next() {
			came[text(e, "body.elementText.text")] = true
		}
		for i := range 24 {
			out = append(out, came[fmt.Sprint(i)])
		}
		return out
	}
	one, again, other := pattern(7), pattern(7), pattern(8)
	if !slices.Equal(one, again) || slices.Equal(one, other) || !slices.Contains(one, true) || !slices.Contains(one, false) {
		t.Errorf("seed 7: %v, again %v, seed 8: %v", one, again, other)
	}
}

func TestAnOutageHoldsCallbacksBack(t *testing.T) {
	b := start(t, nil)
	rec, tk := b.quiet()
	b.control("webhook-faults", object{"kind": "outage", "durationMs": 60_000})
	tk.say("1")
	tk.say("2")
	if got := b.stats(); got.Pending != 2 || got.FailedAttempts != 0 {
		t.Errorf("stats %+v", got)
	}
	b.call(http.MethodDelete, "/control/faults", nil).want(200)
	rec.expect("MESSAGES CUSTOMER: 1", "MESSAGES CUSTOMER: 2")
}
