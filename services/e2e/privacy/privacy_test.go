package privacy

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/axpchat/connector/services/internal/suitetest"
)

// patience is how long something may take on a busy machine.
const patience = 60 * time.Second

// stage is a suite of processes whose every word is kept.
type stage struct {
	*suitetest.Suite
	marks     *marks
	axp       *talkative
	collector *collector
	hs256     string
	token     string // the customer's
	answers   answers
}

// open starts the suite with marked secrets, logs at debug, traces and metrics
// exported; settings are added to its environment.
func open(t *testing.T, settings ...string) *stage {
	t.Helper()
	s := &stage{marks: &marks{}, collector: startCollector(t)}
	var ports suitetest.Ports
	sandbox, err := ports.Addr()
	if err != nil {
		t.Fatal(err)
	}
	s.axp = startTalkative(t, "http://"+sandbox, s.marks)
	client, app := s.marks.of("AXPClientSecret"), s.marks.of("AppKey")
	s.hs256 = s.marks.of("TokenSecretWithAtLeast32Characters")
	s.Suite = suitetest.StartProcesses(t, append([]string{
		"SANDBOX_ADDR", sandbox, "AXP_BASE_URL", s.axp.URL,
		"AXP_CLIENT_SECRET", client, "SANDBOX_CLIENT_SECRET", client, "AXP_APP_KEY", app, "SANDBOX_APP_KEY", app,
		"AUTH_HS256_SECRET", s.hs256, "WEBHOOK_SECRET", s.marks.of("WebhookSecretWithAtLeast32Characters"),
		"WEBHOOK_ROUTE_WAIT", "100ms", "IDLE_TIMEOUT", "6s", "IDLE_GRACE_PERIOD", "1s", "OUTBOX_RETRY_MAX", "1s",
		"OTEL_EXPORTER_OTLP_ENDPOINT", "http://" + s.collector.addr, "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc",
		"OTEL_BSP_SCHEDULE_DELAY", "100", "OTEL_METRIC_EXPORT_INTERVAL", "500",
	}, settings...)...)
	s.answers.marks = s.marks
	s.token = s.marks.add("the token", s.sign(t, s.hs256, time.Hour, jwt.MapClaims{
		"sub": s.marks.of("Subject"), "name": s.marks.of("TokenName"), "account": suitetest.Account, "verified": true,
		"identifiers": map[string][]string{"emailAddresses": {s.marks.of("Mail") + "@example.net"}, "phoneNumbers": {s.marks.add("the phone number", "+4915557319462")}},
	}))
	return s
}

// sign makes a token; its signature alone would do for a forger, so it is marked.
func (s *stage) sign(t *testing.T, secret string, life time.Duration, claims jwt.MapClaims) string {
	t.Helper()
	claims["iss"], claims["aud"], claims["exp"] = "axp-sandbox", "axp-chat-connector", time.Now().Add(life).Unix()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	s.marks.add("a signature "+parts[2][:4], parts[2])
	return token
}

// written is everything that the production services wrote for operators.
func (s *stage) written(ctx context.Context, t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{
		"logs of gateway": s.Gateway.Log(), "logs of session-orchestrator": s.Orchestrator.Log(),
		"logs of webhook-ingest": s.Ingest.Log(), "logs of NATS": s.NATS.Log(),
		"answers to others": s.answers.text(),
	}
	out["what was exported"], _ = s.collector.all()
	for _, admin := range s.Admins {
		for _, path := range []string{"/metrics", "/version", "/healthz/ready", "/healthz/live"} {
			_, out["admin port "+path+" of "+admin] = suitetest.Page(ctx, t, admin+path)
		}
	}
	return out
}

// TestNothingPersonalIsWrittenForOperators tells the whole story, with all that
// goes wrong in it, and searches logs, spans, metrics and what strangers were
// answered.
//
// What identifies a customer and is searched for: the token's sub, name and
// identifiers, texts of both sides, parameters, custom data, names of files, and
// all secrets. Ids that the connector or AXP mint (session, engagement, message)
// are not: they lead to a person only through the records, which are erased; an
// operator needs them to find a fault.
func TestNothingPersonalIsWrittenForOperators(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs five processes")
	}
	s := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	s.tell(ctx, t)
	if t.Failed() {
		return
	}
	spans := s.settle(ctx, t)
	for _, name := range []string{"POST /webhooks/axp/{account}/{key}", "axpchat.v1.ChatService/SendMessage", "axpchat.orchestrator.v1.OrchestratorService/SendMessage"} {
		if spans[name] == 0 {
			t.Errorf("no span %q was exported (have %v): the search would prove nothing", name, spans)
		}
	}
	written := s.written(ctx, t)
	for where, text := range written {
		if len(text) == 0 && where != "logs of NATS" {
			t.Errorf("%s: nothing there: the search would prove nothing", where)
		}
		for _, leak := range s.marks.find(text) {
			t.Errorf("%s: %s", where, leak)
		}
	}
	for _, service := range []string{"gateway", "session-orchestrator", "webhook-ingest"} {
		if !strings.Contains(written["logs of "+service], `"level":"DEBUG"`) {
			t.Errorf("%s did not log at debug: the search would prove nothing", service)
		}
	}
	s.blind(t, written)
}

// planted goes where the connector does write down what it is told, as it is: the
// request id in logs, and the state of a trace. Whoever chooses them must put
// nothing personal into them.
const planted = "Zq7PlantedXw4"

// blind checks that the search finds what is there: what was planted.
func (s *stage) blind(t *testing.T, written map[string]string) {
	t.Helper()
	seeing := &marks{}
	seeing.add("planted", planted)
	for _, where := range []string{"logs of gateway", "logs of session-orchestrator", "logs of webhook-ingest", "what was exported"} {
		if len(seeing.find(written[where])) == 0 {
			t.Errorf("%s: what was planted there was not found: the search is blind", where)
		}
	}
}

// settle waits until the exporters have sent what they had: nothing new has come
// for a while.
func (s *stage) settle(ctx context.Context, t *testing.T) map[string]int {
	t.Helper()
	last, since := -1, time.Now()
	err := suitetest.Await(ctx, "the last span", func(context.Context) (bool, error) {
		_, spans := s.collector.all()
		n := 0
		for _, of := range spans {
			n += of
		}
		if n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 2*time.Second, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, spans := s.collector.all()
	return spans
}
