package orchestrator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	orchestratorv1 "github.com/axpchat/connector/gen/axpchat/orchestrator/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	sandbox "github.com/axpchat/connector/services/axp-sandbox"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/lifecycle"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	orchestrator "github.com/axpchat/connector/services/session-orchestrator"
	"github.com/axpchat/connector/services/session-orchestrator/internal/axp"
	ingest "github.com/axpchat/connector/services/webhook-ingest"
)

const (
	boxAccount = "SANDBX"
	secretA    = "the secret of before 0123456789"
	secretB    = "the secret from now on 01234567"
)

// deployment is what a cluster has: replicas of two services over one NATS, a
// load balancer before webhook-ingest, and AXP's stand-in with real callbacks.
type deployment struct {
	t      *testing.T
	nats   *natsembed.Server
	axpURL string
	hooks  *httptest.Server // the load balancer

	mu        sync.Mutex
	receivers []*replica
	makers    []*replica
	next      int
}

// replica is one process of a service.
type replica struct {
	addr   string
	client orchestratorv1.OrchestratorServiceClient // of an orchestrator
	stop   func()
}

func deploy(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{t: t, nats: bustest.Server(t)}
	d.hooks = httptest.NewServer(http.HandlerFunc(d.balance))
	t.Cleanup(d.hooks.Close)
	box := sandbox.Config{
		Addr: "127.0.0.1:0", AccountID: boxAccount, ClientID: "client", ClientSecret: "secret", AppKey: "key", ChannelProviderID: "sandbox-chat",
		TokenLifetime: time.Hour, ActivationDelay: time.Millisecond, AutoAgent: true, AgentName: "Robin", AcceptDelay: time.Millisecond,
		ReplyDelay: time.Millisecond, RetryDelay: 100 * time.Millisecond, MaxAttempts: 50, CallbackTimeout: 5 * time.Second, AllowHTTP: true, Seed: 1,
	}
	s, err := sandbox.New(t.Context(), sandbox.Params{Config: box, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("sandbox: %v", err)
		}
	})
	d.axpURL = "http://" + s.Addr()
	return d
}

// balance sends a callback to the next webhook-ingest.
func (d *deployment) balance(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	if len(d.receivers) == 0 {
		d.mu.Unlock()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	d.next++
	to := d.receivers[d.next%len(d.receivers)].addr
	d.mu.Unlock()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.Transport = &http.Transport{DisableKeepAlives: true} // a replica that ends must not leave connections
	proxy.ServeHTTP(w, r)
}

func (d *deployment) variables(current, previous string) map[string]string {
	vars := variables(d.axpURL, map[string]string{
		"AXP_ACCOUNT_ID": boxAccount, "AXP_CHANNEL_PROVIDER_ID": "sandbox-chat", "AXP_MAX_ATTEMPTS": "3",
		"WEBHOOK_PUBLIC_URL": d.hooks.URL, "WEBHOOK_SECRET": current, "WEBHOOK_CHECK_INTERVAL": "200ms", "WEBHOOK_AGREE_INTERVAL": "100ms",
		// A callback that AXP has given up waiting for and sends again is six seconds late,
		// on a busy machine more: what is fetched here shall be lost, not late.
		"BACKFILL_HOLE_WAIT": "1m", "BACKFILL_ECHO_WAIT": "1m", "BACKFILL_QUIET_AFTER": "90s",
	})
	if previous != "" {
		vars["WEBHOOK_SECRET_PREVIOUS"] = previous
	}
	return vars
}

// orchestrator starts a replica of session-orchestrator.
func (d *deployment) orchestrator(current, previous string) *replica {
	d.t.Helper()
	cfg, err := load(d.variables(current, previous))
	if err != nil {
		d.t.Fatal(err)
	}
	lis, err := (&net.ListenConfig{}).Listen(d.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	o, err := orchestrator.New(d.t.Context(), orchestrator.Params{Config: cfg, Log: quiet, Bus: bustest.Connect(d.t, d.nats, cfg.Bus), Listener: lis})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(d.t.Context()))
	done := make(chan error, 1)
	go func() { done <- lifecycle.Run(ctx, quiet, 20*time.Second, o.Components()...) }()
	conn, err := grpc.NewClient(o.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		d.t.Fatal(err)
	}
	r := &replica{client: orchestratorv1.NewOrchestratorServiceClient(conn)}
	r.stop = sync.OnceFunc(func() {
		d.remove(&d.makers, r)
		cancel()
		if err := <-done; err != nil {
			d.t.Errorf("orchestrator: %v", err)
		}
		_ = conn.Close()
		if err := o.Close(); err != nil {
			d.t.Errorf("orchestrator: %v", err)
		}
	})
	d.t.Cleanup(r.stop)
	d.add(&d.makers, r)
	return r
}

// ingest starts a replica of webhook-ingest.
func (d *deployment) ingest(current, previous string) *replica {
	d.t.Helper()
	var cfg ingest.Config
	vars := map[string]string{"WEBHOOK_SECRET": current, "WEBHOOK_AGREE_INTERVAL": "100ms"}
	if previous != "" {
		vars["WEBHOOK_SECRET_PREVIOUS"] = previous
	}
	if err := config.Load(&cfg, config.Map(vars)); err != nil {
		d.t.Fatal(err)
	}
	lis, err := (&net.ListenConfig{}).Listen(d.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	in, err := ingest.New(d.t.Context(), ingest.Params{
		Config: cfg, Log: slog.New(slog.DiscardHandler), Providers: telemetry.Nop(), Bus: bustest.Connect(d.t, d.nats, bustest.Config()), Listener: lis,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(d.t.Context()))
	done := make(chan error, 1)
	go func() { done <- lifecycle.Run(ctx, slog.New(slog.DiscardHandler), 20*time.Second, in) }()
	r := &replica{addr: in.Addr()}
	r.stop = sync.OnceFunc(func() {
		d.remove(&d.receivers, r) // as a cluster takes a pod out before it is told to end
		cancel()
		if err := <-done; err != nil {
			d.t.Errorf("ingest: %v", err)
		}
	})
	d.t.Cleanup(r.stop)
	d.add(&d.receivers, r)
	return r
}

func (d *deployment) add(to *[]*replica, r *replica) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*to = append(*to, r)
}

func (d *deployment) remove(from *[]*replica, r *replica) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*from = slices.DeleteFunc(slices.Clone(*from), func(o *replica) bool { return o == r })
}

// call makes a call at one of the orchestrators, and again at another one where
// that was just ending. Every call here is safe to repeat.
func call[R any](d *deployment, f func(ctx context.Context, c orchestratorv1.OrchestratorServiceClient) (R, error)) R {
	ctx, cancel := context.WithTimeout(d.t.Context(), 30*time.Second)
	defer cancel()
	for {
		d.mu.Lock()
		makers := slices.Clone(d.makers)
		d.mu.Unlock()
		if len(makers) == 0 || d.t.Context().Err() != nil { // the test has failed and ends
			var none R
			return none
		}
		out, err := f(ctx, makers[rand.IntN(len(makers))].client)
		if err == nil || ctx.Err() != nil {
			if err != nil {
				d.t.Error(err)
			}
			return out
		}
		pass(ctx, 20*time.Millisecond)
	}
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

var boxCaller = func() *orchestratorv1.Caller {
	c := caller("ada")
	c.Account = boxAccount
	return c
}()

// chat starts a chat.
func (d *deployment) chat(name string) *axpchatv1.Engagement {
	s := call(d, func(ctx context.Context, c orchestratorv1.OrchestratorServiceClient) (*orchestratorv1.CreateSessionResponse, error) {
		return c.CreateSession(ctx, &orchestratorv1.CreateSessionRequest{Caller: boxCaller, Request: &axpchatv1.CreateSessionRequest{RequestId: name}})
	})
	e := call(d, func(ctx context.Context, c orchestratorv1.OrchestratorServiceClient) (*orchestratorv1.CreateEngagementResponse, error) {
		return c.CreateEngagement(ctx, &orchestratorv1.CreateEngagementRequest{Caller: boxCaller, Request: &axpchatv1.CreateEngagementRequest{
			SessionId: s.GetResponse().GetSession().GetSessionId(), RequestId: name,
		}})
	})
	return e.GetResponse().GetEngagement()
}

// talk writes a message every so often, until stop is closed, and returns how many.
func (d *deployment) talk(e *axpchatv1.Engagement, stop <-chan struct{}) int {
	tick := time.NewTicker(60 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return n
		case <-tick.C:
		}
		call(d, func(ctx context.Context, c orchestratorv1.OrchestratorServiceClient) (*orchestratorv1.SendMessageResponse, error) {
			id := fmt.Sprintf("m-%d", n)
			return c.SendMessage(ctx, &orchestratorv1.SendMessageRequest{Caller: boxCaller, Request: &axpchatv1.SendMessageRequest{
				SessionId: e.GetSessionId(), EngagementId: e.GetEngagementId(), ClientMessageId: id, Text: "note " + id,
			}})
		})
	}
}

// boxState is what the sandbox shows of itself.
type boxState struct {
	Chats []struct {
		DialogID string
		Messages []struct{ MessageID, ProviderMessageID, SenderType string }
	}
	Subscriptions []struct{ SubscriptionID, CallbackURL string }
	Webhooks      struct{ GivenUp, Pending int }
}

func get[T any](d *deployment, path string) (out T) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, d.axpURL+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		d.t.Fatalf("%v: %s", err, data)
	}
	return out
}

func (d *deployment) state() boxState { d.t.Helper(); return get[boxState](d, "/control/state") }

// calls is how often AXP was called for an operation.
func (d *deployment) calls(operation string) int {
	d.t.Helper()
	return len(get[[]json.RawMessage](d, "/control/calls?operation="+operation))
}

func (d *deployment) await(what string, cond func() bool) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 3*time.Minute)
	defer cancel()
	for !cond() {
		if ctx.Err() != nil {
			d.t.Fatalf("%s: not in time", what)
		}
		pass(ctx, 20*time.Millisecond)
	}
}

// pointsTo tells whether the one subscription has the key of a secret.
func (d *deployment) pointsTo(secret string) bool {
	d.t.Helper()
	subs := d.state().Subscriptions
	if len(subs) != 1 {
		return false
	}
	ring, err := keyring.New(keyring.Config{Secret: config.Secret(secret)})
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.HasSuffix(subs[0].CallbackURL, "/"+ring.CallbackKey(boxAccount))
}

// TestManyReplicasMakeOneSubscription, however many start at the same moment.
func TestManyReplicasMakeOneSubscription(t *testing.T) {
	d := deploy(t)
	d.ingest(secretA, "")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { d.orchestrator(secretA, "") })
	}
	group.Wait()
	d.await("the subscription", func() bool { return d.pointsTo(secretA) })
	pass(t.Context(), time.Second) // five checks of each replica
	if n := d.calls(axp.OpCreateSubscription); n != 1 || !d.pointsTo(secretA) {
		t.Errorf("%d subscriptions were made, AXP has %v", n, d.state().Subscriptions)
	}
}

// TestRotationUnderLoad: while customers and agents talk, every replica is
// replaced by one with the new secret, in several orders. Nothing said is lost or
// told twice, chats that begin meanwhile included, AXP is never told that its key
// is wrong, and there is never a second subscription.
func TestRotationUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	seed := uint64(time.Now().UnixNano())
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = n
	}
	for name, order := range map[string]func(*rand.Rand) []bool{
		"orchestrators first":  func(*rand.Rand) []bool { return []bool{true, true, true, false, false, false} },
		"webhook-ingest first": func(*rand.Rand) []bool { return []bool{false, false, false, true, true, true} },
		"in any order": func(r *rand.Rand) []bool {
			steps := []bool{true, true, true, false, false, false}
			r.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
			return steps
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Logf("SEED=%d", seed)
			rng := rand.New(rand.NewPCG(seed, 2))
			rotate(t, rng, order(rng))
		})
	}
}

// rotate replaces replicas one by one: an orchestrator where a step is true, else
// one of webhook-ingest.
func rotate(t *testing.T, rng *rand.Rand, steps []bool) {
	d := deploy(t)
	var oldMakers, oldReceivers []*replica
	for range 3 {
		oldReceivers = append(oldReceivers, d.ingest(secretA, ""))
		oldMakers = append(oldMakers, d.orchestrator(secretA, ""))
	}
	d.await("the subscription", func() bool { return d.pointsTo(secretA) })

	stop := make(chan struct{})
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		chats = map[*axpchatv1.Engagement]int{}
	)
	halt := sync.OnceFunc(func() { close(stop) })
	t.Cleanup(func() {
		halt()
		group.Wait()
	})
	begin := func(name string) {
		e := d.chat(name)
		group.Go(func() {
			n := d.talk(e, stop)
			mu.Lock()
			defer mu.Unlock()
			chats[e] = n
		})
	}
	most := make(chan int, 1)
	group.Go(func() { most <- d.mostSubscriptions(stop) })
	begin("before")
	for i, maker := range steps {
		pass(t.Context(), time.Duration(rng.IntN(500))*time.Millisecond)
		begin(fmt.Sprintf("during-%d", i))
		// As a rolling upgrade does: the new one is there before the old one goes.
		if maker {
			d.orchestrator(secretB, secretA)
			oldMakers[0].stop()
			oldMakers = oldMakers[1:]
		} else {
			d.ingest(secretB, secretA)
			oldReceivers[0].stop()
			oldReceivers = oldReceivers[1:]
		}
	}
	d.await("the subscription has moved", func() bool { return d.pointsTo(secretB) })
	begin("after")
	pass(t.Context(), 500*time.Millisecond)
	halt()
	group.Wait()
	if n := <-most; n != 1 || d.calls(axp.OpCreateSubscription) != 1 {
		t.Errorf("%d subscriptions at a time, %d made", n, d.calls(axp.OpCreateSubscription))
	}
	if n := d.calls(axp.OpUpdateSubscription); n != 1 {
		t.Errorf("the subscription was changed %d times, want once", n)
	}
	d.compare(chats)
}

// mostSubscriptions watches how many subscriptions there are, until stop is closed.
func (d *deployment) mostSubscriptions(stop <-chan struct{}) int {
	most := 0
	for {
		select {
		case <-stop:
			return most
		default:
			most = max(most, len(d.state().Subscriptions))
			pass(d.t.Context(), 20*time.Millisecond)
		}
	}
}

// compare holds the journals against what AXP has.
func (d *deployment) compare(chats map[*axpchatv1.Engagement]int) {
	t := d.t
	t.Helper()
	r := &rig{t: t, bus: bustest.Connect(t, d.nats, bustest.Config()), who: boxCaller}
	wrong := map[int]int{}
	for _, a := range get[[]struct{ Status int }](d, "/control/callbacks") {
		if a.Status >= 400 && a.Status < 500 { // 502 is the load balancer's, at the end of a replica; AXP calls again
			wrong[a.Status]++
		}
	}
	if len(wrong) > 0 {
		t.Errorf("callbacks that were refused, by status: %v", wrong)
	}
	inAXP := map[string]map[string]int{}
	settled := func() bool {
		said := 0
		for _, c := range d.state().Chats {
			have := map[string]int{}
			for _, m := range c.Messages {
				if m.SenderType == "CUSTOMER" {
					said++
					have[m.ProviderMessageID]++
				} else {
					have[m.MessageID]++
				}
			}
			inAXP[c.DialogID] = have
		}
		want := 0
		for _, n := range chats {
			want += n
		}
		return said >= want && d.state().Webhooks.Pending == 0
	}
	d.await("everything is said", settled)
	total := 0
	for e, n := range chats {
		told, fromUs := map[string]int{}, 0
		d.await("everything is told", func() bool {
			told, fromUs = map[string]int{}, 0
			for _, ev := range r.journal(e.GetSessionId()) {
				if ev.GetBackfilled() {
					t.Errorf("chat %s: an event had to be fetched", e.GetEngagementId())
				}
				if m := ev.GetMessageArrived(); m != nil {
					told[m.GetMessageId()]++
				}
				if m := ev.GetMessageDelivered(); m != nil {
					told[m.GetMessageId()]++
					fromUs++
				}
			}
			return settled() && len(told) >= len(inAXP[e.GetAxpDialogId()])
		})
		if want := inAXP[e.GetAxpDialogId()]; !maps.Equal(told, want) || fromUs != n {
			t.Errorf("chat %s: AXP has %v, told was %v; %d of %d customer's messages", e.GetEngagementId(), want, told, fromUs, n)
		}
		total += len(told)
	}
	if n := d.state().Webhooks.GivenUp; n != 0 {
		t.Errorf("AXP gave up %d callbacks", n)
	}
	t.Logf("%d chats, %d messages both ways", len(chats), total)
}
