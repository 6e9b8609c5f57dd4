package natsrights

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/tlsx/tlsxtest"
	"github.com/axpchat/connector/services/internal/suitetest"
)

// nobodys are rights that nobody has.
func nobodys() []right {
	var out []right
	for _, subject := range []string{
		"$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.DELETE.EVENTS", "$JS.API.STREAM.SNAPSHOT.EVENTS", "$JS.API.STREAM.RESTORE.EVENTS",
		"$JS.API.STREAM.MSG.GET.EVENTS", "$JS.API.STREAM.MSG.DELETE.KV_SESSIONS", "$JS.API.STREAM.PURGE.UNROUTED", "axpchat.api.STREAM.MSG.GET.ASIDE", "$JS.API.STREAM.PEER.REMOVE.EVENTS",
		"$JS.API.STREAM.LEADER.STEPDOWN.EVENTS", "$JS.API.CONSUMER.NAMES.EVENTS", "$JS.API.CONSUMER.CREATE.OUTBOX", "$JS.API.CONSUMER.CREATE.OUTBOX.thief",
		"$JS.API.CONSUMER.DURABLE.CREATE.OUTBOX.thief", "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.projector", "$JS.API.CONSUMER.DELETE.OUTBOX.outbox-4-0",
		"$JS.API.CONSUMER.PAUSE.EVENTS.projector", "$JS.API.META.LEADER.STEPDOWN", "$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.x.RELOAD", "$SYS.REQ.ACCOUNT.AXPCHAT.CONNZ",
		"axpchat.api.STREAM.PURGE.EVENTS", "axpchat.api.STREAM.MSG.GET.EVENTS", "axpchat.api.STREAM.DELETE.EVENTS", "axpchat.api.STREAM.INFO.OUTBOX",
		"axpchat.api.CONSUMER.CREATE.OUTBOX.thief", "axpchat.api.CONSUMER.MSG.NEXT.OUTBOX.outbox-4-0", "axpchat.api.CONSUMER.CREATE.KV_SESSIONS.thief",
		"axpchat.api.CONSUMER.CREATE.EVENTS.projector", "axpchat.api.CONSUMER.CREATE.EVENTS.projector.chat.event.A.b", "axpchat.api.CONSUMER.DELETE.EVENTS.projector",
		"axpchat.api.CONSUMER.MSG.NEXT.EVENTS.projector", "axpchat.api.$KV.SESSIONS.A.b", "axpchat.api.$KV.ENGAGEMENTS.A.b.c", "axpchat.api.$KV.INDEX.x",
		"chat.live.A.b", "timer.due.idle.A.b", "_INBOX_gateway.x", "_INBOX_session-orchestrator.x", "_INBOX.x", "_R_.x.y",
	} {
		out = append(out, right{subject: subject})
	}
	for _, subject := range []string{
		">", "*", "*.>", "chat.>", "chat.event.>", "chat.event.*.*", "chat.outbox.>", "chat.live.>", "chat.unrouted.>", "chat.aside.>", "timer.>", "$KV.>", "$KV.INDEX.>", "$KV.TICKETS.>", "$KV.SESSIONS.>", "$KV.SESSIONS.*.*", "chat.changed.>",
		"_INBOX.>", "_INBOX_*.>", "_R_.>", "$JS.>", "$JS.API.>", "$JS.ACK.>", "$JS.EVENT.>", "$SYS.>", "axpchat.>",
	} {
		out = append(out, right{subscribe: true, subject: subject})
	}
	return out
}

// TestAStolenCredentialOpensNothingElse tries, with the certificate of each service,
// the rights of all others and those that nobody has.
func TestAStolenCredentialOpensNothingElse(t *testing.T) {
	for name, start := range deployments() {
		t.Run(name, func(t *testing.T) {
			own, all := map[string][]right{}, nobodys()
			c := start(t, tlsxtest.NewAuthority(t), func(o *server.Options) {
				for _, s := range services() {
					own[s] = rightsOf(o, s)
				}
			})
			for _, rights := range own {
				all = append(all, rights...)
			}
			for _, service := range services() {
				t.Run(service, func(t *testing.T) { c.steal(t, service, own[service], all) })
			}
		})
	}
}

// steal tries all rights but a service's own with its certificate.
func (c *cluster) steal(t *testing.T, service string, own, all []right) {
	t.Helper()
	nc, denied := c.dial(t, service)
	tried := 0
	for _, r := range all {
		if slices.ContainsFunc(own, r.within) {
			continue
		}
		tried++
		subject := r.subject
		if r.subscribe {
			if _, err := nc.SubscribeSync(subject); err != nil {
				t.Fatal(err)
			}
		} else {
			subject = literal(subject)
			if err := nc.PublishRequest(subject, "_INBOX_"+service+".x", nil); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case err := <-denied:
			if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
				t.Errorf("%s: %v", r, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s is not denied", r)
		}
	}
	if tried < 80 {
		t.Errorf("only %d rights were tried", tried)
	}
}

// within tells whether who has the other right has this one.
func (r right) within(other right) bool {
	return r.subscribe == other.subscribe && server.SubjectsCollide(r.subject, other.subject) && (r.subject == other.subject || !strings.ContainsAny(r.subject, "*>"))
}

// literal is a subject that the pattern matches.
func literal(pattern string) string {
	return strings.NewReplacer("*", "x", ">", "x.y").Replace(pattern)
}

// victims are where nothing may ever arrive from a thief.
func victims() map[string]string {
	return map[string]string{
		bus.EventsStream: bus.EventSubject(account, "victim"), bus.OutboxStream: bus.OutboxSubject(0, bustest.Config().Partitions, account, "victim"),
		bus.TimersStream: "timer.due.idle." + account + ".victim", "KV_SESSIONS": "$KV.SESSIONS." + account + ".victim", "KV_INDEX": "$KV.INDEX.dialog.victim",
	}
}

// question is something asked of NATS.
type question struct {
	subject string
	body    []byte
}

// TestAnswersReachOnlyWhoHasAsked lets a thief have his questions answered to where
// he may not publish. A forged event, stored as a ticket, would so become one.
func TestAnswersReachOnlyWhoHasAsked(t *testing.T) {
	for name, start := range deployments() {
		t.Run(name, func(t *testing.T) { answersReachOnlyWhoHasAsked(t, start(t, tlsxtest.NewAuthority(t))) })
	}
}

// answer asks until somebody answers: in a cluster a server may not know yet what
// was just made at another one (no responders).
func answer(ctx context.Context, nc *nats.Conn, subject string, body []byte) (*nats.Msg, error) {
	var m *nats.Msg
	err := suitetest.Await(ctx, "an answer", func(ctx context.Context) (ok bool, err error) {
		if m, err = nc.RequestWithContext(ctx, subject, body); errors.Is(err, nats.ErrNoResponders) {
			return false, nil
		}
		return err == nil, err
	})
	return m, err
}

func answersReachOnlyWhoHasAsked(t *testing.T, c *cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	w, err := c.join(ctx, t, "")
	if err != nil {
		t.Fatal(err)
	}
	forged, err := proto.Marshal(event("victim"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		service string
		ask     []question // in this order
		arrives bool
	}{
		{svcGateway, []question{
			{"axpchat.api.$KV.TICKETS.forged", forged},
			{"axpchat.api.DIRECT.GET.KV_TICKETS.$KV.TICKETS.forged", nil},
			{"axpchat.api.STREAM.MSG.GET.KV_TICKETS", []byte(`{"last_by_subj":"$KV.TICKETS.forged"}`)},
			{"axpchat.api.DIRECT.GET.EVENTS", []byte(`{"last_by_subj":"chat.event.ABCDEF.known"}`)},
			{"axpchat.api.STREAM.INFO.EVENTS", nil},
			{"axpchat.api.CONSUMER.CREATE.EVENTS.thief", []byte(`{"stream_name":"EVENTS","config":{"name":"thief","ack_policy":"none","deliver_policy":"all","mem_storage":true}}`)},
			{"axpchat.api.CONSUMER.MSG.NEXT.EVENTS.thief", []byte(`{"batch":1,"expires":100000000}`)},
			{"axpchat.api.DIRECT.GET.KV_SESSIONS.$KV.SESSIONS.ABCDEF", nil},
		}, false},
		{svcIngest, []question{
			{"chat.event.ABCDEF.known", forged},
			{"chat.unrouted.ABCDEF", forged},
			{"axpchat.api.STREAM.INFO.UNROUTED", nil},
			{"axpchat.api.DIRECT.GET.KV_INDEX.$KV.INDEX.dialog.own", nil},
			{"axpchat.api.STREAM.MSG.GET.KV_INDEX", []byte(`{"last_by_subj":"$KV.INDEX.dialog.own"}`)},
		}, false},
		{svcOperator, []question{
			{"chat.event.ABCDEF.known", forged},
			{"axpchat.api.STREAM.INFO.UNROUTED", nil},
			{"axpchat.api.DIRECT.GET.EVENTS", []byte(`{"last_by_subj":"chat.event.ABCDEF.known"}`)},
			{"axpchat.api.DIRECT.GET.UNROUTED", []byte(`{"seq":1}`)},
			{"axpchat.api.STREAM.MSG.DELETE.UNROUTED", []byte(`{"seq":1000}`)},
			{"axpchat.api.DIRECT.GET.KV_INDEX.$KV.INDEX.dialog.own", nil},
		}, false},
		// In the account of the streams an answer goes wherever it is wanted: the test
		// would see it, and this is why the others are in accounts of their own.
		{svcOrchestrator, []question{{"$JS.API.STREAM.INFO.EVENTS", nil}}, true},
	} {
		t.Run(tt.service, func(t *testing.T) {
			nc, denied := c.dial(t, tt.service)
			before := stored(ctx, t, w)
			for _, q := range tt.ask {
				subject, body := q.subject, q.body
				m, err := answer(ctx, nc, subject, body)
				if err != nil || len(m.Data)+len(m.Header) == 0 {
					t.Errorf("%s is not answered: %v", subject, err)
				}
				for _, victim := range victims() {
					if err := nc.PublishRequest(subject, victim, body); err != nil {
						t.Fatal(err)
					}
				}
				// Answers come in the order of the questions.
				if _, err := answer(ctx, nc, subject, body); err != nil {
					t.Errorf("%s: %v", subject, err)
				}
			}
			if got := stored(ctx, t, w); !tt.arrives && got != before || tt.arrives && got == before {
				t.Errorf("%d messages arrived where he may not publish, %d before", got, before)
			}
			select {
			case err := <-denied:
				t.Errorf("what he asked was denied: %v", err)
			default:
			}
		})
	}
}

// TestAConsumerDeliversNowhereElse: a gateway makes consumers of the journal, and
// NATS does not ask whether it may publish where they deliver. What keeps the
// journal's messages from other streams is that such a consumer rests until somebody
// subscribes to just that subject, which the gateway can't.
func TestAConsumerDeliversNowhereElse(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	c := start(t, tlsxtest.NewAuthority(t))
	w, err := c.join(ctx, t, "")
	if err != nil {
		t.Fatal(err)
	}
	watch, err := w.orchestrator.NC.SubscribeSync(w.orchestrator.Engagements.ChangesSubject())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watch.Unsubscribe() }) // as the orchestrator always has it
	nc, _ := c.dial(t, svcGateway)
	places := victims()
	places["KV_ENGAGEMENTS"] = "$KV.ENGAGEMENTS." + account + ".victim.e"
	places["live"] = bus.LiveSubject(account, "victim") // may be delivered to, but changes nothing
	heard, err := nc.SubscribeSync(places["live"])
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for place, subject := range places {
		_, _ = nc.SubscribeSync(subject) // most are denied
		body, err := json.Marshal(map[string]any{"stream_name": bus.EventsStream, "config": map[string]any{
			"name": "thief-" + place, "deliver_subject": subject, "ack_policy": "none", "deliver_policy": "all", "mem_storage": true,
		}})
		if err != nil {
			t.Fatal(err)
		}
		m, err := nc.RequestWithContext(ctx, "axpchat.api.CONSUMER.CREATE.EVENTS.thief-"+place, body)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(m.Data), `"error"`) {
			made++
		}
	}
	if made != len(places)-1 { // into its own stream NATS refuses it
		t.Errorf("%d consumers were made, of %d", made, len(places))
	}
	before := others(ctx, t, w)
	for range 2 { // what the first brings about is there, or on its way, with the second
		if err := publish(ctx, w.ingest, "s"); err != nil {
			t.Fatal(err)
		}
		if _, err := heard.NextMsgWithContext(ctx); err != nil {
			t.Fatalf("nothing is delivered at all: the test looks at the wrong thing: %v", err)
		}
	}
	if m, err := watch.NextMsg(500 * time.Millisecond); err == nil {
		t.Errorf("an engagement was changed: %s", m.Subject)
	}
	if got := others(ctx, t, w); got != before {
		t.Errorf("%d messages are in other streams than the journal, %d before", got, before)
	}
}

// others counts what is in all streams of victims but the journal.
func others(ctx context.Context, t *testing.T, w *world) uint64 {
	t.Helper()
	var n uint64
	for stream := range victims() {
		if stream == bus.EventsStream {
			continue
		}
		s, err := w.orchestrator.JS.Stream(ctx, stream)
		if err != nil {
			t.Fatal(err)
		}
		n += s.CachedInfo().State.Msgs
	}
	return n
}

// stored counts what there is at the victims' subjects.
func stored(ctx context.Context, t *testing.T, w *world) int {
	t.Helper()
	n := 0
	for stream, subject := range victims() {
		s, err := w.orchestrator.JS.Stream(ctx, stream)
		if err != nil {
			t.Fatal(err)
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
		if err != nil {
			t.Fatal(err)
		}
		for _, of := range info.State.Subjects {
			n += int(of)
		}
	}
	return n
}
