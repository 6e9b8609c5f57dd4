// Package bus owns what NATS carries and keeps for the suite: the names of
// subjects, streams, buckets and consumers, their one declaration, and the
// ways to write and read them. Three invariants hold: what PublishEvent or
// PublishOutbox acknowledged is stored; a repeated message id is stored once;
// every token of a subject is checked to [A-Za-z0-9_-]. It knows nothing of
// AXP, HTTP or clients, and takes no decision of the chat.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"

	busv1 "github.com/axpchat/connector/gen/axpchat/bus/v1"
	"github.com/axpchat/connector/services/internal/kit/config"
	"github.com/axpchat/connector/services/internal/kit/panics"
	"github.com/axpchat/connector/services/internal/kit/tlsx"
)

// instrumentation names the meter of the bus.
const instrumentation = "github.com/axpchat/connector/services/internal/kit/bus"

// waitsPerLine is how often NATS is tried at the start for one line of the log: one
// every ten seconds.
const waitsPerLine = 20

// Config says which NATS to use and how much it keeps. Every service of a
// deployment must be given the same values.
type Config struct {
	URL             string        `env:"NATS_URL" doc:"NATS cluster, such as nats://nats:4222; the all-in-one connector runs an embedded server when it is empty."`
	User            string        `env:"NATS_USER" doc:"User name, where NATS asks for one."`
	Password        config.Secret `env:"NATS_PASSWORD" doc:"Password of NATS_USER."`
	CredsFile       string        `env:"NATS_CREDS_FILE" doc:"Credentials file (JWT and seed)."`
	CAFile          string        `env:"NATS_CA_FILE" doc:"PEM file with the authorities that NATS's certificate is checked against."`
	CertFile        string        `env:"NATS_CERT_FILE" doc:"PEM file with the client certificate."`
	KeyFile         string        `env:"NATS_KEY_FILE" doc:"PEM file with the key of NATS_CERT_FILE."`
	InboxPrefix     string        `env:"NATS_INBOX_PREFIX" doc:"Prefix of reply subjects, where each service has its own NATS user; empty: _INBOX_ and the service's name with NATS_CERT_FILE, else _INBOX."`
	APIPrefix       string        `env:"NATS_API_PREFIX" default:"$JS.API" doc:"Prefix of JetStream's API, where it is imported from another NATS account; with deploy/nats: axpchat.api for gateway and webhook-ingest."`
	Replicas        int           `env:"NATS_REPLICAS" default:"1" doc:"Copies of every stream and bucket: 1 on one server, 3 in a cluster."`
	Manage          bool          `env:"NATS_MANAGE_STREAMS" default:"true" doc:"Declare streams, buckets and consumers at start; false only checks that those are there which the service uses: session-orchestrator provision declares them."`
	Retention       time.Duration `env:"EVENTS_RETENTION" default:"168h" doc:"How long the journal keeps what was said."`
	DuplicateWindow time.Duration `env:"EVENTS_DUPLICATE_WINDOW" default:"2h" doc:"How long a re-sent callback is recognised as one."`
	MaxBytes        config.Bytes  `env:"EVENTS_MAX_BYTES" default:"0" doc:"Largest size of the journal; 0: no limit but the disk's."`
	UnroutedBytes   config.Bytes  `env:"UNROUTED_MAX_BYTES" default:"1GiB" doc:"Largest size of the stream of callbacks that no session could be found for, at least 16MiB; the oldest make room. NATS reserves it."`
	StateRetention  time.Duration `env:"STATE_RETENTION" default:"720h" doc:"How long a session or engagement that nothing happens to is remembered."`
	Partitions      int           `env:"OUTBOX_PARTITIONS" default:"16" doc:"Partitions of the outbox, 1 to 64, the same for every service: one that has another number than the outbox does not start. To change it, let the outbox drain, scale every session-orchestrator (or connector) to 0, and start all with the new number."`
	OutboxWindow    time.Duration `env:"OUTBOX_DUPLICATE_WINDOW" default:"24h" doc:"How long a repeated client_message_id is recognised by the outbox."`
	OutboxMaxAge    time.Duration `env:"OUTBOX_RETENTION" default:"48h" doc:"After this a message that could not be worked at all leaves the outbox."`
}

// Validate reports values that can't work.
func (c *Config) Validate() []config.Mistake {
	var ms []config.Mistake
	add := func(key, problem string) { ms = append(ms, config.Mistake{Key: key, Problem: problem}) }
	if c.Partitions < 1 || c.Partitions > 64 {
		add("OUTBOX_PARTITIONS", "must be 1 to 64")
	}
	if c.Replicas < 1 || c.Replicas > 5 {
		add("NATS_REPLICAS", "must be 1 to 5")
	}
	if c.Retention < time.Minute {
		add("EVENTS_RETENTION", "must be at least 1m")
	}
	if c.DuplicateWindow < time.Second || c.DuplicateWindow > c.Retention {
		add("EVENTS_DUPLICATE_WINDOW", "must be at least 1s and at most EVENTS_RETENTION")
	}
	if c.UnroutedBytes < minUnrouted {
		add("UNROUTED_MAX_BYTES", "must be at least 16MiB")
	}
	if c.OutboxMaxAge < c.OutboxWindow {
		add("OUTBOX_RETENTION", "must be at least OUTBOX_DUPLICATE_WINDOW")
	}
	if !addresses(c.URL) {
		add("NATS_URL", "must be an address such as nats://nats:4222, or several with commas between them")
	}
	ms = append(ms, c.files().Mistakes(tlsx.Keys{Cert: "NATS_CERT_FILE", Key: "NATS_KEY_FILE"})...)
	for key, prefix := range map[string]string{"NATS_API_PREFIX": c.APIPrefix, "NATS_INBOX_PREFIX": c.InboxPrefix} {
		if strings.ContainsAny(prefix, "*> \t") || strings.HasPrefix(prefix, ".") {
			add(key, "must be a subject without wildcards")
		}
	}
	return ms
}

// addresses tells whether a list of servers can be one: with a scheme that NATS has,
// or without any.
func addresses(list string) bool {
	for server := range strings.SplitSeq(list, ",") {
		if !strings.Contains(server, "://") {
			continue
		}
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return false
		}
	}
	return true
}

// Params is what Connect needs.
type Params struct {
	Config     Config
	Name       string // of the service, shown by the NATS server
	Log        *slog.Logger
	Propagator propagation.TextMapPropagator // may be nil
	Meter      metric.MeterProvider          // may be nil
	Uses       Uses                          // what is checked where NATS_MANAGE_STREAMS is false
	Options    []nats.Option                 // for an in-process server, and tests
}

// Bus is a connection to NATS. It is safe for concurrent use.
type Bus struct {
	NC *nats.Conn
	JS jetstream.JetStream

	Sessions    *Store[*busv1.SessionRecord]
	Engagements *Store[*busv1.EngagementRecord]
	Index       *Store[*busv1.IndexRecord]
	Sent        *Store[*busv1.SentRecord]
	Tickets     *Store[*busv1.TicketRecord]
	Secrets     *Store[*busv1.SecretAgreement]
	Erasures    *Store[*busv1.ErasureRecord]

	cfg        Config
	log        *slog.Logger
	propagator propagation.TextMapPropagator
	outbox     outboxStream
	uses       Uses
	denials    *denials
	recovered  func(fault any) // notes what recover has returned

	erased erased

	mu          sync.Mutex
	reconnected map[int]func()
	nextHook    int
	journal     JournalInfo
	journalAt   time.Time     // when it was asked for
	journalTurn chan struct{} // one asks for all
}

// Connect connects and keeps reconnecting for as long as the process lives.
// The first connection must succeed within ctx.
func Connect(ctx context.Context, p Params) (*Bus, error) {
	b := &Bus{cfg: p.Config, log: p.Log, propagator: p.Propagator, uses: p.Uses, reconnected: map[int]func(){}, journalTurn: make(chan struct{}, 1)}
	if b.propagator == nil {
		b.propagator = propagation.NewCompositeTextMapPropagator()
	}
	if p.Meter == nil {
		p.Meter = noop.NewMeterProvider()
	}
	var err error
	watch, always := panics.New(p.Log, p.Meter.Meter(instrumentation)), context.WithoutCancel(ctx)
	b.recovered = func(fault any) { _ = watch.Note(always, "message", fault) }
	if b.denials, err = newDenials(p.Log, p.Meter, b.apiPrefix()); err != nil {
		return nil, err
	}
	secure, err := b.secure()
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	opts := append(b.options(p.Name), append(secure, p.Options...)...)
	for tries := 0; ; tries++ {
		nc, err := nats.Connect(p.Config.URL, opts...)
		if err == nil {
			b.NC = nc
			break
		}
		if errors.Is(err, nats.ErrAuthorization) || ctx.Err() != nil {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
		if tries%waitsPerLine == 0 {
			b.log.Warn("NATS can't be reached yet at NATS_URL; the service waits for it", "error", err)
		}
		if !wait(ctx, 500*time.Millisecond) {
			return nil, fmt.Errorf("connect to NATS: %w", err)
		}
	}
	js, err := jetstream.NewWithAPIPrefix(b.NC, b.apiPrefix())
	if err != nil {
		b.NC.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	b.JS = js
	b.openStores()
	return b, nil
}

func (b *Bus) options(name string) []nats.Option {
	c := b.cfg
	opts := []nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.PingInterval(3 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.Timeout(5 * time.Second),
		// What is published while disconnected must fail at once: the caller
		// decides, and may still answer AXP in time.
		nats.ReconnectBufSize(-1),
		nats.ReconnectHandler(func(*nats.Conn) { b.onReconnect() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.denials.forget()
			if err != nil { // nil: we closed it ourselves
				b.log.Warn("NATS disconnected", "error", err)
			}
		}),
		nats.ErrorHandler(b.onError),
		// A server that is being configured may refuse for a while; giving up would
		// leave a process without NATS for the rest of its life.
		nats.IgnoreAuthErrorAbort(),
	}
	if c.User != "" {
		opts = append(opts, nats.UserInfo(c.User, c.Password.Reveal()))
	}
	if c.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(c.CredsFile))
	}
	if prefix := b.inboxPrefix(name); prefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(prefix))
	}
	return opts
}

func (b *Bus) onReconnect() {
	b.log.Info("NATS reconnected", "server", b.NC.ConnectedServerName())
	b.mu.Lock()
	hooks := make([]func(), 0, len(b.reconnected))
	for _, f := range b.reconnected {
		hooks = append(hooks, f)
	}
	b.mu.Unlock()
	for _, f := range hooks {
		f()
	}
}

// OnReconnect calls f after every reconnect, on NATS's own goroutine: f must
// not block. The returned function ends that.
func (b *Bus) OnReconnect(f func()) (cancel func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	id := b.nextHook
	b.nextHook++
	b.reconnected[id] = f
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.reconnected, id)
	}
}

// Config returns what the bus was opened with.
func (b *Bus) Config() Config { return b.cfg }

// Ready fails while NATS can't be reached, for five minutes after it has denied a
// publish, and from a denied subscription on until there is a new connection.
func (b *Bus) Ready(context.Context) error {
	if err := b.denials.err(); err != nil {
		return err
	}
	if s := b.NC.Status(); s != nats.CONNECTED {
		return fmt.Errorf("NATS is %s", s)
	}
	return nil
}

// Close sends what is buffered and closes the connection. It takes three seconds at
// most: a client that is just trying to reconnect is left to end by itself.
func (b *Bus) Close() error {
	done := make(chan error, 1)
	go func() { done <- b.close() }()
	late := time.NewTimer(3 * answerTime)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		b.log.Warn("NATS does not answer; its connection is not waited for")
		return nil
	}
}

func (b *Bus) close() error {
	err := b.NC.FlushTimeout(answerTime)
	if err == nil {
		b.erased.close() // it tells the server
	}
	b.NC.Close()
	b.erased.close() // the server would have kept it waiting
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrTimeout) {
		return nil
	}
	return err
}

// answerTime is how long NATS may take for the shortest of answers.
const answerTime = time.Second

// Answers asks NATS for a sign of life, whatever has become of ctx. It serves to tell,
// when time is over, who is to blame.
func (b *Bus) Answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
	defer cancel()
	answer := make(chan bool, 1)
	// While it reconnects the client may hold who asks for longer than ctx says.
	go func() { answer <- b.NC.FlushWithContext(ctx) == nil }()
	select {
	case ok := <-answer:
		return ok
	case <-ctx.Done():
		return false
	}
}

// wait sleeps for d; false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
