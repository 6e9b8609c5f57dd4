package bus_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/config"
)

func TestASubjectIsToldWithoutIDs(t *testing.T) {
	for subject, want := range map[string]string{
		"chat.event.ABCDEF.s1":                                      "chat.event.>",
		"chat.outbox.3of16.ABCDEF.s1":                               "chat.outbox.>",
		"timer.set.idle.ABCDEF.s1":                                  "timer.set.>",
		"$KV.SESSIONS.ABCDEF.s1":                                    "$KV.SESSIONS.>",
		"$JS.ACK.OUTBOX.outbox-16-3.1.2.3.4.5":                      "$JS.ACK.OUTBOX.>",
		"$JS.FC.KV_INDEX.x.y":                                       "$JS.FC.KV_INDEX.>",
		"_INBOX_gateway.abc.def":                                    "_INBOX_gateway.>",
		"$JS.API.STREAM.INFO.EVENTS":                                "$JS.API.STREAM.INFO.EVENTS",
		"$JS.API.DIRECT.GET.KV_SESSIONS.$KV.SESSIONS.ABCDEF.s1":     "$JS.API.DIRECT.GET.KV_SESSIONS.>",
		"$JS.API.CONSUMER.MSG.NEXT.OUTBOX.outbox-16-3":              "$JS.API.CONSUMER.MSG.NEXT.OUTBOX.>",
		"$JS.API.CONSUMER.CREATE.EVENTS.abc_1.chat.event.ABCDEF.s1": "$JS.API.CONSUMER.CREATE.EVENTS.>",
		"axpchat.api.DIRECT.GET.EVENTS":                             "axpchat.>",
		"somebody.elses.subject":                                    "somebody.>",
		"":                                                          "",
	} {
		if got := bus.KindOf(subject, "$JS.API."); got != want {
			t.Errorf("%s: %s, want %s", subject, got, want)
		}
	}
	for subject, want := range map[string]string{
		"axpchat.api.DIRECT.GET.EVENTS":                         "axpchat.api.DIRECT.GET.EVENTS",
		"axpchat.api.$KV.TICKETS.abc":                           "axpchat.api.$KV.TICKETS.>",
		"axpchat.api.CONSUMER.CREATE.EVENTS.abc.chat.event.A.b": "axpchat.api.CONSUMER.CREATE.EVENTS.>",
		"$JS.API.STREAM.INFO.EVENTS":                            "$JS.>",
	} {
		if got := bus.KindOf(subject, "axpchat.api."); got != want {
			t.Errorf("%s: %s, want %s", subject, got, want)
		}
	}
}

// denied is an error as the client library reports it.
func denied(words string) error {
	return fmt.Errorf("%w: Permissions Violation for %s", nats.ErrPermissionViolation, words)
}

func TestADeniedPublishCountsForFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs strings.Builder
		d := bus.NewDenials(t, slog.New(slog.NewTextHandler(&logs, nil)))
		if err := d.Err(); err != nil {
			t.Fatal(err)
		}
		d.Note(denied(`Publish to "chat.event.ABCDEF.s1"`))
		time.Sleep(4 * time.Minute) //nolint:forbidigo // the bubble's clock
		d.Note(denied(`Publish to "chat.event.ABCDEF.s2"`))
		time.Sleep(5 * time.Minute) //nolint:forbidigo // the bubble's clock
		if err := d.Err(); !errors.Is(err, nats.ErrPermissionViolation) || strings.Contains(err.Error(), "ABCDEF") {
			t.Errorf("five minutes after the last: %v", err)
		}
		time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock
		if err := d.Err(); err != nil {
			t.Errorf("later: %v", err)
		}
		if n := strings.Count(logs.String(), "chat.event.>"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, logs.String())
		}
		d.Note(denied(`Publish to "chat.event.ABCDEF.s3"`))
		if n := strings.Count(logs.String(), "chat.event.>"); n != 2 {
			t.Errorf("a new one must be logged again: %d", n)
		}
	})
}

func TestADeniedSubscriptionCountsUntilTheNextConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := bus.NewDenials(t, slog.New(slog.DiscardHandler))
		d.Note(denied(`Subscription to "chat.live.ABCDEF.s1" using queue "q"`))
		time.Sleep(time.Hour) //nolint:forbidigo // the bubble's clock
		if err := d.Err(); err == nil || !strings.Contains(err.Error(), "subscribe on chat.live.>") {
			t.Errorf("an hour later: %v", err)
		}
		d.Forget()
		if err := d.Err(); err != nil {
			t.Errorf("with the next connection: %v", err)
		}
	})
}

func TestManyKindsOfDenialsAreOne(t *testing.T) {
	var logs strings.Builder
	d := bus.NewDenials(t, slog.New(slog.NewTextHandler(&logs, nil)))
	for i := range 1000 {
		d.Note(denied(fmt.Sprintf(`Publish to "strange%d.x"`, i)))
	}
	if n := strings.Count(logs.String(), "\n"); n > 70 {
		t.Errorf("%d lines", n)
	}
}

func TestPrefixesAreSubjects(t *testing.T) {
	for key, values := range map[string][]string{"NATS_API_PREFIX": {"axpchat.>", "a b", ".a"}, "NATS_INBOX_PREFIX": {"_INBOX.*", "a\tb"}} {
		for _, v := range values {
			var cfg bus.Config
			err := config.Load(&cfg, config.Map(map[string]string{key: v}))
			mistakes, ok := errors.AsType[config.Errors](err)
			if !ok || !slices.ContainsFunc(mistakes, func(m config.Mistake) bool { return m.Key == key }) {
				t.Errorf("%s=%q: %v", key, v, err)
			}
		}
	}
}
