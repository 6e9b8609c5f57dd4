package ingest_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/keyring"
)

// setAside checks what the stream UNROUTED holds, oldest first: cause and body.
func (s *service) setAside(want ...[2]string) {
	s.t.Helper()
	if n := s.stored(bus.UnroutedStream); n != uint64(len(want)) {
		s.t.Fatalf("%d callbacks set aside, want %d", n, len(want))
	}
	for i, w := range want {
		rec := s.unrouted(uint64(i + 1))
		if rec.GetCause() != w[0] || string(rec.GetRaw()) != w[1] || rec.GetAccount() != account || rec.GetReceiveTime() == nil {
			s.t.Errorf("callback %d: cause %q of %q, %.80s; want %q, %.80s", i+1, rec.GetCause(), rec.GetAccount(), rec.GetRaw(), w[0], w[1])
		}
	}
}

func TestJSONThatHoldsNoEventIsKept(t *testing.T) {
	s := start(t, nil)
	list := "[" + message(s.ours(), "") + "]"
	deep := message(s.ours(), `,"x":`+strings.Repeat(`[`, 100)+strings.Repeat(`]`, 100))
	for _, body := range []string{list, "null", deep, deep} {
		s.accepted(body)
	}
	s.setAside([2]string{"no-event", list}, [2]string{"no-event", "null"}, [2]string{"no-event", deep})
	if n := s.stored(bus.EventsStream); n != 0 {
		t.Errorf("%d events in the journal", n)
	}
}

func TestWhatAnIntruderMaySendIsRefusedAndKept(t *testing.T) {
	s := start(t, nil)
	s.index(bus.IndexDialog(account, "d"))
	forged := s.keys.MintDialogID("OTHERS", session, chat)
	bodies := [][2]string{
		{"forged", message(forged, `,"dialogId":"d"`)},
		{"forged", `{"eventType":"NEW","providerDialogId":"` + forged + `"}`},
		{"wrong-account", strings.Replace(message(s.ours(), ""), account, "OTHERS", 1)},
	}
	for _, b := range bodies {
		if a := s.post(b[1]); a.status != http.StatusForbidden {
			t.Errorf("%s: answer %d", b[0], a.status)
		}
	}
	s.setAside(bodies...)
	if n := s.stored(bus.EventsStream); n != 0 {
		t.Errorf("%d events in the journal", n)
	}
	if got := s.metrics(); !matches(got, `axpchat_webhook_events_total{.*result="forged",type="MESSAGES"} 1`) {
		t.Errorf("forged callbacks are not counted:\n%s", axpchatLines(got))
	}
}

func TestTheCaseOfAnAccountDoesNotMatter(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_ACCOUNTS": strings.ToLower(account)})
	s.accepted(strings.Replace(message(s.ours(), ""), account, strings.ToLower(account), 1))
	if e := s.events(); len(e) != 1 {
		t.Errorf("%d events", len(e))
	}
}

func TestEventsOfAnotherChannelProviderAreSetAside(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_CHANNEL_PROVIDERS": "web,app"})
	other := message(s.ours(), `,"channelProviderId":"kiosk"`)
	s.accepted(other)
	s.setAside([2]string{"other-provider", other})
	for i, provider := range []string{`"web"`, `"app"`, `null`} {
		s.accepted(message(s.ours(), fmt.Sprintf(`,"status":"S%d","channelProviderId":%s`, i, provider)))
	}
	if e := s.events(); len(e) != 3 {
		t.Errorf("%d events", len(e))
	}
}

func TestStrangersWithOneIDAreSetAsideEach(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_ROUTE_WAIT": "0s"})
	one := `{"eventType":"MESSAGES","providerMessageId":"1","lastUpdatedAt":"2026-01-01T00:00:00Z","fallbackText":"a"}`
	other := strings.Replace(one, `"a"`, `"b"`, 1)
	for _, body := range []string{one, other, one} {
		s.accepted(body)
	}
	s.setAside([2]string{"no-session", one}, [2]string{"no-session", other})
}

func TestWithoutAWaitTheIndexIsAskedOnce(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_ROUTE_WAIT": "0s"})
	s.index(bus.IndexDialog(account, "known"))
	s.accepted(message("", `,"dialogId":"known"`))
	if e := s.events(); len(e) != 1 {
		t.Errorf("%d events", len(e))
	}
}

func TestTwoReplicasStoreOneEvent(t *testing.T) {
	server := bustest.Server(t)
	b := bustest.Connect(t, server, bustest.Config())
	replicas := []*service{startOn(t, server, b, nil), startOn(t, server, bustest.Connect(t, server, bustest.Config()), nil)}
	const events = 20
	var calls sync.WaitGroup
	for i := range events {
		for _, s := range replicas {
			body := message(s.ours(), fmt.Sprintf(`,"status":"S%d"`, i))
			calls.Go(func() { s.accepted(body) })
		}
	}
	calls.Wait()
	if n := len(replicas[0].events()); n != events {
		t.Errorf("%d events, want %d", n, events)
	}
}

func TestAXPHangsUpAndTheEventIsStored(t *testing.T) {
	s := start(t, nil)
	asked := make(chan *nats.Msg, 64)
	sub, err := s.bus.NC.ChanSubscribe("$JS.API.DIRECT.GET.KV_"+bus.IndexBucket+".>", asked)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	live := make(chan *nats.Msg, 1)
	liveSub, err := s.bus.SubscribeLive(account, session, live)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = liveSub.Unsubscribe() }()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	body := message("", `,"dialogId":"slow"`)
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", s.path(), len(body), body); err != nil {
		t.Fatal(err)
	}
	<-asked // the callback is held
	_ = conn.Close()
	s.index(bus.IndexDialog(account, "slow"))
	select {
	case <-live:
	case <-time.After(10 * time.Second):
		t.Fatal("the event is not stored")
	}
}

// TestStoringIsTriedAgainUnderTheSameID lets the store be away at first, as it is
// while its leader changes.
func TestStoringIsTriedAgainUnderTheSameID(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_STORE_TIMEOUT": "2500ms"})
	if err := s.bus.JS.DeleteStream(t.Context(), bus.EventsStream); err != nil {
		t.Fatal(err)
	}
	tries := make(chan *nats.Msg, 16)
	sub, err := s.bus.NC.ChanSubscribe(bus.EventSubject(account, session), tries)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	var answered sync.WaitGroup
	answered.Go(func() { s.accepted(message(s.ours(), "")) })
	first := <-tries // nobody stores it
	if err := s.bus.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := <-tries
	answered.Wait()
	if a, b := first.Header.Get(nats.MsgIdHdr), second.Header.Get(nats.MsgIdHdr); a == "" || a != b {
		t.Errorf("ids %q and %q", a, b)
	}
	if e := s.events(); len(e) != 1 {
		t.Errorf("%d events", len(e))
	}
}

func TestWhatCannotBeSetAsideIsAskedForAgain(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_STORE_TIMEOUT": "200ms", "WEBHOOK_ROUTE_WAIT": "0s"})
	if err := s.bus.JS.DeleteStream(t.Context(), bus.UnroutedStream); err != nil {
		t.Fatal(err)
	}
	stray := message("", `,"dialogId":"nobody's"`)
	forged := message(s.keys.MintDialogID("OTHERS", session, chat), "")
	for name, body := range map[string]string{"a stray": stray, "no event": "[]", "a forgery": forged} {
		if a := s.post(body); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d, Retry-After %q", name, a.status, a.header.Get("Retry-After"))
		}
	}
	if got := s.metrics(); strings.Contains(got, "\naxpchat_webhook_unrouted ") {
		t.Error("a number is shown that nobody knows")
	}
	if err := s.bus.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.accepted(stray)
	s.setAside([2]string{"no-session", stray})
}

// TestACopyThatComesLateIsKnown sends a copy again when the store no longer knows
// its id.
func TestACopyThatComesLateIsKnown(t *testing.T) {
	cfg := bustest.Config()
	cfg.DuplicateWindow = 100 * time.Millisecond
	server := bustest.Server(t)
	s := startOn(t, server, bustest.Connect(t, server, cfg), nil)
	const dated = `,"eventDate":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z"`
	first := message(s.ours(), dated)
	s.accepted(first)
	for i := range 300 { // more than one page of the journal
		s.accepted(message(s.ours(), fmt.Sprintf(`,"status":"S%d"`, i)))
	}
	s.awaitForgotten()
	s.accepted(first)
	if n := len(s.events()); n != 301 {
		t.Errorf("%d events after the copy, want 301", n)
	}
	s.accepted(message(s.ours(), dated+`,"status":"READ"`))
	if n := len(s.events()); n != 302 {
		t.Errorf("%d events after an update, want 302", n)
	}
	if got := s.metrics(); !matches(got, `axpchat_webhook_events_total{.*result="duplicate",type="MESSAGES"} 1`) {
		t.Errorf("the copy is not counted:\n%s", axpchatLines(got))
	}
}

// TestACopyWithADateOfItsOwnIsKnown: AXP may date each try anew, and tell of no change.
func TestACopyWithADateOfItsOwnIsKnown(t *testing.T) {
	cfg := bustest.Config()
	cfg.DuplicateWindow = 100 * time.Millisecond
	server := bustest.Server(t)
	s := startOn(t, server, bustest.Connect(t, server, cfg), nil)
	sent := func() {
		now := time.Now().UTC().Format(time.RFC3339Nano)
		s.accepted(message(s.ours(), `,"receivedAt":"2026-01-01T00:00:00Z","eventDate":"`+now+`"`))
	}
	sent()
	s.awaitForgotten()
	sent()
	if n := len(s.events()); n != 1 {
		t.Errorf("%d events after the copy, want 1", n)
	}
}

// awaitForgotten waits until the store does not know an id any more that it was
// given now.
func (s *service) awaitForgotten() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	for known := false; ; known = true {
		ack, err := s.bus.PublishEvent(ctx, &busv1.EventRecord{Account: account, Event: &axpchatv1.Event{EventId: "probe", SessionId: "other"}})
		if err != nil {
			s.t.Fatal(err)
		}
		if known && !ack.Duplicate {
			return
		}
	}
}

func TestAWrongKeyIsAnsweredBeforeTheBody(t *testing.T) {
	s := start(t, nil)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "POST %sx HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", keyring.CallbackPath(account)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 12)
	if _, err := conn.Read(answer); err != nil || string(answer) != "HTTP/1.1 404" {
		t.Errorf("%v: %s", err, answer)
	}
}

// TestNothingOfABodyIsLogged posts bodies that come to every end that there is.
func TestNothingOfABodyIsLogged(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_ROUTE_WAIT": "0s", "WEBHOOK_STORE_TIMEOUT": "150ms", "WEBHOOK_MAX_BODY": "8KiB"})
	const private = "Dulcinea"
	words := fmt.Sprintf(`,"fallbackText":%q,"senderParticipantName":%q`, private, private)
	forged := message(s.keys.MintDialogID("OTHERS", private, chat), words)
	bodies := []string{
		message(s.ours(), words), message(private, words), forged, `{"eventType":"` + private + `"}`, `["` + private + `"]`, private,
		`{"` + private + `":`, `{"a":"` + private + "\x01" + `"}`, strings.Replace(message(s.ours(), words), account, private, 1),
		message(s.ours(), words+`,"recipientParticipants":[{"participantType":"AGENT","displayName":"`+private+`"}]`),
		message(s.ours(), `,"x":"`+strings.Repeat(private, 2000)+`"`),
	}
	for _, body := range bodies {
		s.post(body)
	}
	s.nats.Shutdown()
	var calls sync.WaitGroup
	for _, body := range bodies {
		calls.Go(func() { s.post(body) })
	}
	calls.Wait()
	for _, word := range []string{private, session, chat, s.keys.CallbackKey(account)} {
		if strings.Contains(s.logs.String(), word) {
			t.Errorf("the log holds %q", word)
		}
	}
}
