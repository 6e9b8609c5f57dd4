package tenants

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/suitetest"
)

func alps() *tenant {
	return &tenant{account: "ALPINE", origin: "https://alps.example.com", idle: 7 * time.Minute}
}

func fjords() *tenant {
	return &tenant{account: "FJORDS", origin: "https://fjords.example.com", idle: 9 * time.Minute}
}

// TestTwoTenantsHaveNothingOfEachOther tells whole chats of both at once, with
// customers of the same names, and then looks at everything that they left.
func TestTwoTenantsHaveNothingOfEachOther(t *testing.T) {
	t.Parallel()
	a, b := alps(), fjords()
	d := deploy(t, []*tenant{a, b}, a, b)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	d.await("both webhook subscriptions", func() bool { return a.subscriptions(t) == 1 && b.subscriptions(t) == 1 })

	const customers, messages = 4, 5
	var chats []*chat
	for i := range customers {
		for _, te := range []*tenant{a, b} {
			c, err := logIn(ctx, t, d, te, fmt.Sprintf("customer-%d", i))
			if err != nil {
				t.Fatal(err)
			}
			if got := c.session.GetIdleRules().GetIdleTimeout().AsDuration(); got != te.idle || c.session.GetAccount() != te.account {
				t.Errorf("a session of %s: account %s, idle timeout %v", te.account, c.session.GetAccount(), got)
			}
			chats = append(chats, c)
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, c := range chats {
		group.Go(func() error { return c.tell(groupCtx, messages) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, te := range []*tenant{a, b} {
		seen, err := te.desk.Chats(ctx)
		if err != nil || len(seen) != customers {
			t.Fatalf("%s has %d chats, %v", te.account, len(seen), err)
		}
		for _, c := range seen {
			if !strings.HasSuffix(c.Customer.DisplayName, te.account) || slices.ContainsFunc(c.CustomerTexts(), func(s string) bool { return !strings.Contains(s, te.account) }) {
				t.Errorf("%s has %q of %s", te.account, c.CustomerTexts(), c.Customer.DisplayName)
			}
		}
	}
	notFound(ctx, t, d, chats[0], chats[1])
	subjectsAndKeys(ctx, t, d, chats)
	strangersMakeNoLabels(ctx, t, d, a, b)
}

// notFound has a customer of another tenant, of the same name, ask for a session
// in every way there is.
func notFound(ctx context.Context, t *testing.T, d *deployment, victim, thief *chat) {
	session, engagement := victim.session.GetSessionId(), victim.engagement
	base := d.http + "/v1/sessions/" + session
	for _, call := range []struct{ method, url, body string }{
		{"GET", base, ""},
		{"POST", base + ":updateParameters", `{"sessionParameters":{"a":"b"}}`},
		{"POST", base + ":keepAlive", `{}`},
		{"POST", base + ":appendIdentifiers", `{"customerIdentifiers":{"emailAddresses":{"values":["x@example.com"]}}}`},
		{"POST", base + ":createTicket", `{"use":"TICKET_USE_EVENTS"}`},
		{"DELETE", base, ""},
		{"POST", base + "/engagements", `{}`},
		{"GET", base + "/engagements", ""},
		{"GET", base + "/engagements/" + engagement, ""},
		{"POST", base + "/engagements/" + engagement + ":end", `{}`},
		{"POST", base + "/engagements/" + engagement + "/messages", `{"clientMessageId":"x","text":"x"}`},
		{"GET", base + "/engagements/" + engagement + "/messages", ""},
		{"GET", base + "/events:poll?wait=0s", ""},
		{"GET", base + "/events", ""},
		{"GET", base + "/events#sse", ""},
		{"POST", d.http + "/v1/sessions/" + thief.session.GetSessionId() + "/engagements/" + engagement + ":join", `{"ownerSessionId":"` + session + `"}`},
	} {
		req, err := http.NewRequestWithContext(ctx, call.method, call.url, strings.NewReader(call.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+thief.token)
		if strings.HasSuffix(call.url, "#sse") {
			req.Header.Set("Accept", "text/event-stream")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusNotFound || !bytes.Contains(body, []byte("SESSION_NOT_FOUND")) {
			t.Errorf("%s %s: %d %s", call.method, call.url, resp.StatusCode, body)
		}
	}

	conn, _, err := websocket.Dial(ctx, base+":connect", &websocket.DialOptions{
		Subprotocols: []string{"axpchat.v1+json"}, HTTPHeader: http.Header{"Authorization": {"Bearer " + thief.token}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	if err := conn.Write(ctx, websocket.MessageText, []byte(`{"hello":{}}`)); err != nil {
		t.Fatal(err)
	}
	if _, frame, err := conn.Read(ctx); err != nil || !bytes.Contains(frame, []byte("CLOSE_CODE_SESSION_NOT_FOUND")) {
		t.Errorf("WebSocket: %s %v", frame, err)
	}

	auth := thief.auth(ctx)
	for name, call := range map[string]func() error{
		"GetSession": func() error {
			_, err := d.api.GetSession(auth, &axpchatv1.GetSessionRequest{SessionId: session})
			return err
		},
		"PollEvents": func() error {
			_, err := d.api.PollEvents(auth, &axpchatv1.PollEventsRequest{SessionId: session})
			return err
		},
		"WatchEvents": func() error {
			stream, err := d.api.WatchEvents(auth, &axpchatv1.WatchEventsRequest{SessionId: session})
			if err != nil {
				return err
			}
			for {
				if f, err := stream.Recv(); err != nil {
					return err
				} else if f.GetFrame().GetEvent() != nil || f.GetFrame().GetWelcome() != nil {
					return fmt.Errorf("%w: %v", errCrossed, f)
				}
			}
		},
		"Connect": func() error {
			stream, err := d.api.Connect(auth)
			if err != nil {
				return err
			}
			hello := &axpchatv1.Hello{SessionId: session}
			if err := stream.Send(&axpchatv1.ConnectRequest{Payload: &axpchatv1.ConnectRequest_Hello{Hello: hello}}); err != nil {
				return err
			}
			for {
				if f, err := stream.Recv(); err != nil {
					return err
				} else if f.GetEvent() != nil || f.GetWelcome() != nil {
					return fmt.Errorf("%w: %v", errCrossed, f)
				}
			}
		},
	} {
		if err := call(); reasonOf(err) != "SESSION_NOT_FOUND" || status.Code(err) != codes.NotFound {
			t.Errorf("gRPC %s: %v", name, err)
		}
	}
}

func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// subjectsAndKeys reads the names of all that NATS keeps: whatever names an
// account names that of the session beside it, and nobody else's.
func subjectsAndKeys(ctx context.Context, t *testing.T, d *deployment, chats []*chat) {
	owner := map[string]string{}
	for _, c := range chats {
		owner[c.session.GetSessionId()], owner[c.engagement] = c.te.account, c.te.account
	}
	nc, err := nats.Connect(d.nats)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	checked := map[string]int{}
	streams := js.ListStreams(ctx)
	for info := range streams.Info() {
		stream, err := js.Stream(ctx, info.Config.Name)
		if err != nil {
			t.Fatal(err)
		}
		with, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
		if err != nil {
			t.Fatal(err)
		}
		for subject := range with.State.Subjects {
			parts := strings.Split(subject, ".")
			for _, part := range parts {
				account, known := owner[part]
				if !known {
					continue
				}
				checked[info.Config.Name]++
				if !slices.Contains(parts, account) {
					t.Errorf("%s: %s belongs to %s", info.Config.Name, subject, account)
				}
			}
			if slices.Contains(parts, "ALPINE") && slices.Contains(parts, "FJORDS") {
				t.Errorf("%s: %s is of both", info.Config.Name, subject)
			}
		}
	}
	if err := streams.Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"EVENTS", "KV_SESSIONS", "KV_ENGAGEMENTS"} {
		if checked[name] < len(chats) {
			t.Errorf("%s: only %d names were looked at", name, checked[name])
		}
	}
}

// strangersMakeNoLabels knocks with accounts that nobody serves: by tokens that
// are well signed, and by callbacks.
func strangersMakeNoLabels(ctx context.Context, t *testing.T, d *deployment, a, b *tenant) {
	stranger := &tenant{account: "NOBODY"}
	p, err := (&suitetest.Ports{}).Addr()
	if err != nil {
		t.Fatal(err)
	}
	stranger.axp = "http://" + p
	stranger.env = map[string]string{
		"SANDBOX_ADDR": p, "SANDBOX_ACCOUNT_ID": stranger.account,
		"AUTH_HS256_SECRET": suitetest.TokenSecret, "AUTH_ISSUER": "axp-sandbox", "AUTH_AUDIENCE": "axp-chat-connector",
	}
	stranger.run(t)
	if _, err := logIn(ctx, t, d, stranger, "customer-0"); reasonOf(err) != "ACCOUNT_UNKNOWN" {
		t.Errorf("a token of an account that is not served: %v", err)
	}
	for _, account := range []string{stranger.account, "ALPINE", "FJORDS"} {
		resp, err := http.Post(d.webhook+"/webhooks/axp/"+account+"/wrong-key", "application/json", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("a callback with a wrong key for %s: %d", account, resp.StatusCode)
		}
	}
	if got := d.labels(""); !slices.Equal(got, []string{a.account, b.account}) {
		t.Errorf("metrics name the accounts %v", got)
	}
}
