package tenants

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
)

// TestAnOutageOfOneTenantDoesNotSlowTheOther compares in one run how long a
// message of one tenant takes with and without the other's AXP.
func TestAnOutageOfOneTenantDoesNotSlowTheOther(t *testing.T) {
	a, b := alps(), fjords()
	d := deploy(t, []*tenant{a, b}, a, b)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	ours := begin(ctx, t, d, b, "ours")
	var theirs []*chat
	for i := range 12 { // in every partition
		theirs = append(theirs, begin(ctx, t, d, a, fmt.Sprintf("theirs-%d", i)))
	}
	const rounds = 30
	took := func(round string) time.Duration {
		var all []time.Duration
		for i := range rounds {
			began := time.Now()
			id, err := ours.say(ctx, fmt.Sprintf("%s %d", round, i))
			if err == nil {
				err = ours.delivered(ctx, id)
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, time.Since(began))
		}
		slices.Sort(all)
		return all[rounds/2]
	}
	took("warm-up")
	before := took("all is well")
	a.outage(t)
	var waiting []string
	for _, c := range theirs {
		for i := range 5 {
			id, err := c.say(ctx, fmt.Sprintf("waits %d", i))
			if err != nil {
				t.Fatal(err)
			}
			waiting = append(waiting, id)
		}
	}
	during := took("the other's outage")
	t.Logf("a message takes %v, and %v while %d of the other tenant wait for their AXP", before, during, len(waiting))
	if during > 3*before+100*time.Millisecond {
		t.Errorf("the other tenant's outage makes a message take %v instead of %v", during, before)
	}
	a.heal(t)
	for i, id := range waiting {
		if err := theirs[i/5].delivered(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
}

// begin logs in and starts a chat.
func begin(ctx context.Context, t *testing.T, d *deployment, te *tenant, subject string) *chat {
	t.Helper()
	c, err := logIn(ctx, t, d, te, subject)
	if err == nil {
		err = c.start(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// talk is a chat that goes on for as long as the test likes: both sides say
// something again and again, and everything must come, once and in order.
type talk struct {
	c     *chat
	stop  chan struct{}
	done  sync.WaitGroup
	said  int
	fault error
}

func goOn(ctx context.Context, c *chat) *talk {
	k := &talk{c: c, stop: make(chan struct{})}
	k.done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-k.stop:
				return
			case <-tick.C:
			}
			if k.fault = k.round(ctx); k.fault != nil {
				return
			}
			k.said++
		}
	})
	return k
}

func (k *talk) round(ctx context.Context) error {
	id, err := k.c.say(ctx, fmt.Sprintf("round %d", k.said))
	if err != nil {
		return err
	}
	answer := fmt.Sprintf("answer %d", k.said)
	if err := k.c.te.desk.Say(ctx, k.c.dialog, answer); err != nil {
		return err
	}
	if err := k.c.heard(ctx, answer); err != nil {
		return err
	}
	return k.c.delivered(ctx, id)
}

// end ends the talk and looks at all of it.
func (k *talk) end(t *testing.T) {
	t.Helper()
	close(k.stop)
	k.done.Wait()
	if k.fault != nil {
		t.Fatal(k.fault)
	}
	texts, problem := k.c.agentTexts()
	if problem != nil || len(texts) != k.said || k.said < 10 {
		t.Fatalf("%d rounds, %d answers: %v", k.said, len(texts), problem)
	}
	for i, text := range texts {
		if text != fmt.Sprintf("answer %d", i) {
			t.Fatalf("answer %d is %q", i, text)
		}
	}
	t.Logf("%s: %d rounds, undisturbed", k.c.name, k.said)
}

// TestATenantComesAndGoesWhileAnotherChats: all by changes of the file, in one
// life of the process, on one stream of the tenant that stays.
func TestATenantComesAndGoesWhileAnotherChats(t *testing.T) {
	t.Parallel()
	a, b := alps(), fjords()
	d := deploy(t, []*tenant{a, b}, b)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	steady := goOn(ctx, begin(ctx, t, d, b, "steady"))

	_, err := logIn(ctx, t, d, a, "early")
	if reasonOf(err) != "ACCOUNT_UNKNOWN" || a.subscriptions(t) != 0 {
		t.Fatalf("before the tenant is there: %v", err)
	}

	d.configure(a, b)
	d.await("the new tenant's webhook subscription", func() bool { return a.subscriptions(t) == 1 })
	d.await("its gauges", func() bool { return slices.Contains(d.labels("axpchat_subscription_ok"), a.account) })
	first := begin(ctx, t, d, a, "first")
	id, err := first.say(ctx, "is this thing on?")
	if err == nil {
		err = first.delivered(ctx, id)
	}
	if err == nil {
		err = a.desk.Say(ctx, first.dialog, "it is")
	}
	if err == nil {
		err = first.heard(ctx, "it is")
	}
	if err != nil {
		t.Fatal(err)
	}

	d.swap("accounts: [{account_id: ALPINE}]\n")
	d.await("the broken file to be told of", func() bool { return d.metric("axpchat_config_current") == "0" })
	if log := d.connector.Log(); !strings.Contains(log, "accounts[0].client_id") || strings.Contains(log, "alpine-secret") {
		t.Error("the log must name what is missing, and no secret")
	}
	if id, err = first.say(ctx, "still there?"); err == nil {
		err = first.delivered(ctx, id)
	}
	if err != nil {
		t.Fatalf("a broken file has changed something: %v", err)
	}
	d.configure(a, b)
	d.await("the mended file", func() bool { return d.metric("axpchat_config_current") == "1" })

	a.outage(t)
	lost, err := first.say(ctx, "am I too late?")
	if err != nil {
		t.Fatal(err)
	}
	d.configure(b)
	var failure *axpchatv1.MessageFailure
	err = first.until(ctx, "the message to fail", func(e *axpchatv1.Event) bool {
		if change := e.GetMessageStatusChanged(); change.GetMessageId() == lost && change.GetFailure() != nil {
			failure = change.GetFailure()
		}
		return failure != nil
	})
	if err != nil || failure.GetReason() != "ACCOUNT_UNKNOWN" {
		t.Fatalf("failure %v, %v", failure, err)
	}
	a.heal(t)
	d.await("the subscription to be deleted", func() bool { return a.subscriptions(t) == 0 })
	d.await("the gauges to go", func() bool {
		return !slices.Contains(d.labels("axpchat_subscription_ok"), a.account) && !slices.Contains(d.labels("axpchat_axp_breaker_state"), a.account)
	})
	if _, err := logIn(ctx, t, d, a, "late"); reasonOf(err) != "ACCOUNT_UNKNOWN" {
		t.Errorf("after the tenant has gone: %v", err)
	}
	if got := b.subscriptions(t); got != 1 {
		t.Errorf("the other tenant has %d subscriptions", got)
	}
	steady.end(t)
}

// TestASecretIsRotatedInItsFile: the connector gets the new secret first, then
// AXP, which also ends the tokens of the old one. Messages that are sent all the
// while arrive, and the other tenant notices nothing.
func TestASecretIsRotatedInItsFile(t *testing.T) {
	t.Parallel()
	a, b := alps(), fjords()
	d := deploy(t, []*tenant{a, b}, a, b)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	steady := goOn(ctx, begin(ctx, t, d, b, "steady"))
	c := begin(ctx, t, d, a, "rotated")
	var ids []string
	say := func(text string) {
		t.Helper()
		id, err := c.say(ctx, text)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	say("with the old secret")
	if err := c.delivered(ctx, ids[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.secret, []byte("another-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.await("the new secret to be noticed", func() bool { return strings.Contains(d.connector.Log(), "the credentials of an account have changed") })
	say("with the old token")
	if err := c.delivered(ctx, ids[1]); err != nil {
		t.Fatal(err)
	}
	if err := a.sandbox.Terminate(ctx); err != nil {
		t.Fatal(err)
	}
	say("while AXP is away")
	a.env["SANDBOX_CLIENT_SECRET"] = "another-secret"
	a.run(t)
	say("with the new secret")
	for _, id := range ids {
		if err := c.delivered(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if log := d.connector.Log(); strings.Contains(log, "another-secret") || strings.Contains(log, "alpine-secret") {
		t.Error("a secret is in the log")
	}
	steady.end(t)
}
