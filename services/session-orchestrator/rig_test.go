package orchestrator_test

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/await"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/errs"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a whole orchestrator, as its main builds it, with a real NATS server
// and a stand-in for AXP. There is no webhook-ingest: tests write AXP's events
// themselves.
type rig struct {
	t      *testing.T
	axp    *axptest.Double
	nats   *natsembed.Server
	now    func() time.Time // nil: the system's
	log    slog.Handler     // nil: nobody reads it
	bus    *bus.Bus
	client orchestratorv1.OrchestratorServiceClient
	o      *orchestrator.Orchestrator
	who    *orchestratorv1.Caller // the customer whose chats the helpers handle
	stop   func()
	kill   func()
	conn   *grpc.ClientConn

	operators string // their service's address, where there is a token
}

// load makes a configuration of variables, as in production.
func load(vars map[string]string) (orchestrator.Config, error) {
	var cfg orchestrator.Config
	err := config.Load(&cfg, config.Sources{
		Lookup:   func(key string) (string, bool) { v, ok := vars[key]; return v, ok },
		ReadFile: func(string) ([]byte, error) { return nil, nil },
	})
	return cfg, err
}

func variables(axpURL string, more map[string]string) map[string]string {
	vars := map[string]string{
		"AXP_BASE_URL": axpURL, "AXP_ACCOUNT_ID": axptest.AccountID, "AXP_CLIENT_ID": "client", "AXP_CLIENT_SECRET": "secret",
		"AXP_APP_KEY": "key", "AXP_CHANNEL_PROVIDER_ID": axptest.ProviderID, "AXP_MAX_ATTEMPTS": "1", "AXP_CALL_TIMEOUT": "5s", "AXP_BREAKER_OPEN": "50ms",
		"WEBHOOK_PUBLIC_URL": "https://chat.example.com", "WEBHOOK_SECRET": "0123456789abcdef0123456789abcdef",
		"OUTBOX_PARTITIONS": "4", "OUTBOX_RETRY_MIN": "20ms", "OUTBOX_RETRY_MAX": "100ms", "OUTBOX_UNCERTAIN_WAIT": "20ms",
	}
	maps.Copy(vars, more)
	return vars
}

func newRig(t *testing.T, vars map[string]string) *rig {
	t.Helper()
	r := &rig{t: t, axp: axptest.Start(t), nats: bustest.Server(t)}
	r.start(vars)
	return r
}

// start builds and runs an orchestrator over the rig's NATS and AXP.
func (r *rig) start(vars map[string]string) {
	r.t.Helper()
	cfg, err := load(variables(r.axp.URL, vars))
	if err != nil {
		r.t.Fatal(err)
	}
	r.who = ada
	r.bus = bustest.Connect(r.t, r.nats, cfg.Bus)
	lis, err := (&net.ListenConfig{}).Listen(r.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	switch {
	case r.log != nil:
		log = slog.New(r.log)
	case testing.Verbose():
		log = slog.New(slog.NewTextHandler(r.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	o, err := orchestrator.New(r.t.Context(), orchestrator.Params{Config: cfg, Log: log, Bus: r.bus, Listener: lis, Now: r.now})
	if err != nil {
		r.t.Fatal(err)
	}
	r.o = o
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- lifecycle.Run(ctx, log, 10*time.Second, o.Components()...) }()
	conn, err := grpc.NewClient(o.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	if addr := o.OperatorAddr(); addr != nil {
		r.operators = addr.String()
	}
	r.conn = conn
	r.client = orchestratorv1.NewOrchestratorServiceClient(conn)
	b, stopped := r.bus, false
	end := func(check func(what string, err error)) {
		if stopped {
			return
		}
		stopped = true
		_ = conn.Close()
		cancel()
		check("end", <-done)
		check("close", o.Close())
	}
	r.stop = func() {
		end(func(what string, err error) {
			if err != nil {
				r.t.Errorf("%s: %v", what, err)
			}
		})
	}
	// Seen from outside, the process dies; what is left of it ends as it can.
	r.kill = func() {
		b.NC.Close()
		end(func(string, error) {})
	}
	r.t.Cleanup(r.stop)
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	r.t.Cleanup(cancel)
	return ctx
}

func caller(subject string) *orchestratorv1.Caller {
	return &orchestratorv1.Caller{
		Account: axptest.AccountID, Subject: subject, Name: "Ada of the token", Verified: true,
		Identifiers: map[string]*axpchatv1.CustomerIdentifierValues{"emailAddresses": {Values: []string{subject + "@example.com"}}},
	}
}

var ada = caller("ada")

func (r *rig) session(who *orchestratorv1.Caller) *axpchatv1.Session {
	r.t.Helper()
	res, err := r.client.CreateSession(r.ctx(), &orchestratorv1.CreateSessionRequest{Caller: who, Request: &axpchatv1.CreateSessionRequest{}})
	if err != nil {
		r.t.Fatalf("create session: %v", err)
	}
	return res.GetResponse().GetSession()
}

func (r *rig) engagement(session *axpchatv1.Session) *axpchatv1.Engagement {
	r.t.Helper()
	res, err := r.client.CreateEngagement(r.ctx(), &orchestratorv1.CreateEngagementRequest{
		Caller: r.who, Request: &axpchatv1.CreateEngagementRequest{SessionId: session.GetSessionId()},
	})
	if err != nil {
		r.t.Fatalf("create engagement: %v", err)
	}
	return res.GetResponse().GetEngagement()
}

// chat is a session with an engagement that is ACTIVE.
func (r *rig) chat() (*axpchatv1.Session, *axpchatv1.Engagement) {
	r.t.Helper()
	s := r.session(r.who)
	e := r.engagement(s)
	r.connect(e)
	return s, e
}

func (r *rig) send(s, engagement, clientID, text string) (*axpchatv1.Message, error) {
	res, err := r.client.SendMessage(r.ctx(), &orchestratorv1.SendMessageRequest{Caller: r.who, Request: &axpchatv1.SendMessageRequest{
		SessionId: s, EngagementId: engagement, ClientMessageId: clientID, Text: text,
	}})
	return res.GetResponse().GetMessage(), err
}

func (r *rig) mustSend(e *axpchatv1.Engagement, clientID, text string) *axpchatv1.Message {
	r.t.Helper()
	m, err := r.send(e.GetSessionId(), e.GetEngagementId(), clientID, text)
	if err != nil {
		r.t.Fatalf("send: %v", err)
	}
	return m
}

func (r *rig) end(e *axpchatv1.Engagement) *axpchatv1.Engagement {
	r.t.Helper()
	res, err := r.client.EndEngagement(r.ctx(), &orchestratorv1.EndEngagementRequest{Caller: r.who, Request: &axpchatv1.EndEngagementRequest{
		SessionId: e.GetSessionId(), EngagementId: e.GetEngagementId(),
	}})
	if err != nil {
		r.t.Fatalf("end: %v", err)
	}
	return res.GetResponse().GetEngagement()
}

// tell writes an event as webhook-ingest does.
func (r *rig) tell(e *axpchatv1.Engagement, id string, ev *axpchatv1.Event) {
	r.t.Helper()
	ev.EventId, ev.SessionId, ev.EngagementId = e.GetEngagementId()+"-"+id, e.GetSessionId(), e.GetEngagementId()
	ev.EventTime = timestamppb.Now()
	if _, err := r.bus.PublishEvent(r.ctx(), &busv1.EventRecord{Account: r.who.GetAccount(), Event: ev}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) customer(e *axpchatv1.Engagement) *axpchatv1.ParticipantChanged {
	r.t.Helper()
	for _, d := range r.axp.Dialogs(r.record(e).GetAxpSessionId()) {
		if d.DialogID == e.GetAxpDialogId() {
			return &axpchatv1.ParticipantChanged{
				AxpEngagementId: e.GetAxpEngagementId(), AxpDialogId: e.GetAxpDialogId(),
				Participant: &axpchatv1.Participant{
					ConnectionId: d.Connections[0].ConnectionID, ParticipantType: axpchatv1.ParticipantType_PARTICIPANT_TYPE_CUSTOMER,
				},
			}
		}
	}
	r.t.Fatal("AXP has no such dialog")
	return nil
}

// connect has AXP tell that the customer is connected: the chat is ACTIVE.
func (r *rig) connect(e *axpchatv1.Engagement) {
	r.t.Helper()
	r.tell(e, "added", &axpchatv1.Event{Payload: &axpchatv1.Event_ParticipantAdded{ParticipantAdded: r.customer(e)}})
	r.event(e.GetSessionId(), e.GetEngagementId()+".active")
}

func (r *rig) disconnect(e *axpchatv1.Engagement) {
	r.t.Helper()
	r.tell(e, "left", &axpchatv1.Event{Payload: &axpchatv1.Event_ParticipantDisconnected{ParticipantDisconnected: r.customer(e)}})
}

func (r *rig) record(e *axpchatv1.Engagement) *busv1.EngagementRecord {
	r.t.Helper()
	rec, _, err := r.bus.Engagements.Get(r.ctx(), bus.EngagementKey(r.who.GetAccount(), e.GetSessionId(), e.GetEngagementId()))
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

// journal are all events of a session.
func (r *rig) journal(session string) []*axpchatv1.Event {
	r.t.Helper()
	var out []*axpchatv1.Event
	for after, more := uint64(0), true; more; {
		events, next, err := r.bus.ReadEvents(r.ctx(), r.who.GetAccount(), session, after, 100)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, e := range events {
			out, after = append(out, e.Record.GetEvent()), e.Sequence
		}
		more = next
	}
	return out
}

// ids are the ids of a session's events, in order.
func (r *rig) ids(session string) []string {
	r.t.Helper()
	var out []string
	for _, e := range r.journal(session) {
		out = append(out, e.GetEventId())
	}
	return out
}

// event waits for an event of the journal.
func (r *rig) event(session, id string) *axpchatv1.Event {
	r.t.Helper()
	var found *axpchatv1.Event
	r.await("event "+id, func() bool {
		events := r.journal(session)
		i := slices.IndexFunc(events, func(e *axpchatv1.Event) bool { return e.GetEventId() == id })
		if i >= 0 {
			found = events[i]
		}
		return found != nil
	})
	return found
}

// await polls until cond holds.
func (r *rig) await(what string, cond func() bool) {
	r.t.Helper()
	await.Until(r.t, what, cond)
}

// refused checks that err has a reason.
func (r *rig) refused(err error, want axpchatv1.ErrorReason) {
	r.t.Helper()
	if err == nil {
		r.t.Errorf("no error, want %v", want)
		return
	}
	if got := errs.From(err).Reason; got != want {
		r.t.Errorf("reason %v, want %v (%v)", got, want, err)
	}
}
