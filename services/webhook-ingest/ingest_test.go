package ingest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/normalise/sampletest"
)

// message is a callback for the tests' dialog, with fields on top.
func message(dialogID, fields string) string {
	return fmt.Sprintf(`{"eventType":"MESSAGES","accountId":%q,"messageId":"m1","providerDialogId":%q,"senderParticipantType":"AGENT","body":{"elementText":{"text":"words that nobody logs"}}%s}`,
		account, dialogID, fields)
}

func (s *service) ours() string { return s.keys.MintDialogID(account, session, chat) }

// accountOf finds the sample's own account.
func accountOf(t testing.TB, body []byte) string {
	t.Helper()
	var v struct{ AccountID string }
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatal(err)
	}
	return v.AccountID
}

func TestEverySampleArrivesComplete(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_ROUTE_WAIT": "50ms"})
	proof := s.ours()[len(keyring.PublicDialogID(s.ours()))+1:]
	for _, sample := range sampletest.Load(t) {
		// The samples are of other accounts and dialogs: they get ours.
		body := bytes.ReplaceAll(sample.Body, []byte(accountOf(t, sample.Body)), []byte(account))
		var fields struct{ ProviderDialogID string }
		if err := json.Unmarshal(body, &fields); err != nil {
			t.Fatal(err)
		}
		body = bytes.ReplaceAll(body, []byte(fields.ProviderDialogID), []byte(s.ours()))
		before := len(s.events())
		s.accepted(string(body))
		s.accepted(string(body)) // AXP sends it again
		events := s.events()
		if len(events) != before+1 {
			t.Errorf("%s: stored %d times", sample.Name, len(events)-before)
			continue
		}
		e := events[before]
		want := bytes.ReplaceAll(body, []byte(s.ours()), []byte(keyring.PublicDialogID(s.ours())))
		if missing := sampletest.Missing(t, want, e); len(missing) > 0 {
			t.Errorf("%s: not in the journal:\n%s", sample.Name, strings.Join(missing, "\n"))
		}
		if e.GetSessionId() != session || e.GetEngagementId() != chat || e.GetReceiveTime() == nil || e.GetCursor() != "" || e.GetSequence() != 0 {
			t.Errorf("%s: %v", sample.Name, e)
		}
		if strings.Contains(e.String(), proof) {
			t.Errorf("%s: the proof is in the journal", sample.Name)
		}
	}
	if n := s.stored(bus.UnroutedStream); n != 0 {
		t.Errorf("%d events set aside", n)
	}
	for _, word := range []string{s.keys.CallbackKey(account), proof, "scratched", "Ines", "Maren", "@example"} {
		if strings.Contains(s.logs.String(), word) {
			t.Errorf("the log holds %q", word)
		}
	}
}

func TestADialogThatIsNotOursIsFoundByTheIndex(t *testing.T) {
	s := start(t, nil)
	s.index(bus.IndexDialog(account, "axp-dialog"))
	s.accepted(message("shop-17", `,"dialogId":"axp-dialog"`))
	if e := s.events(); len(e) != 1 || e[0].GetMessageArrived().GetProviderDialogId() != "shop-17" || e[0].GetMessageArrived().GetEngagementId() != chat {
		t.Errorf("%v", e)
	}
}

func TestACallbackThatOvertakesTheOrchestrator(t *testing.T) {
	s := start(t, nil)
	asked := make(chan *nats.Msg, 64)
	sub, err := s.bus.NC.ChanSubscribe("$JS.API.DIRECT.GET.KV_"+bus.IndexBucket+".>", asked)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	var answered sync.WaitGroup
	answered.Go(func() { s.accepted(message("", `,"dialogId":"early"`)) })
	<-asked // in vain
	s.index(bus.IndexDialog(account, "early"))
	answered.Wait()
	if e := s.events(); len(e) != 1 {
		t.Errorf("%d events", len(e))
	}
}

func TestWhatIsNotTakenIsNotStored(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_MAX_BODY": "64KiB", "WEBHOOK_ACCOUNTS": account + ",OTHERS"})
	key := s.keys.CallbackKey(account)
	good := message(s.ours(), "")
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	_, _ = zip.Write([]byte(good))
	_ = zip.Close()
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		want                     int
	}{
		{"a wrong key", "POST", "/webhooks/axp/" + account + "/" + strings.Repeat("x", len(key)), good, nil, 404},
		{"a shorter key", "POST", "/webhooks/axp/" + account + "/" + key[:len(key)-1], good, nil, 404},
		{"another account's key", "POST", "/webhooks/axp/OTHERS/" + key, good, nil, 404},
		{"an account that is not served", "POST", "/webhooks/axp/NOBODY/" + s.keys.CallbackKey("NOBODY"), good, nil, 404},
		{"an account of another form", "POST", "/webhooks/axp/ABC12_/" + s.keys.CallbackKey("ABC12_"), good, nil, 404},
		{"no key", "POST", "/webhooks/axp/" + account, good, nil, 404},
		{"more path", "POST", s.path() + "/more", good, nil, 404},
		{"another path", "POST", "/", good, nil, 404},
		{"GET", "GET", s.path(), "", nil, 405},
		{"PUT", "PUT", s.path(), good, nil, 405},
		{"GET with a wrong key", "GET", "/webhooks/axp/" + account + "/x", "", nil, 405},
		{"gzip", "POST", s.path(), zipped.String(), []string{"Content-Encoding", "gzip"}, 415},
		{"too large", "POST", s.path(), message(s.ours(), `,"x":"`+strings.Repeat("x", 64<<10)+`"`), nil, 413},
		{"empty", "POST", s.path(), "", nil, 400},
		{"cut off", "POST", s.path(), good[:len(good)-1], nil, 400},
		{"a bomb", "POST", s.path(), strings.Repeat(`[`, 60000), nil, 400},
	} {
		a := s.do(s.request(tt.method, tt.path, tt.body, tt.header...))
		if a.status != tt.want || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, want %d", tt.name, a.status, a.header.Get("Content-Type"), tt.want)
		}
		var p struct {
			Status int
			Title  string
		}
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || p.Status != tt.want || p.Title == "" {
			t.Errorf("%s: problem %s", tt.name, a.body)
		}
		if strings.Contains(a.body, key) || strings.Contains(s.logs.String(), key) {
			t.Errorf("%s: the key is shown", tt.name)
		}
		if (a.header.Get("Allow") == "POST") != (tt.want == 405) {
			t.Errorf("%s: Allow %q", tt.name, a.header.Get("Allow"))
		}
	}
	s.nothingStored()
	s.accepted(good)
}

func TestABodyOfUnknownLengthIsLimitedToo(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_MAX_BODY": "1KiB"})
	r := s.request(http.MethodPost, s.path(), "")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(message(s.ours(), `,"x":"`+strings.Repeat("x", 2000)+`"`))), -1
	if a := s.do(r); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("answer %d", a.status)
	}
	s.nothingStored()
}

func TestAnEventThatNATSCannotCarry(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_MAX_BODY": "8MiB"})
	if a := s.post(message(s.ours(), `,"fallbackText":"`+strings.Repeat("x", 5<<20)+`"`)); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("answer %d", a.status)
	}
	s.nothingStored()
}

func TestTheOldKeyIsValidDuringARotation(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_SECRET": "the new secret of these tests", "WEBHOOK_SECRET_PREVIOUS": secret})
	old, err := keyring.New(keyring.Config{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	path := keyring.CallbackPath(account) + old.CallbackKey(account)
	if a := s.do(s.request(http.MethodPost, path, message(old.MintDialogID(account, session, chat), ""))); a.status != http.StatusOK {
		t.Errorf("answer %d", a.status)
	}
	if len(s.events()) != 1 {
		t.Error("the event is not stored")
	}
}

func TestUpdatesOfAMessageAreEventsOfTheirOwn(t *testing.T) {
	s := start(t, nil)
	for _, status := range []string{"SENT", "READ", "SENT", "READ"} {
		s.accepted(message(s.ours(), `,"status":"`+status+`"`))
	}
	events := s.events()
	if len(events) != 2 || events[0].GetMessageArrived().GetMessageId() != events[1].GetMessageArrived().GetMessageId() {
		t.Errorf("%v", events)
	}
}

func TestWhatNoClientMayBeToldIsSetAside(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_ROUTE_WAIT": "20ms"})
	strange := message("shop-1", `,"dialogId":"nobody's"`)
	whisper := message(s.ours(), `,"recipientParticipants":[{"participantType":"SUPERVISOR"}]`)
	for _, body := range []string{strange, strange, whisper} {
		s.accepted(body)
	}
	if n := s.stored(bus.EventsStream); n != 0 {
		t.Errorf("%d events in the journal", n)
	}
	if n := s.stored(bus.UnroutedStream); n != 2 {
		t.Fatalf("%d events set aside", n)
	}
	for i, want := range []struct{ cause, body string }{{"no-session", strange}, {"staff-only", whisper}} {
		rec := s.unrouted(uint64(i + 1))
		if rec.GetCause() != want.cause || string(rec.GetRaw()) != want.body || rec.GetAccount() != account || rec.GetReceiveTime() == nil {
			t.Errorf("%v", rec)
		}
	}
}

func TestWithoutNATSAXPIsAskedToComeAgain(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_STORE_TIMEOUT": "300ms", "WEBHOOK_ROUTE_WAIT": "100ms"})
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	s.nats.Shutdown()
	for name, body := range map[string]string{"routed by its proof": message(s.ours(), ""), "routed by the index": message("", `,"dialogId":"d"`)} {
		began := time.Now()
		a := s.post(body)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || time.Since(began) > 4*time.Second {
			t.Errorf("%s: %d after %s, Retry-After %q", name, a.status, time.Since(began), a.header.Get("Retry-After"))
		}
	}
	if err := s.Ready(t.Context()); err == nil {
		t.Error("ready without NATS")
	}
}

func TestASlowBodyIsCutOff(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_READ_TIMEOUT": "50ms"})
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", s.path()); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(data), "HTTP/1.1 408 ") {
		t.Errorf("%v: %.60s", err, data)
	}
	s.nothingStored()
}

func TestTooManyCallsAtATime(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_MAX_CONCURRENT": "1"})
	// The first call may still be on its way to the only place when the second one
	// comes, which then wins it: that round says nothing.
	for range 50 {
		first, second := s.twoAtATime()
		if second.status != http.StatusServiceUnavailable {
			continue
		}
		if first.status != http.StatusOK {
			t.Errorf("the call that had the place: %d", first.status)
		}
		if second.header.Get("Retry-After") == "" {
			t.Errorf("%+v", second)
		}
		return
	}
	t.Error("the second of two calls was never refused")
}

// twoAtATime makes a call whose body stays incomplete until a second one has
// been answered.
func (s *service) twoAtATime() (first, second answer) {
	s.t.Helper()
	body, more := io.Pipe()
	r := s.request(http.MethodPost, s.path(), "")
	r.Body, r.ContentLength = body, -1
	answers := make(chan answer, 1)
	go func() { answers <- s.do(r) }()
	text := message(s.ours(), "")
	if _, err := io.WriteString(more, text[:10]); err != nil {
		s.t.Fatal(err)
	}
	s.awaitRequest()
	second = s.post(message(s.ours(), ""))
	_, _ = io.WriteString(more, text[10:]) // where the first was refused, nobody reads
	_ = more.Close()
	return <-answers, second
}

func TestADrainLetsCallsFinish(t *testing.T) {
	s := start(t, nil)
	body, more := io.Pipe()
	r := s.request(http.MethodPost, s.path(), "")
	r.Body, r.ContentLength = body, -1
	answers := make(chan answer, 1)
	go func() { answers <- s.do(r) }()
	text := message(s.ours(), "")
	if _, err := io.WriteString(more, text[:10]); err != nil {
		t.Fatal(err)
	}
	s.awaitRequest()
	drained := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		drained <- s.Drain(ctx)
	}()
	if _, err := io.WriteString(more, text[10:]); err != nil {
		t.Fatal(err)
	}
	_ = more.Close()
	if a := <-answers; a.status != http.StatusOK {
		t.Errorf("answer %d", a.status)
	}
	if err := <-drained; err != nil {
		t.Errorf("drain: %v", err)
	}
	if len(s.events()) != 1 {
		t.Error("the event is not stored")
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr()); err == nil {
		_ = conn.Close()
		t.Error("a connection is accepted after the drain")
	}
}

// awaitRequest waits until a request is under way, by the server's own metric.
func (s *service) awaitRequest() {
	s.t.Helper()
	for s.t.Context().Err() == nil {
		if strings.Contains(s.metrics(), `http_server_active_requests{http_request_method="POST"`) {
			return
		}
	}
}

func (s *service) metrics() string {
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(s.providers.Registry, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequestWithContext(s.t.Context(), http.MethodGet, "/metrics", nil))
	return rec.Body.String()
}

func TestMetrics(t *testing.T) {
	s := start(t, map[string]string{"WEBHOOK_ROUTE_WAIT": "20ms"})
	s.accepted(message(s.ours(), `,"eventDate":"2026-01-01T00:00:00Z"`))
	s.accepted(message(s.ours(), `,"eventDate":"2026-01-01T00:00:00Z"`))
	s.accepted(`{"eventType":"SOMETHING_NEW"}`)
	s.post("nonsense")
	got := s.metrics()
	for _, want := range []string{
		`axpchat_webhook_events_total{.*result="stored",type="MESSAGES"} 1`,
		`axpchat_webhook_events_total{.*result="duplicate",type="MESSAGES"} 1`,
		`axpchat_webhook_events_total{.*result="unrouted",type="UNKNOWN"} 1`,
		`axpchat_webhook_events_total{.*result="malformed",type="NONE"} 1`,
		`axpchat_webhook_ack_duration_seconds_count{.*result="stored"} 1`,
		`axpchat_webhook_event_lag_seconds_count{.*type="MESSAGES"} 1`,
		`axpchat_webhook_unrouted 1`,
	} {
		if !matches(got, want) {
			t.Errorf("no %s in:\n%s", want, axpchatLines(got))
		}
	}
}

// matches looks for a line that begins with what stands before ".*" and ends
// with what stands after it.
func matches(text, pattern string) bool {
	start, end, _ := strings.Cut(pattern, ".*")
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, start) && strings.HasSuffix(line, end) {
			return true
		}
	}
	return false
}

func axpchatLines(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "axpchat_") && !strings.Contains(line, "_bucket") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func TestASignatureIsCheckedWhereItIsAskedFor(t *testing.T) {
	const key = "the secret of the signature"
	s := start(t, map[string]string{"WEBHOOK_SIGNATURE_HEADER": "X-Signature", "WEBHOOK_SIGNATURE_SECRET": key})
	body := message(s.ours(), "")
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(body))
	sum := mac.Sum(nil)
	for name, header := range map[string][]string{
		"none":             nil,
		"empty":            {"X-Signature", ""},
		"another one":      {"X-Signature", hex.EncodeToString(make([]byte, 32))},
		"of another body":  {"X-Signature", hex.EncodeToString(hmac.New(sha256.New, []byte(key)).Sum(nil))},
		"no hex or base64": {"X-Signature", "??"},
	} {
		if a := s.post(body, header...); a.status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	s.nothingStored()
	for _, value := range []string{
		hex.EncodeToString(sum), strings.ToUpper(hex.EncodeToString(sum)), "sha256=" + hex.EncodeToString(sum),
		base64.StdEncoding.EncodeToString(sum), base64.RawURLEncoding.EncodeToString(sum),
	} {
		if a := s.post(body, "X-Signature", value); a.status != http.StatusOK {
			t.Errorf("%s: %d", value, a.status)
		}
	}
}
