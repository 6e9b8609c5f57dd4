package ingest_test

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	axpchatv1 "github.com/axpchat/connector/gen/axpchat/v1"
	"github.com/axpchat/connector/services/internal/kit/bus"
	"github.com/axpchat/connector/services/internal/kit/bus/bustest"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/keyring"
	"github.com/axpchat/connector/services/internal/kit/logx/logtest"
	"github.com/axpchat/connector/services/internal/kit/natsembed"
	"github.com/axpchat/connector/services/internal/kit/telemetry"
	ingest "github.com/axpchat/connector/services/webhook-ingest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	account = "QRSTUV"
	session = "0197a1b2-0000-7000-8000-0000000000aa"
	chat    = "0197a1b2-0000-7000-8000-0000000000bb"
	secret  = "a callback secret of these tests"
)

// service is the service as it runs, over a NATS server of its own.
type service struct {
	*ingest.Ingest
	t         testing.TB
	nats      *natsembed.Server
	bus       *bus.Bus
	keys      *keyring.Keyring
	providers *telemetry.Providers
	logs      *logtest.Records
	client    *http.Client
}

// settings are the defaults, with what the test sets on top.
func settings(t testing.TB, env map[string]string) ingest.Config {
	t.Helper()
	all := map[string]string{"WEBHOOK_SECRET": secret}
	maps.Copy(all, env)
	var cfg ingest.Config
	if err := config.Load(&cfg, config.Map(all)); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func start(t testing.TB, env map[string]string) *service {
	t.Helper()
	server := bustest.Server(t)
	return startOn(t, server, bustest.Connect(t, server, bustest.Config()), env)
}

// startOn starts one more replica over a NATS server.
func startOn(t testing.TB, server *natsembed.Server, b *bus.Bus, env map[string]string) *service {
	t.Helper()
	s := &service{t: t, nats: server, bus: b, logs: &logtest.Records{}}
	cfg := settings(t, env)
	var err error
	if s.keys, err = keyring.New(cfg.Keys); err != nil {
		t.Fatal(err)
	}
	if s.providers, err = telemetry.Setup(t.Context(), "webhook-ingest", "test"); err != nil {
		t.Fatal(err)
	}
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.Ingest, err = ingest.New(t.Context(), ingest.Params{Config: cfg, Log: log, Providers: s.providers, Bus: s.bus, Listener: lis})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	s.client = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		transport.CloseIdleConnections()
		_ = s.providers.Shutdown(context.WithoutCancel(t.Context()))
	})
	return s
}

// path is where AXP was told to call.
func (s *service) path() string { return keyring.CallbackPath(account) + s.keys.CallbackKey(account) }

// index notes where the samples' dialogs belong, as the orchestrator does.
func (s *service) index(key string) {
	s.t.Helper()
	rec := &busv1.IndexRecord{Account: account, SessionId: session, EngagementId: chat}
	if _, err := s.bus.Index.Create(s.t.Context(), key, rec); err != nil {
		s.t.Fatal(err)
	}
}

// answer is what the service said.
type answer struct {
	status int
	header http.Header
	body   string
}

func (s *service) request(method, path, body string, header ...string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.Addr()+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func (s *service) do(r *http.Request) answer {
	s.t.Helper()
	res, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

func (s *service) post(body string, header ...string) answer {
	s.t.Helper()
	return s.do(s.request(http.MethodPost, s.path(), body, header...))
}

// accepted posts a callback that must be taken.
func (s *service) accepted(body string) {
	s.t.Helper()
	if a := s.post(body); a.status != http.StatusOK || a.body != "" {
		s.t.Fatalf("answer %d %q, want exactly 200 and nothing", a.status, a.body)
	}
}

// events is the journal of the tests' session.
func (s *service) events() []*axpchatv1.Event {
	s.t.Helper()
	var out []*axpchatv1.Event
	for after, more := uint64(0), true; more; {
		stored, next, err := s.bus.ReadEvents(s.t.Context(), account, session, after, 100)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range stored {
			if e.Record.GetAccount() != account {
				s.t.Errorf("record of account %q", e.Record.GetAccount())
			}
			out = append(out, e.Record.GetEvent())
			after = e.Sequence
		}
		more = next
	}
	return out
}

// stored counts the messages of a stream.
func (s *service) stored(stream string) uint64 {
	s.t.Helper()
	st, err := s.bus.JS.Stream(s.t.Context(), stream)
	if err != nil {
		s.t.Fatal(err)
	}
	info, err := st.Info(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return info.State.Msgs
}

// nothingStored checks that both streams are empty.
func (s *service) nothingStored() {
	s.t.Helper()
	for _, stream := range []string{bus.EventsStream, bus.UnroutedStream} {
		if n := s.stored(stream); n != 0 {
			s.t.Errorf("%d messages in %s", n, stream)
		}
	}
}

// unrouted is a record of the stream UNROUTED.
func (s *service) unrouted(sequence uint64) *busv1.UnroutedRecord {
	s.t.Helper()
	st, err := s.bus.JS.Stream(s.t.Context(), bus.UnroutedStream)
	if err != nil {
		s.t.Fatal(err)
	}
	msg, err := st.GetMsg(s.t.Context(), sequence)
	if err != nil {
		s.t.Fatal(err)
	}
	rec := &busv1.UnroutedRecord{}
	if err := proto.Unmarshal(msg.Data, rec); err != nil {
		s.t.Fatal(err)
	}
	return rec
}
